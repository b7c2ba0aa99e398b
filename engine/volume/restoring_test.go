// SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/errdev"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/wire"
)

// TestSnapshotZumastorRevert is the scenario of that name of the original's test
// suite: the origin is reverted to snapshot 0, and a later snapshot stays as it was.
func TestSnapshotZumastorRevert(t *testing.T) {
	h := newHistory(t, stepwise(layout.PlacementInline, false), rig.Wrappers{})
	require.NoError(t, h.r.Server.Revert(wire.SnapshotRef{Tag: 1}))
	require.NoError(t, h.r.Volume.Restore(context.Background()))
	h.verify(h.r, 1)
	require.Equal(t, []block.Tag{1, 2, 3, 4, 5}, h.r.Live())
	h.finish(h.r, 1)
	h.r.Abandon()
}

// A revert can be reverted, and one to another snapshot follow.
func TestRevertAgain(t *testing.T) {
	h := newHistory(t, stepwise(layout.PlacementInline, false), rig.Wrappers{})
	_, err := h.r.Server.CreateSnapshot(6)
	require.NoError(t, err)
	h.want[6] = h.want[0]
	for _, tag := range []block.Tag{1, 4, 4, 5, 6} {
		require.NoError(t, begin(h.r, tag, false))
		h.verify(h.r, tag)
		require.NoError(t, h.r.Volume.Restore(context.Background()))
		h.verify(h.r, tag)
	}
	mustBeCleanClosed(t, h.r)
}

// A revert without a client is recorded, and the next client does it.
func TestRevertWithoutClient(t *testing.T) {
	h := newHistory(t, stepwise(layout.PlacementInline, false), rig.Wrappers{})
	require.NoError(t, h.r.Volume.Close())
	require.NoError(t, h.r.Server.Revert(wire.SnapshotRef{Tag: 1}))
	require.NoError(t, h.r.Server.Close())
	h.r.Background = true
	require.NoError(t, h.r.Open())
	data := bytes.Repeat([]byte{7}, block.SectorSize)
	_, err := h.r.Volume.WriteAt(data, 0) // waits until it has ended
	require.NoError(t, err)
	require.Nil(t, h.r.Server.Status().Restore)
	copy(h.want[1], data)
	got, err := h.r.ReadOrigin()
	require.NoError(t, err)
	requireSame(t, h.want[1], got, "origin")
	h.r.Abandon()
}

func TestRestoreRefusals(t *testing.T) {
	h := newHistory(t, stepwise(layout.PlacementInline, false), rig.Wrappers{})
	defer h.r.Abandon()
	s := h.r.Server
	ref := func(tag block.Tag) wire.SnapshotRef { return wire.SnapshotRef{Tag: tag} }
	require.ErrorIs(t, s.Revert(ref(9)), store.ErrNoSnapshot)
	require.ErrorIs(t, s.Merge(ref(2)), store.ErrHasSnapshots)
	require.NoError(t, s.Change(ref(3), func(snap *layout.Snapshot) error { snap.Held = true; return nil }))
	require.ErrorIs(t, s.Merge(ref(3)), store.ErrHeld)
	w, err := volumeWriter(h.r, 1)
	require.NoError(t, err)
	require.ErrorIs(t, s.Revert(ref(1)), store.ErrInUse)
	require.NoError(t, w.Close())
	require.NoError(t, s.Change(ref(4), func(snap *layout.Snapshot) error { snap.Damaged = true; return nil }))
	require.ErrorIs(t, s.Revert(ref(4)), store.ErrDamaged)
	require.Nil(t, s.Status().Restore)
	_, err = h.r.Volume.WriteAt(make([]byte, 512), 0)
	require.NoError(t, err, "nothing has begun")

	require.NoError(t, s.Merge(ref(5)))
	require.Equal(t, &store.RestoreStatus{Snapshot: s.Status().Restore.Snapshot, Merge: true, Chunks: s.Geometry().Chunks()}, s.Status().Restore)
	require.ErrorIs(t, s.Revert(ref(1)), store.ErrRestoring)
	_, err = s.CreateSnapshot(7)
	require.ErrorIs(t, err, store.ErrRestoring)
	five := ref(5)
	_, err = s.Create(store.NewSnapshot{Tag: 7, Parent: &five})
	require.ErrorIs(t, err, store.ErrInUse)
	require.ErrorIs(t, s.Delete(five, false), store.ErrInUse)
	require.ErrorIs(t, s.Change(five, func(*layout.Snapshot) error { return nil }), store.ErrInUse)
	require.ErrorIs(t, s.ResizeOrigin(context.Background(), 1<<20, nil), store.ErrInUse)
	_, err = volumeWriter(h.r, 5)
	require.ErrorIs(t, err, store.ErrInUse)
	_, err = s.MapRestoring(1, 0, 1, nil)
	require.ErrorIs(t, err, store.ErrStale)
	_, err = s.Restored(wire.RestoreProgress{Generation: 1, Done: true})
	require.ErrorIs(t, err, store.ErrStale)
}

