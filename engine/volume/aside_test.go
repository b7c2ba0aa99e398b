// SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/errdev"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/wire"
)

const asideChunks = 16

// partly returns a volume with two snapshots whose store has some free slots, and a fault that refuses
// writes to all of them but a few, once that is injected. Only snapshot 2 may be dropped.
func partly(t *testing.T, policy string, failing rig.Failing) (*rig.Rig, *errdev.Plan, errdev.Fault) {
	o := small(layout.PlacementInline)
	chunk := int64(o.ChunkSize)
	o.OriginSize, o.StoreSize = asideChunks*chunk, 48*chunk+64<<10
	o.Policy, o.Failing = policy, failing
	o.LeaseBytes, o.StoreLeaseBytes, o.AheadBytes = 1, 1, -1 // no more is leased than is needed
	r, plan := snapped(t, o)
	require.NoError(t, r.Server.Change(wire.SnapshotRef{Tag: 1}, func(s *layout.Snapshot) error { s.Priority = layout.MaxPriority; return nil }))
	require.NoError(t, rewrite(r, 2))
	_, err := r.Server.CreateSnapshot(2)
	require.NoError(t, err)
	_, err = r.Server.Checkpoint()
	require.NoError(t, err)
	st := r.Server.Status()
	require.EqualValues(t, asideChunks, st.SlotsUsed)
	const good = 3 // slots, at the end
	first := int64(st.SlotsUsed + 3)
	return r, plan, errdev.Fault{
		Kinds: errdev.Writes, Forever: true,
		Off: r.Server.DataOffset() + first*chunk, Len: (int64(st.Slots) - first - good) * chunk,
	}
}

// rewrite writes to all chunks of the origin, one after the other.
func rewrite(r *rig.Rig, b byte) error {
	for c := range r.OriginSize / int64(r.ChunkSize) {
		if _, err := r.Volume.WriteAt([]byte{511: b}, c*int64(r.ChunkSize)); err != nil {
			return err
		}
	}
	return nil
}

// kinds returns the events of the kinds, in order.
func kinds(r *rig.Rig, of ...store.EventKind) (list []store.EventKind) {
	for _, e := range r.Server.Events(0) {
		if slices.Contains(of, e.Kind) {
			list = append(list, e.Kind)
		}
	}
	return list
}

// requireNothingGone checks that no snapshot was given up, nor the store called full.
func requireNothingGone(t *testing.T, r *rig.Rig) {
	t.Helper()
	require.Empty(t, kinds(r, store.EventDropped, store.EventSquashed, store.EventFull))
	require.False(t, r.Server.Status().Full)
}

// awaitAside returns when the only free slots are set aside.
func awaitAside(t *testing.T, r *rig.Rig) {
	t.Helper()
	require.Eventually(t, func() bool {
		st := r.Server.Status()
		return st.SlotsAside > 0 && strings.HasPrefix(st.Trouble, "no slots are free but ")
	}, time.Minute, time.Millisecond)
}

// A part of the store device refuses writes, and heals later: what waits for that goes on
// then, and no snapshot is given up, whatever the policy of a full store.
func TestNothingIsDroppedForSlotsThatAreSetAside(t *testing.T) {
	for _, policy := range []string{"drop", "block", "fail-writes"} {
		t.Run(policy, func(t *testing.T) {
			r, plan, bad := partly(t, policy, rig.Holds)
			plan.Inject(bad)
			done := make(chan error)
			go func() { done <- rewrite(r, 3) }()
			awaitAside(t, r)
			requireNothingGone(t, r)
			plan.Clear()
			require.NoError(t, <-done)
			requireNothingGone(t, r)
			st := r.Server.Status()
			require.Empty(t, st.Trouble)
			require.NotEmpty(t, kinds(r, store.EventUsable))
			require.Equal(t, store.EventHealed, lastOf(kinds(r, store.EventTrouble, store.EventHealed)))
			require.Equal(t, []block.Tag{1, 2}, r.Live())
			requireOnes(t, r.Flushed())
		})
	}
}

func lastOf(list []store.EventKind) store.EventKind { return list[len(list)-1] }

// With another policy the write fails, and not for want of space.
func TestWritesFailForSlotsThatAreSetAside(t *testing.T) {
	for _, policy := range []string{"drop", "block", "fail-writes"} {
		t.Run(policy, func(t *testing.T) {
			r, plan, bad := partly(t, policy, rig.Fails)
			plan.Inject(bad)
			var err error
			for range 20 {
				err = errors.Join(err, rewrite(r, 3))
			}
			require.ErrorIs(t, err, store.ErrTrouble)
			require.NotErrorIs(t, err, unix.ENOSPC)
			requireNothingGone(t, r)
			plan.Clear()
			require.NoError(t, rewrite(r, 4))
			requireNothingGone(t, r)
			requireOnes(t, r.Flushed())
		})
	}
}

// With let-go, what cannot be written is lost space, and the policy of a full store
// decides.
func TestBadSlotsAreLostSpaceWithLetGo(t *testing.T) {
	r, plan, bad := partly(t, "drop", rig.LetsGo)
	bad.Len = 2 * int64(r.ChunkSize)
	plan.Inject(bad)
	require.NoError(t, rewrite(r, 2))
	for tag := block.Tag(3); len(gone(r)) == 0; tag++ {
		_, err := r.Server.Create(store.NewSnapshot{Tag: tag, Priority: layout.MaxPriority})
		require.NoError(t, err)
		require.NoError(t, rewrite(r, byte(tag)))
	}
	require.NotZero(t, r.Server.Status().SlotsAside)
	require.Equal(t, []block.Tag{2}, gone(r))
	require.Empty(t, kinds(r, store.EventSquashed, store.EventTrouble))
	requireOnes(t, r.Flushed())
}

// While a write waits for slots that are set aside, snapshots are made and deleted: room
// that this gives ends the wait.
func TestDeletionEndsTheWaitForBadSlots(t *testing.T) {
	r, plan, bad := partly(t, "drop", rig.Holds)
	plan.Inject(bad)
	done := make(chan error)
	go func() { done <- rewrite(r, 3) }()
	awaitAside(t, r)
	_, err := r.Server.CreateSnapshot(3)
	require.NoError(t, err)
	require.NoError(t, r.Server.DeleteSnapshot(3))
	require.NoError(t, r.Server.DeleteSnapshot(2))
	require.NoError(t, <-done)
	requireOnes(t, r.Flushed())
}

// A write that waits for slots that are set aside ends with the volume.
func TestWaitForBadSlotsEndsWithTheVolume(t *testing.T) {
	r, plan, bad := partly(t, "drop", rig.Holds)
	plan.Inject(bad)
	done := make(chan error)
	go func() { done <- rewrite(r, 3) }()
	awaitAside(t, r)
	require.NoError(t, r.Volume.Close())
	require.ErrorIs(t, <-done, device.ErrClosed)
	require.Zero(t, r.Server.Status().SlotsAside)
	require.Empty(t, r.Server.Status().Trouble)
	requireOnes(t, r.Flushed())
}
