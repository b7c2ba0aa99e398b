// SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/alloc"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/server"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
)

const (
	originSize = 4<<20 + 3*block.SectorSize // a partial last chunk
	storeSize  = 96 << 20
)

// fixture is an origin with a store in memory.
type fixture struct {
	t      *testing.T
	origin device.Device
	store  placement.Devices
	server *server.Server
	volume *volume.Origin
}

func newFixture(t *testing.T, chunkSize int) *fixture {
	r := &fixture{t: t, origin: memdev.NewVolatile(originSize), store: placement.Devices{Store: memdev.NewVolatile(storeSize)}}
	_, err := store.Format(r.store, store.FormatOptions{OriginSize: originSize, ChunkSize: chunkSize})
	require.NoError(t, err)
	r.open()
	return r
}

func (r *fixture) open() {
	var err error
	r.server, err = server.Open(r.store, server.Options{})
	require.NoError(r.t, err)
	r.volume, err = volume.OpenOrigin(r.server, r.origin, r.store, volume.Options{})
	require.NoError(r.t, err)
}

func (r *fixture) close() {
	require.NoError(r.t, r.volume.Close())
	require.NoError(r.t, r.server.Close())
}

func (r *fixture) snapshot(tag block.Tag) {
	_, err := r.server.CreateSnapshot(tag)
	require.NoError(r.t, err)
}

func (r *fixture) readSnapshot(tag block.Tag) []byte {
	s, err := volume.OpenSnapshot(volume.SnapshotSource{
		Server: r.server, Origin: r.origin, Store: r.store, ChunkSize: r.server.Geometry().ChunkSize(), DataOffset: r.server.DataOffset(),
	}, tag)
	require.NoError(r.t, err)
	defer s.Close()
	p := make([]byte, s.Size())
	_, err = s.ReadAt(p, 0)
	require.NoError(r.t, err)
	return p
}

func (r *fixture) readOrigin() []byte {
	p := make([]byte, r.volume.Size())
	_, err := r.volume.ReadAt(p, 0)
	require.NoError(r.t, err)
	return p
}

// scribble writes random bytes to n random places, from several goroutines.
func (r *fixture) scribble(seed uint64, n int) {
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(w)))
			for range n {
				size := (1 + rng.IntN(40)) * block.SectorSize
				p := bytes.Repeat([]byte{byte(rng.Uint32())}, size)
				off := rng.Int64N((originSize-int64(size))/block.SectorSize) * block.SectorSize
				_, err := r.volume.WriteAt(p, off)
				if err != nil {
					r.t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestSnapshotsKeepTheirContent(t *testing.T) {
	for _, chunk := range []int{4 << 10, 16 << 10, 64 << 10} {
		r := newFixture(t, chunk)
		want := map[block.Tag][]byte{}
		for tag := block.Tag(1); tag <= 10; tag++ {
			r.scribble(uint64(tag), 20)
			r.snapshot(tag)
			want[tag] = r.readOrigin()
			if tag == 5 {
				r.close()
				r.open()
			}
		}
		r.scribble(99, 50)
		for tag, content := range want {
			require.True(t, bytes.Equal(content, r.readSnapshot(tag)), "snapshot %d, chunk %d", tag, chunk)
		}
		r.close()
		r.open()
		for tag, content := range want {
			require.True(t, bytes.Equal(content, r.readSnapshot(tag)), "snapshot %d, chunk %d, reopened", tag, chunk)
		}
		for _, tag := range []block.Tag{3, 1, 10, 7} {
			require.NoError(t, r.server.DeleteSnapshot(tag))
			delete(want, tag)
		}
		r.scribble(100, 20)
		for tag, content := range want {
			require.True(t, bytes.Equal(content, r.readSnapshot(tag)), "snapshot %d, chunk %d, others deleted", tag, chunk)
		}
		for tag := range want {
			require.NoError(t, r.server.DeleteSnapshot(tag))
		}
		for {
			more, err := r.server.Maintain()
			require.NoError(t, err)
			if !more {
				break
			}
		}
		r.close()
		r.open()
		st := r.server.Status()
		require.Zero(t, st.Exceptions)
		require.Zero(t, st.SlotsUsed)
		require.Zero(t, st.SnapshotsGoing)
		r.close()
	}
}

func TestCrashKeepsSnapshots(t *testing.T) {
	r := newFixture(t, 16<<10)
	r.scribble(1, 50)
	r.snapshot(1)
	want := r.readOrigin()
	r.scribble(2, 50)
	rng := rand.New(rand.NewPCG(3, 4))
	origin := r.origin.(*memdev.Device).Crash(rng, memdev.RandomFate(rng))
	left := r.store.Store.(*memdev.Device).Crash(rng, memdev.RandomFate(rng))
	r.close()
	r.origin, r.store.Store = origin, left
	r.open()
	require.True(t, bytes.Equal(want, r.readSnapshot(1)))
	require.Equal(t, layout.PlacementInline, r.server.Status().Placement)
	r.close()
}

// TestFullStoreWaitsForDeletions is for writes that failed in a full store while
// the snapshot that filled it was being deleted.
func TestFullStoreWaitsForDeletions(t *testing.T) {
	r := &fixture{t: t, origin: memdev.New(originSize), store: placement.Devices{Store: memdev.New(8 << 20)}}
	_, err := store.Format(r.store, store.FormatOptions{OriginSize: originSize, ChunkSize: 4 << 10, Policy: layout.PolicyFailWrites})
	require.NoError(t, err)
	r.server, err = server.Open(r.store, server.Options{Manual: true})
	require.NoError(t, err)
	r.volume, err = volume.OpenOrigin(r.server, r.origin, r.store, volume.Options{})
	require.NoError(t, err)
	p := device.Buffer(1 << 20)
	refused := int64(0)
	for tag := block.Tag(1); ; tag++ {
		r.snapshot(tag)
		for refused = 0; refused < 4<<20; refused += int64(len(p)) {
			if _, err = r.volume.WriteAt(p, refused); err != nil {
				break
			}
		}
		if err != nil {
			require.ErrorIs(t, err, alloc.ErrNoSpace)
			break
		}
		require.Less(t, tag, block.Tag(10), "the store never fills up")
	}
	require.NoError(t, r.server.DeleteSnapshot(1))
	_, err = r.volume.WriteAt(p, refused)
	require.NoError(t, err, "what the deleted snapshot needed is free")
	r.close()
}
