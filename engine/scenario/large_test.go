// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/model"
	"zumastor.org/zumastor/engine/volume"
	"zumastor.org/zumastor/engine/wire"
)

const (
	gib = int64(1) << 30
	tib = int64(1) << 40
	pib = int64(1) << 50
)

// large are volumes that the original had tests of, and larger ones. The models of
// devices are sparse: they hold what was written.
var large = []struct {
	name          string
	origin, store int64
	chunk         int
}{
	{"xfs-2045G", 2045 * gib, 2045 * gib, 16 * kib},
	{"xfs-lvm-5T", 5 * tib, tib / 2, 16 * kib},
	{"xfs-lvm-17T", 17*tib + 5*512, 2 * tib, 64 * kib},
	{"2^32 chunks and more", 17*tib + 5*512, 64 * gib, 4 * kib},
	{"1 PiB", pib, 256 * gib, 64 * kib},
	{"1 PiB in chunks of 4 KiB, but for a sector", pib - 512, 16 * gib, 4 * kib},
}

// places returns offsets at both ends of a volume, in the middle, and on both sides of
// where numbers of chunks, sectors or bytes no longer fit into 32 bits.
func places(size int64, chunk int) []int64 {
	list := []int64{0, size / 2 / 4096 * 4096, size - 4096 - size%4096, size/512*512 - 512}
	for _, edge := range []int64{1 << 32, 1 << 31 * 512, 1 << 32 * 512, 1 << 31 * int64(chunk), 1 << 32 * int64(chunk)} {
		if edge+4096 < size {
			list = append(list, edge-512, edge-4096, edge, edge+int64(chunk))
		}
	}
	return list
}

// place is what is written where.
type place struct {
	off  int64
	data []byte
}

// written returns what a round writes to each place.
func written(round uint64, size int64, chunk int) (list []place) {
	for _, off := range places(size, chunk) {
		p := make([]byte, 512)
		model.Written(round).Fill(p, off/512)
		list = append(list, place{off, p})
	}
	return list
}

func TestVeryLargeVolumes(t *testing.T) {
	for i, c := range large {
		t.Run(c.name, func(t *testing.T) {
			p := placements[i%len(placements)]
			o := rig.Options{OriginSize: c.origin, ChunkSize: c.chunk, Placement: p, StoreSize: c.store, JournalSize: mib, Separate: p == layout.PlacementDisk}
			if o.Separate {
				o.MetaSize = c.store/64 + gib
			}
			r, err := rig.New(o, rig.Wrappers{})
			require.NoError(t, err)
			defer func() { r.Abandon() }()
			put := func(round uint64) {
				for _, w := range written(round, c.origin, c.chunk) {
					_, err := r.Volume.WriteAt(w.data, w.off)
					require.NoError(t, err)
				}
			}
			put(1)
			_, err = r.Server.CreateSnapshot(1)
			require.NoError(t, err)
			put(2)
			_, err = r.Server.CreateSnapshot(2)
			require.NoError(t, err)
			put(3)
			branch(t, r, c.origin, c.chunk)
			for _, restarted := range []string{"", "restarted", "after a power cut"} {
				switch restarted {
				case "restarted":
					require.NoError(t, r.Close())
					require.NoError(t, mustBeClean(r))
					require.NoError(t, r.Open())
				case "after a power cut":
					put(3)
					require.NoError(t, r.Volume.Flush())
					left := r.Crash(nil, memdev.Fate{})
					r.Abandon()
					r = left // a check of it as it is would look for descriptors in all of the store
					require.NoError(t, r.Open())
				}
				holds(t, r, 1, 1, c.chunk, restarted)
				holds(t, r, 2, 4, c.chunk, restarted)
				for _, w := range written(3, c.origin, c.chunk) {
					got := make([]byte, 512)
					_, err := r.Volume.ReadAt(got, w.off)
					require.NoError(t, err)
					require.Equal(t, w.data, got, "origin at %d %s", w.off, restarted)
				}
			}
			require.NoError(t, r.Server.DeleteSnapshot(1))
			require.NoError(t, r.Maintain())
			require.NoError(t, r.Close())
			require.NoError(t, mustBeClean(r))
		})
	}
}

// branch writes round 4 to snapshot 2.
func branch(t *testing.T, r *rig.Rig, size int64, chunk int) {
	s, err := volume.OpenSnapshotRef(r.Source(), wire.SnapshotRef{Tag: 2}, true)
	require.NoError(t, err)
	for _, w := range written(4, size, chunk) {
		_, err := s.WriteAt(w.data, w.off)
		require.NoError(t, err)
	}
	require.NoError(t, s.Close())
}

// holds checks that a snapshot holds what a round wrote.
func holds(t *testing.T, r *rig.Rig, tag block.Tag, round uint64, chunk int, when string) {
	for _, w := range written(round, r.OriginSize, chunk) {
		got, err := r.ReadSnapshot(tag, w.off, 512)
		require.NoError(t, err)
		require.Equal(t, w.data, got, "snapshot %d at %d %s", tag, w.off, when)
	}
}

// TestGrowTo17T grows a volume of 2 TiB to 17 TiB beneath a snapshot.
func TestGrowTo17T(t *testing.T) {
	o := rig.Options{OriginSize: 2 * tib, ChunkSize: 16 * kib, StoreSize: 4 * gib}
	r, err := rig.New(o, rig.Wrappers{})
	require.NoError(t, err)
	defer r.Abandon()
	end := []byte(fmt.Sprintf("%512d", 17))
	_, err = r.Volume.WriteAt(end, 2*tib-512)
	require.NoError(t, err)
	_, err = r.Server.CreateSnapshot(1)
	require.NoError(t, err)
	r.Machine.Device(rig.Origin).Grow(17 * tib)
	require.NoError(t, r.Server.ResizeOrigin(context.Background(), 17*tib, nil))
	for _, off := range []int64{2*tib - 512, 2 * tib, 17*tib - 512} {
		_, err = r.Volume.WriteAt(make([]byte, 512), off)
		require.NoError(t, err)
	}
	got, err := r.ReadSnapshot(1, 2*tib-512, 512)
	require.NoError(t, err)
	require.Equal(t, end, got)
	_, err = r.ReadSnapshot(1, 2*tib, 512)
	require.Error(t, err, "the snapshot has its old size")
}
