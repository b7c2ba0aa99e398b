// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/check"
	"zumastor.org/zumastor/engine/check/checktest"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
	"zumastor.org/zumastor/engine/wire"
)

func newRig(t *testing.T, o rig.Options) *rig.Rig {
	r, err := rig.New(o, rig.Wrappers{})
	require.NoError(t, err)
	t.Cleanup(r.Abandon)
	return r
}

// churn overwrites random places, and makes and deletes snapshots, so that slots
// and pages are freed and used again all the time.
func churn(r *rig.Rig, seed uint64, steps int) error {
	rng := rand.New(rand.NewPCG(seed, 2))
	for i := range steps {
		if i%8 == 0 {
			tag := block.Tag(i/8 + 1)
			if _, err := r.Server.CreateSnapshot(tag); err != nil {
				return err
			}
			if tag > 3 {
				if err := r.Server.Delete(wire.SnapshotRef{Tag: tag - 3}, true); err != nil {
					return err
				}
			}
		}
		if i%8 == 5 {
			if err := scribbleOn(r, block.Tag(i/8+1), rng); err != nil {
				return err
			}
		}
		p := make([]byte, block.SectorSize<<rng.IntN(6))
		for j := range p {
			p[j] = byte(rng.Uint32())
		}
		if _, err := r.Volume.WriteAt(p, rng.Int64N((r.OriginSize-int64(len(p)))/block.SectorSize)*block.SectorSize); err != nil {
			return err
		}
	}
	return nil
}

// scribbleOn writes to a snapshot, and makes one of it that is deleted with it.
func scribbleOn(r *rig.Rig, tag block.Tag, rng *rand.Rand) error {
	s, err := volume.OpenSnapshotRef(r.Source(), wire.SnapshotRef{Tag: tag}, true)
	if err != nil {
		return err
	}
	write := func() error {
		for range 4 {
			if _, err := s.WriteAt(make([]byte, 8<<10), rng.Int64N((r.OriginSize-8<<10)/block.SectorSize)*block.SectorSize); err != nil {
				return err
			}
		}
		return nil
	}
	err = write()
	if err == nil {
		_, err = r.Server.Create(store.NewSnapshot{Tag: tag + 10000, Parent: &wire.SnapshotRef{Tag: tag}})
	}
	if err == nil {
		err = write()
	}
	return errors.Join(err, s.Close())
}

// checkPin returns what a check of a pinned checkpoint finds.
func checkPin(r *rig.Rig, superblock []byte, revoked func() bool) (found []check.Violation) {
	d := check.Devices{Store: r.Devices.Store, Meta: r.Devices.Meta}
	for v := range check.Check(d, check.Options{Data: true, Superblock: superblock, Revoked: revoked}) {
		found = append(found, v)
	}
	return found
}

// A pinned checkpoint is well all the time that the store is changed.
func TestPinnedCheckpointIsCheckedOnline(t *testing.T) {
	o := options(4<<10, 50_000) // room for all that is freed during a check, however slow
	o.Background, o.CheckpointBytes = true, 64<<10
	r := newRig(t, o)
	var wg sync.WaitGroup
	var churned error
	done := make(chan struct{})
	wg.Go(func() {
		defer close(done)
		churned = churn(r, 1, 1200)
	})
	checks := 0
	for ended := false; !ended; checks++ {
		select {
		case <-done:
			ended = true
		default:
		}
		pin, err := r.Server.Pin()
		require.NoError(t, err)
		_, err = r.Server.Pin()
		require.ErrorIs(t, err, store.ErrPinned)
		found := checkPin(r, pin.Superblock, pin.Revoked)
		require.False(t, pin.Revoked())
		require.Empty(t, found, checktest.Format(found))
		pin.Unpin()
		pin.Unpin()
		require.True(t, pin.Revoked())
	}
	wg.Wait()
	require.NoError(t, churned)
	t.Log(checks, "checks")
}

// What a pin keeps is used again after it: a checkpoint that is not pinned is soon
// no store any more.
func TestUnpinnedCheckpointIsWrittenOver(t *testing.T) {
	o := options(4<<10, 1500)
	o.CheckpointBytes = 64 << 10
	r := newRig(t, o)
	require.NoError(t, churn(r, 1, 100))
	pin, err := r.Server.Pin()
	require.NoError(t, err)
	require.NoError(t, r.Maintain())
	require.NoError(t, func() error {
		_, err := r.Volume.WriteAt(make([]byte, 300<<10), 0)
		return err
	}())
	_, err = r.Server.Checkpoint()
	require.NoError(t, err)
	found := checkPin(r, pin.Superblock, nil)
	require.Empty(t, found, checktest.Format(found))
	before := r.Server.Status()
	pin.Unpin()
	require.Less(t, r.Server.Status().MetadataUsed, before.MetadataUsed)
	for i := range 100 {
		_, err := r.Volume.WriteAt(make([]byte, 4<<10), int64(i)<<12)
		require.NoError(t, err)
		_, err = r.Server.Checkpoint()
		require.NoError(t, err)
	}
	require.NotEmpty(t, checkPin(r, pin.Superblock, nil))
}

// A store that runs short of slots takes back what a pin keeps, and the check says
// so, and nothing that is not true.
func TestPinIsRevokedWhereSpaceEnds(t *testing.T) {
	o := options(4<<10, 300)
	r := newRig(t, o)
	_, err := r.Server.CreateSnapshot(1)
	require.NoError(t, err)
	fill := func() {
		_, err := r.Volume.WriteAt(make([]byte, 1<<20), 0) // 256 chunks
		require.NoError(t, err)
	}
	fill()
	pin, err := r.Server.Pin()
	require.NoError(t, err)
	require.NoError(t, r.Server.DeleteSnapshot(1))
	require.NoError(t, r.Maintain())
	_, err = r.Server.Checkpoint()
	require.NoError(t, err)
	_, err = r.Server.CreateSnapshot(2)
	require.NoError(t, err)
	fill()
	require.True(t, pin.Revoked())
	found := checkPin(r, pin.Superblock, pin.Revoked)
	require.Len(t, found, 1)
	require.Equal(t, check.NotChecked, found[0].Code)
	pin, err = r.Server.Pin()
	require.NoError(t, err)
	found = checkPin(r, pin.Superblock, pin.Revoked)
	require.Empty(t, found, checktest.Format(found))
}

// A store that shrinks takes back what lies beyond its new end.
func TestPinIsRevokedByShrinking(t *testing.T) {
	o := options(4<<10, 3000)
	r := newRig(t, o)
	require.NoError(t, churn(r, 1, 100))
	pin, err := r.Server.Pin()
	require.NoError(t, err)
	plan, err := r.Server.PlanResize(0, 0, 0)
	require.NoError(t, err)
	require.NoError(t, r.Server.ResizeStore(context.Background(), plan.StoreSize/2, 0, nil))
	require.True(t, pin.Revoked())
	pin, err = r.Server.Pin()
	require.NoError(t, err)
	found := checkPin(r, pin.Superblock, pin.Revoked)
	require.Empty(t, found, checktest.Format(found))
}
