// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/alloc"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/errdev"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/store"
)

// options returns the options of a volume of 1 MiB and a partial chunk, with a
// store of slots chunks.
func options(chunkSize, slots int) rig.Options {
	return rig.Options{
		OriginSize: 1<<20 + 3*block.SectorSize, ChunkSize: chunkSize, Placement: layout.PlacementInline,
		StoreSize: 2<<20 + int64(slots*(chunkSize+128))/block.PageSize*block.PageSize,
		// No more is leased than is needed, so that it is known when the store is full.
		LeaseBytes: 1, StoreLeaseBytes: 1, AheadBytes: -1,
	}
}

func newRunner(t *testing.T, o rig.Options, w rig.Wrappers) *metamorphic.Runner {
	r, err := metamorphic.NewRunner(o, w)
	require.NoError(t, err)
	t.Cleanup(func() { r.Rig.Abandon() })
	return r
}

func TestTenThousandSnapshots(t *testing.T) {
	const count = 10_000
	o := options(4<<10, 20_000)
	o.OriginSize = 256 << 10
	r := newRunner(t, o, rig.Wrappers{})
	rng := rand.New(rand.NewPCG(1, 1))
	sample := map[block.Tag][]byte{}
	for tag := block.Tag(1); tag <= count; tag++ {
		if tag%3 == 0 {
			p := []byte{511: byte(rng.Uint32())}
			_, err := r.Rig.Volume.WriteAt(p, rng.Int64N(o.OriginSize/block.SectorSize)*block.SectorSize)
			require.NoError(t, err)
		}
		if tag%200 == 0 {
			p, err := r.Rig.ReadOrigin()
			require.NoError(t, err)
			sample[tag] = p
		}
		_, err := r.Rig.Server.CreateSnapshot(tag)
		require.NoError(t, err)
	}
	require.Equal(t, count, r.Rig.Server.Status().SnapshotsLive)
	require.NoError(t, r.Rig.Close())
	require.NoError(t, r.Rig.Open())
	readSample(t, r.Rig, sample)

	tags := rng.Perm(count)
	for i, n := range tags {
		tag := block.Tag(n + 1)
		require.NoError(t, r.Rig.Server.DeleteSnapshot(tag))
		delete(sample, tag)
		if i%1000 == 999 {
			require.NoError(t, r.Rig.Maintain())
			readSample(t, r.Rig, sample)
		}
	}
	requireEmpty(t, r.Rig)
}

// readSample compares snapshots with what the origin held when they were made.
func readSample(t *testing.T, r *rig.Rig, sample map[block.Tag][]byte) {
	for tag, want := range sample {
		got, err := r.ReadSnapshot(tag, 0, r.OriginSize)
		require.NoError(t, err)
		require.True(t, slices.Equal(want, got), "snapshot %d", tag)
	}
}

// requireEmpty checks that a store without snapshots holds nothing, before and
// after it was opened again.
func requireEmpty(t *testing.T, r *rig.Rig) {
	require.NoError(t, r.Maintain())
	require.NoError(t, r.Close())
	require.NoError(t, r.Open())
	s := r.Server.Status()
	require.Zero(t, s.SnapshotsLive)
	require.Zero(t, s.SnapshotsGoing)
	require.Zero(t, s.Exceptions)
	require.Zero(t, s.SlotsUsed)
}

// A store of few slots has few metadata pages, and snapshots took them all: no
// checkpoint had room any more, and so no snapshot could be deleted either.
func TestSnapshotsLeaveRoomForTheirDeletion(t *testing.T) {
	o := options(64<<10, 16)
	r := newRunner(t, o, rig.Wrappers{})
	made := block.Tag(0)
	for made < 60_000 {
		_, err := r.Rig.Server.CreateSnapshot(made + 1)
		if err != nil {
			require.ErrorIs(t, err, alloc.ErrNoSpace)
			break
		}
		made++
		if made%1000 == 0 {
			require.NoError(t, r.Rig.Maintain())
		}
	}
	require.Greater(t, made, block.Tag(1000))
	for tag := block.Tag(1); tag <= made; tag++ {
		require.NoError(t, r.Rig.Server.DeleteSnapshot(tag), "snapshot %d of %d", tag, made)
		if tag%1000 == 0 {
			require.NoError(t, r.Rig.Maintain())
		}
	}
	requireEmpty(t, r.Rig)
	_, err := r.Rig.Server.CreateSnapshot(1)
	require.NoError(t, err)
}

func TestCacheKeepsItsBound(t *testing.T) {
	const bound = 256 << 10
	o := options(4<<10, 80_000)
	o.OriginSize = 256 << 20
	o.CacheBytes, o.LeaseBytes, o.StoreLeaseBytes = bound, 1<<20, 1<<20
	r := newRunner(t, o, rig.Wrappers{})
	rng := rand.New(rand.NewPCG(2, 2))
	most := int64(0)
	for tag := block.Tag(1); tag <= 20; tag++ {
		_, err := r.Rig.Server.CreateSnapshot(tag)
		require.NoError(t, err)
		var ops []device.Op
		for range 1000 {
			off := rng.Int64N(o.OriginSize/block.SectorSize) * block.SectorSize
			ops = append(ops, device.Op{Kind: device.Write, Off: off, Data: make([]byte, block.SectorSize)})
		}
		require.NoError(t, r.Rig.Volume.Do(ops))
		require.NoError(t, r.Rig.Maintain())
		most = max(most, r.Rig.Server.Status().CacheBytes)
		for range 20 {
			_, err := r.Rig.ReadSnapshot(1+block.Tag(rng.IntN(int(tag))), rng.Int64N(1000)*4096, 64<<10)
			require.NoError(t, err)
		}
		most = max(most, r.Rig.Server.Status().CacheBytes)
	}
	s := r.Rig.Server.Status()
	require.Greater(t, s.Exceptions, uint64(15_000))
	require.Greater(t, s.MetadataBytes, uint64(bound), "the index must not fit")
	require.LessOrEqual(t, most, int64(bound))
}

