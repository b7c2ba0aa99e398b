// SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/check"
	"zumastor.org/zumastor/engine/check/checktest"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
	"zumastor.org/zumastor/engine/wire"
)

var errHalted = errors.New("halted")

// halting is a server that lets only some more steps of restores be.
type halting struct {
	wire.Server
	left *int
}

func (h halting) Restored(p wire.RestoreProgress) (block.Chunk, error) {
	if p.Next > 0 {
		if *h.left <= 0 {
			return 0, errHalted
		}
		*h.left--
	}
	return h.Server.Restored(p)
}

// stepwise returns options for restores of many steps.
func stepwise(p layout.Placement, separate bool) rig.Options {
	o := small(p)
	o.ChunkSize, o.OriginSize, o.StoreSize, o.MetaSize, o.Separate = 4<<10, 96<<10+512, 8<<20, 4<<20, separate
	o.BatchBytes, o.AheadBytes, o.LeaseBytes, o.JournalSize = 16<<10, 16<<10, 128<<10, 300<<10
	o.StoreLeaseBytes = o.LeaseBytes
	return o
}

// placements are all, each with its metadata on the store and apart.
func placements() []rig.Options {
	var all []rig.Options
	for _, p := range []layout.Placement{layout.PlacementInline, layout.PlacementDisk, layout.PlacementNVRAM, layout.PlacementPMem} {
		all = append(all, stepwise(p, false), stepwise(p, true))
	}
	return all
}

func mustBeClean(t *testing.T, r *rig.Rig) {
	t.Helper()
	devices := check.Devices{Store: r.Devices.Store, Meta: r.Devices.Meta, Journal: r.Devices.Journal}
	var found []check.Violation
	for v := range check.Check(devices, check.Options{}) {
		if v.Severity >= check.Leak {
			found = append(found, v)
		}
	}
	require.Empty(t, found, checktest.Format(found))
}

// restore begins a revert or merge, and returns whether there is one.
func (f *forest) restore() (target block.Tag, merge, ok bool) {
	tag, ok := f.any()
	if !ok {
		return 0, false, false
	}
	f.close(tag)
	ref := wire.SnapshotRef{Tag: tag}
	if merge = f.rng.IntN(2) == 0; merge {
		for _, other := range f.tags() {
			if f.parent[other] == tag {
				require.ErrorIs(f.t, f.r.Server.Merge(ref), store.ErrHasSnapshots)
				return 0, false, false
			}
		}
		require.NoError(f.t, f.r.Server.Merge(ref))
		f.merging = tag
	} else {
		require.NoError(f.t, f.r.Server.Revert(ref))
	}
	f.origin = bytes.Clone(f.content[tag])
	return tag, merge, true
}

// during does what may be done while the origin is restored from the target.
func (f *forest) during(target block.Tag, merge bool) {
	switch tag, _ := f.any(); f.rng.IntN(7) {
	case 0:
		require.NoError(f.t, f.r.Maintain())
	case 1:
		require.NoError(f.t, f.r.Server.Store.Checkpoint())
	case 2:
		f.crashRestoring()
	case 3:
		f.reopen()
	case 4:
		if tag != target {
			off, data := f.extent()
			_, err := f.writer(tag).WriteAt(data, off)
			require.NoError(f.t, err)
			copy(f.content[tag][off:], data)
			f.close(tag)
		}
	case 5:
		if tag != target || !merge {
			f.create(&tag)
		}
	case 6:
		if tag != target && f.open[tag] == nil && !errors.Is(f.r.Server.DeleteSnapshot(tag), store.ErrHasSnapshots) {
			delete(f.content, tag)
			delete(f.parent, tag)
		}
	}
	_, err := f.r.Server.CreateSnapshot(f.next)
	require.ErrorIs(f.t, err, store.ErrRestoring)
	require.ErrorIs(f.t, f.r.Server.DeleteSnapshot(target), errInUse(f.t, f.r.Server.DeleteSnapshot(target)))
}

// errInUse returns the error that is expected of the deletion of a snapshot that is
// being restored from.
func errInUse(t *testing.T, err error) error {
	if errors.Is(err, store.ErrHasSnapshots) {
		return store.ErrHasSnapshots
	}
	return store.ErrInUse
}

// crashRestoring cuts the power. The origin is what it is to become, and not older.
func (f *forest) crashRestoring() {
	for _, tag := range f.tags() {
		f.close(tag)
	}
	want := f.origin
	f.crash()
	requireSame(f.t, want, f.origin, "origin, after a crash")
}