// Readers, writers and who makes snapshots go on during restores: reads are of the
// target or of what was written later, and writes wait and are kept.
func TestRestoreAmidRequests(t *testing.T) {
	o := stepwise(layout.PlacementInline, false)
	o.Background = true
	h := newHistory(t, o, rig.Wrappers{Device: func(_ string, d device.Device) device.Device { return patient{d} }})
	defer h.r.Abandon()
	h.r.Background = true
	stripe := int64(3 * block.SectorSize) // of chunk 0, for the writer alone
	var stop atomic.Bool
	var wg sync.WaitGroup
	for reader := range 2 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(reader), 3))
			got := make([]byte, 4096)
			for !stop.Load() {
				off := stripe + rng.Int64N((o.OriginSize-stripe-4096)/block.SectorSize)*block.SectorSize
				if _, err := h.r.Volume.ReadAt(got, off); err != nil {
					t.Error(err)
				}
				for at := int64(0); at < 4096; at += block.SectorSize {
					if !h.isOne(got[at:at+block.SectorSize], off+at) {
						t.Errorf("sector %d is none that ever was", (off+at)/block.SectorSize)
					}
				}
			}
		})
	}
	for _, tag := range []block.Tag{1, 4, 2, 3, 1} {
		require.NoError(t, begin(h.r, tag, false))
		data := bytes.Repeat([]byte{byte(100 + tag)}, int(stripe))
		_, err := h.r.Volume.WriteAt(data, 0)
		require.NoError(t, err)
		require.Nil(t, h.r.Server.Status().Restore, "the write waited")
		want := append(data, h.want[tag][stripe:]...)
		got, err := h.r.ReadOrigin()
		require.NoError(t, err)
		requireSame(t, want, got, "origin after a revert to %d", tag)
	}
	stop.Store(true)
	wg.Wait()
	for _, tag := range h.r.Live() {
		got, err := h.r.ReadSnapshot(tag, 0, o.OriginSize)
		require.NoError(t, err)
		requireSame(t, h.want[tag], got, "snapshot %d", tag)
	}
}

// isOne reports whether a sector is as the origin or a snapshot had it.
func (h *history) isOne(p []byte, off int64) bool {
	for tag := range block.Tag(6) {
		if bytes.Equal(p, h.want[tag][off:off+block.SectorSize]) {
			return true
		}
	}
	return false
}

// When nobody knows whether a revert is durable, no write to the origin is let
// through that the next opening might restore away.
func TestRevertInDoubtHoldsWrites(t *testing.T) {
	var plan errdev.Plan
	o := stepwise(layout.PlacementInline, true)
	h := newHistory(t, o, planned(rig.Meta, &plan))
	defer h.r.Abandon()
	require.NoError(t, h.r.Server.Store.Checkpoint())
	before := plan.Counts().Flushes
	_, err := h.r.Server.CreateSnapshot(6)
	require.NoError(t, err)
	require.Equal(t, before+1, plan.Counts().Flushes)
	h.want[6] = h.want[0]
	plan.Inject(errdev.Fault{Kinds: errdev.Flushes, Nth: 2}) // pages, then superblock
	require.ErrorIs(t, begin(h.r, 1, false), store.ErrFailed)
	ended := make(chan error, 1)
	go func() {
		_, err := h.r.Volume.WriteAt(make([]byte, 512), 0)
		ended <- err
	}()
	require.ErrorIs(t, h.r.Volume.Restore(context.Background()), store.ErrFailed, "nor is anything restored")
	left := h.r.Flushed()
	require.NoError(t, left.Open())
	defer left.Abandon()
	h.verify(left, 1)
	select {
	case err := <-ended:
		require.Fail(t, "the write ended", "%v", err)
	default:
	}
	require.NoError(t, h.r.Volume.Close())
	require.ErrorIs(t, <-ended, device.ErrClosed)
}

// What a client overwrote in place and did not flush before it was gone is durable
// before the origin takes it over.
func TestRestoreOfUnflushedSnapshot(t *testing.T) {
	h := newHistory(t, stepwise(layout.PlacementInline, true), rig.Wrappers{})
	defer h.r.Abandon()
	w, err := volumeWriter(h.r, 3)
	require.NoError(t, err)
	_, err = w.WriteAt(make([]byte, 4096), 0)
	require.NoError(t, err)
	require.NoError(t, w.Flush())
	_, err = w.WriteAt(bytes.Repeat([]byte{9}, 4096), 0) // in place
	require.NoError(t, err)
	session := wire.Handle(0)
	for n := wire.Handle(1); n < 64 && session == 0; n++ { // the client dies
		if h.r.Server.CloseSnapshot(n) == nil {
			session = n
		}
	}
	copy(h.want[3], bytes.Repeat([]byte{9}, 4096))
	require.NoError(t, begin(h.r, 3, false))
	left := h.r.Crash(rand.New(rand.NewPCG(1, 1)), memdev.Fate{})
	require.NoError(t, left.Open())
	defer left.Abandon()
	h.verify(left, 3)
	h.finish(left, 3)
}

// starved is a server without slots for the origin until space comes.
type starved struct {
	wire.Server
	space *atomic.Bool
}

func (s starved) MapRestoring(g block.Generation, first, end block.Chunk, dst []wire.Mapping) ([]wire.Mapping, error) {
	if !s.space.Load() {
		return dst, errHalted
	}
	return s.Server.MapRestoring(g, first, end, dst)
}

// A restore that cannot go on says why, and goes on by itself when it can.
func TestRestoreTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var space atomic.Bool
		h := newHistory(t, stepwise(layout.PlacementInline, false), rig.Wrappers{Server: func(s wire.Server) wire.Server { return starved{s, &space} }})
		require.NoError(t, h.r.Close())
		h.r.Background = true
		require.NoError(t, h.r.Open())
		require.NoError(t, begin(h.r, 1, false))
		time.Sleep(10 * time.Second)
		require.Contains(t, h.r.Server.Status().Restore.Trouble, errHalted.Error())
		space.Store(true)
		time.Sleep(10 * time.Second)
		require.Nil(t, h.r.Server.Status().Restore)
		h.verify(h.r, 1)
		require.NoError(t, h.r.Close())
	})
}