func TestPetabyteOrigin(t *testing.T) {
	for _, chunkSize := range []int{block.MinChunkSize, block.MaxChunkSize} {
		t.Run(fmt.Sprint(chunkSize), func(t *testing.T) {
			o := options(chunkSize, 200)
			o.OriginSize, o.SettledBytes = block.MaxOriginSize, 8<<10
			r, err := rig.New(o, rig.Wrappers{})
			require.NoError(t, err)
			defer r.Abandon()
			end := o.OriginSize - block.SectorSize
			at := []int64{0, 1 << 32, 1<<49 + 7*block.SectorSize, end}
			write := func(b byte) {
				for _, off := range at {
					_, err := r.Volume.WriteAt([]byte{511: b}, off)
					require.NoError(t, err)
				}
			}
			write(1)
			for tag := block.Tag(1); tag <= 5; tag++ {
				_, err := r.Server.CreateSnapshot(tag)
				require.NoError(t, err)
				write(byte(tag + 1))
			}
			require.NoError(t, r.Close())
			require.NoError(t, r.Open())
			for tag := block.Tag(1); tag <= 5; tag++ {
				for _, off := range at {
					p, err := r.ReadSnapshot(tag, off, block.SectorSize)
					require.NoError(t, err)
					require.Equal(t, byte(tag), p[511], "snapshot %d at %d", tag, off)
				}
			}
			require.Equal(t, uint64(5*len(at)), r.Server.Status().Exceptions)
		})
	}
}

func TestFullStoreLosesNothing(t *testing.T) {
	for _, chunkSize := range []int{4 << 10, 16 << 10, 64 << 10} {
		t.Run(fmt.Sprint(chunkSize), func(t *testing.T) {
			o := options(chunkSize, 1<<20/chunkSize*3/2+4)
			o.StoreSize -= 700 << 10
			r := newRunner(t, o, rig.Wrappers{})
			all := metamorphic.Op{Kind: metamorphic.Write, Len: o.OriginSize}
			tag := block.Tag(0)
			for r.Failed == 0 {
				tag++
				all.Seed++
				require.Less(t, tag, block.Tag(10))
				require.NoError(t, r.All([]metamorphic.Op{{Kind: metamorphic.Snapshot, Tag: tag}, all}))
			}
			require.Equal(t, block.Tag(2), tag, "one generation fits")
			require.NoError(t, r.Compare(), "a write that fails changes nothing")
			require.Equal(t, store.ReadWrite, r.Rig.Server.Status().Mode)

			require.NoError(t, r.All([]metamorphic.Op{
				{Kind: metamorphic.Reopen}, {Kind: metamorphic.Crash, Seed: 1}, {Kind: metamorphic.Delete, Tag: 1},
				{Kind: metamorphic.Maintain}, {Kind: metamorphic.Checkpoint},
			}))
			failed := r.Failed
			require.NoError(t, r.Do(all), "space comes back with a deletion")
			require.Equal(t, failed, r.Failed)
			require.NoError(t, r.Compare())
			require.NoError(t, r.All([]metamorphic.Op{{Kind: metamorphic.Delete, Tag: 2}, {Kind: metamorphic.Reopen}}))
			requireEmpty(t, r.Rig)
		})
	}
}

// TestFullFileSystem is a store on a file in a file system that is full: a first
// write fails and says why, and goes through when there is space and the store
// was opened again.
func TestFullFileSystem(t *testing.T) {
	var plan errdev.Plan
	r := newRunner(t, options(16<<10, 200), rig.Wrappers{Device: func(name string, d device.Device) device.Device {
		if name != rig.Store {
			return d
		}
		return plan.Wrap(d)
	}})
	require.NoError(t, r.All([]metamorphic.Op{
		{Kind: metamorphic.Write, Len: 1 << 20, Seed: 1}, {Kind: metamorphic.Snapshot, Tag: 1}, {Kind: metamorphic.Write, Len: 64 << 10, Seed: 2},
	}))
	plan.Inject(errdev.Fault{Kinds: errdev.Writes, Forever: true, Err: syscall.ENOSPC})
	_, err := r.Rig.Volume.WriteAt(make([]byte, 4096), 512<<10)
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.NoError(t, r.Do(metamorphic.Op{Kind: metamorphic.Write, Len: 64 << 10, Seed: 3}), "settled chunks are written as before")
	require.NoError(t, r.Compare())
	_, err = r.Rig.Server.CreateSnapshot(2)
	require.ErrorIs(t, err, syscall.ENOSPC)
	plan.Clear()
	require.NoError(t, r.Crash(r.Rig.Flushed()))
	require.NoError(t, r.Do(metamorphic.Op{Kind: metamorphic.Write, Off: 512 << 10, Len: 64 << 10, Seed: 4}))
	require.NoError(t, r.Compare())
}