// The origin reads as the target from the moment on that Revert or Merge return,
// whatever happens until the restore has ended, and no other snapshot changes.
func TestRestoreForest(t *testing.T) {
	for seed, o := range placements() {
		left := 0
		f := newForest(t, uint64(seed), o, rig.Wrappers{Server: func(s wire.Server) wire.Server { return halting{s, &left} }})
		for range 8 {
			for range 12 {
				f.step()
			}
			target, merge, ok := f.restore()
			if !ok {
				continue
			}
			f.verify()
			for f.r.Server.Status().Restore != nil {
				f.during(target, merge)
				f.verify()
				left = f.rng.IntN(4)
				if err := f.r.Volume.Restore(context.Background()); err != nil {
					require.ErrorIs(t, err, errHalted)
				}
				f.verify()
			}
			f.merging = noParent
			if merge {
				delete(f.content, target)
				delete(f.parent, target)
				require.NoError(t, f.r.Maintain())
			}
			_, err := f.r.Server.Find(wire.SnapshotRef{Tag: target})
			require.Equal(t, merge, errors.Is(err, store.ErrNoSnapshot))
			off, data := f.extent()
			_, err = f.r.Volume.WriteAt(data, off)
			require.NoError(t, err)
			copy(f.origin[off:], data)
			f.verify()
		}
		f.reopen()
		f.verify()
		require.NoError(t, f.r.Server.Store.Checkpoint())
		mustBeClean(t, f.r)
		f.r.Abandon()
	}
}

// history is a volume with snapshots 1 to 4 of the origin, of which 2 was written to,
// and 5 of 2, and what each holds. Snapshot 0 stands for the origin.
type history struct {
	t    *testing.T
	r    *rig.Rig
	want map[block.Tag][]byte
}

func newHistory(t *testing.T, o rig.Options, w rig.Wrappers) *history {
	rng := rand.New(rand.NewPCG(5, 6))
	h := &history{t: t, r: open(t, o, w), want: map[block.Tag][]byte{}}
	origin := make([]byte, o.OriginSize)
	for tag := block.Tag(1); tag <= 5; tag++ {
		h.scribble(rng, h.r.Volume.WriteAt, origin)
		if tag < 5 {
			_, err := h.r.Server.CreateSnapshot(tag)
			require.NoError(t, err)
			h.want[tag] = bytes.Clone(origin)
		}
	}
	require.NoError(t, h.r.Volume.Flush())
	h.want[0] = origin
	s, err := volumeWriter(h.r, 2)
	require.NoError(t, err)
	h.scribble(rng, s.WriteAt, h.want[2])
	_, err = h.r.Server.Create(store.NewSnapshot{Tag: 5, Parent: &wire.SnapshotRef{Tag: 2}})
	require.NoError(t, err)
	h.want[5] = bytes.Clone(h.want[2])
	h.scribble(rng, s.WriteAt, h.want[2])
	require.NoError(t, s.Close())
	return h
}

// scribble writes to a third of the chunks.
func (h *history) scribble(rng *rand.Rand, write func([]byte, int64) (int, error), content []byte) {
	for range len(content) / h.r.ChunkSize / 3 {
		off := rng.Int64N(int64(len(content))/block.SectorSize) * block.SectorSize
		data := bytes.Repeat([]byte{byte(1 + rng.IntN(255))}, block.SectorSize)
		_, err := write(data, off)
		require.NoError(h.t, err)
		copy(content[off:], data)
	}
}

// verify compares the origin with one of the contents, which it returns, and all
// snapshots that there are.
func (h *history) verify(r *rig.Rig, may ...block.Tag) block.Tag {
	h.t.Helper()
	got, err := r.ReadOrigin()
	require.NoError(h.t, err)
	is := may[len(may)-1]
	for _, tag := range may {
		if bytes.Equal(got, h.want[tag]) {
			is = tag
		}
	}
	requireSame(h.t, h.want[is], got, "origin")
	for _, tag := range r.Live() {
		got, err := r.ReadSnapshot(tag, 0, r.OriginSize)
		if st := r.Server.Status().Restore; st != nil && st.Merge && st.Snapshot.Tag == tag {
			require.ErrorIs(h.t, err, store.ErrInUse)
			continue
		}
		require.NoError(h.t, err)
		requireSame(h.t, h.want[tag], got, "snapshot %d", tag)
	}
	return is
}

// finish restores to the end, and writes to the origin then.
func (h *history) finish(r *rig.Rig, target block.Tag) {
	h.t.Helper()
	require.NoError(h.t, r.Volume.Restore(context.Background()))
	require.Nil(h.t, r.Server.Status().Restore)
	h.verify(r, target)
	data := bytes.Repeat([]byte{255}, 3*block.SectorSize)
	for off := int64(0); off < r.OriginSize-int64(len(data)); off += 7 * block.SectorSize {
		_, err := r.Volume.WriteAt(data, off)
		require.NoError(h.t, err)
	}
	for _, tag := range r.Live() {
		got, err := r.ReadSnapshot(tag, 0, r.OriginSize)
		require.NoError(h.t, err)
		requireSame(h.t, h.want[tag], got, "snapshot %d, after writes to the origin", tag)
	}
}

// volumeWriter opens a snapshot for writing.
func volumeWriter(r *rig.Rig, tag block.Tag) (*volume.Snapshot, error) {
	return volume.OpenSnapshotRef(r.Source(), wire.SnapshotRef{Tag: tag}, true)
}

// begin begins a revert to a snapshot, or a merge of it.
func begin(r *rig.Rig, target block.Tag, merge bool) error {
	if merge {
		return r.Server.Merge(wire.SnapshotRef{Tag: target})
	}
	return r.Server.Revert(wire.SnapshotRef{Tag: target})
}
