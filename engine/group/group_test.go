// SPDX-License-Identifier: Apache-2.0

package group_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/group"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const originSize = 1 << 20

// volumes returns rigs and the same as members.
func volumes(t *testing.T, n int) ([]*rig.Rig, []group.Named) {
	rigs := make([]*rig.Rig, n)
	for i := range rigs {
		r, err := rig.New(rig.Options{
			OriginSize: originSize, ChunkSize: 16 << 10, Placement: layout.PlacementInline, StoreSize: 32 << 20,
		}, rig.Wrappers{})
		require.NoError(t, err)
		rigs[i] = r
	}
	t.Cleanup(func() {
		for _, r := range rigs {
			r.Abandon()
		}
	})
	return rigs, members(rigs)
}

func members(rigs []*rig.Rig) []group.Named {
	list := make([]group.Named, len(rigs))
	for i, r := range rigs {
		list[i] = group.Named{Name: fmt.Sprintf("volume %d", i), Member: r.Server}
	}
	return list
}

// One writer puts the number 1 into sector 0 of each volume in turn, then 2, and so
// on. At any instant, a volume is at most one behind the one before it, never ahead.
func TestSnapshotsAreOfOneInstant(t *testing.T) {
	rigs, list := volumes(t, 3)
	var stop atomic.Bool
	var writer sync.WaitGroup
	writer.Go(func() {
		sector := make([]byte, block.SectorSize)
		for n := uint64(1); !stop.Load(); n++ {
			binary.LittleEndian.PutUint64(sector, n)
			for _, r := range rigs {
				if _, err := r.Volume.WriteAt(sector, 0); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	for tag := range block.Tag(60) {
		_, err := group.Create(t.Context(), list, group.Options{Tag: tag})
		require.NoError(t, err)
	}
	stop.Store(true)
	writer.Wait()
	for tag := range block.Tag(60) {
		last := uint64(0)
		for i, r := range rigs {
			p, err := r.ReadSnapshot(tag, 0, block.SectorSize)
			require.NoError(t, err)
			n := binary.LittleEndian.Uint64(p)
			if i > 0 {
				require.LessOrEqual(t, n, last, "snapshot %d", tag)
				require.GreaterOrEqual(t, n+1, last, "snapshot %d", tag)
			}
			last = n
		}
	}
	for _, g := range group.List(list) {
		require.True(t, g.Complete())
	}
}

// refusing is a member that cannot do something.
type refusing struct {
	group.Member
	prepare, commit error
	wait            <-chan struct{} // before it prepares
}

func (m refusing) Prepare(n store.NewSnapshot, hold func() error) (layout.Snapshot, error) {
	if m.wait != nil {
		<-m.wait
	}
	if m.prepare != nil {
		return layout.Snapshot{}, m.prepare
	}
	return m.Member.Prepare(n, hold)
}

func (m refusing) CommitGroup(id layout.UUID) error {
	if m.commit != nil {
		return m.commit
	}
	return m.Member.CommitGroup(id)
}

var errRefused = errors.New("refused")

func TestAllOrNone(t *testing.T) {
	rigs, list := volumes(t, 3)
	bad := append([]group.Named{}, list...)
	bad[1].Member = refusing{Member: list[1].Member, prepare: errRefused}
	_, err := group.Create(t.Context(), bad, group.Options{Tag: 1})
	require.ErrorIs(t, err, errRefused)
	require.ErrorContains(t, err, "volume 1")
	_, err = rigs[2].Server.CreateSnapshot(7)
	require.NoError(t, err)
	_, err = group.Create(t.Context(), list, group.Options{Tag: 7})
	require.ErrorIs(t, err, store.ErrExists)
	require.ErrorContains(t, err, "volume 2")
	for i, r := range rigs {
		require.Len(t, r.Server.Snapshots(), i/2, "volume %d", i)
		_, err := r.Volume.WriteAt(make([]byte, 4096), 0)
		require.NoError(t, err, "writes go on")
	}
}

// A member that takes too long does not hold the others' writes.
func TestHoldsEnd(t *testing.T) {
	rigs, list := volumes(t, 2)
	never := make(chan struct{})
	slow := append([]group.Named{}, list...)
	slow[1].Member = refusing{Member: list[1].Member, wait: never}
	time.AfterFunc(200*time.Millisecond, func() { close(never) })
	_, err := group.Create(t.Context(), slow, group.Options{Tag: 1, Limit: 20 * time.Millisecond})
	require.ErrorIs(t, err, group.ErrLimit)
	for _, r := range rigs {
		require.Empty(t, r.Server.Snapshots())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = group.Create(ctx, list, group.Options{Tag: 1})
	require.ErrorIs(t, err, context.Canceled)
	for _, r := range rigs {
		require.Empty(t, r.Server.Snapshots())
	}
}

// Power cuts while a group is being made, at every flush of every volume: after
// Resolve, each volume has its snapshot or none has, and all are of one instant.
func TestCrashesLeaveAllOrNone(t *testing.T) {
	outcomes := map[bool]int{}
	for n := 1; ; n++ {
		rigs, list := volumes(t, 3)
		for i, r := range rigs {
			_, err := r.Volume.WriteAt([]byte(fmt.Sprintf("%-512d", i)), 0)
			require.NoError(t, err)
		}
		left, ended := crashAtFlush(t, rigs, list, n)
		for i, r := range left {
			require.NoError(t, r.Open())
			_, err := r.Volume.WriteAt(make([]byte, 4096), 0)
			require.NoError(t, err, "volume %d", i)
		}
		after := members(left)
		_, err := group.Resolve(after, true)
		require.NoError(t, err)
		_, err = group.Resolve(after, false)
		require.NoError(t, err)
		have := len(left[0].Server.Snapshots())
		outcomes[have > 0]++
		for i, r := range left {
			require.Len(t, r.Server.Snapshots(), have, "flush %d, volume %d", n, i)
			if have > 0 {
				got, err := r.ReadSnapshot(1, 0, block.SectorSize)
				require.NoError(t, err)
				require.Equal(t, fmt.Sprintf("%-512d", i), string(got))
			}
			require.NoError(t, r.Maintain())
			require.NoError(t, r.Close())
		}
		if ended {
			require.Positive(t, have, "a group that was made stays")
			break
		}
	}
	require.Positive(t, outcomes[true])
	require.Positive(t, outcomes[false])
}

// crashAtFlush makes a group and returns the volumes as a power cut before the n-th
// flush would have left them, or after the last one.
func crashAtFlush(t *testing.T, rigs []*rig.Rig, list []group.Named, n int) (left []*rig.Rig, ended bool) {
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(uint64(n), 1))
	cut := func() {
		for _, r := range rigs {
			left = append(left, r.Crash(rng, memdev.Fate{Keep: 0.5, Tear: 0.2}))
		}
	}
	flushes := 0
	for _, r := range rigs {
		r.Machine.Device(rig.Store).SetHook(func(e memdev.Event) {
			mu.Lock()
			defer mu.Unlock()
			if e.Kind != memdev.FlushBegin {
				return
			}
			if flushes++; flushes == n {
				cut()
			}
		})
	}
	_, err := group.Create(t.Context(), list, group.Options{Tag: 1})
	require.NoError(t, err)
	mu.Lock()
	defer mu.Unlock()
	if left == nil {
		cut()
		return left, true
	}
	return left, false
}

func TestResolveNeedsAllUnlessOneCanBeRead(t *testing.T) {
	_, list := volumes(t, 3)
	half := append([]group.Named{}, list...)
	half[1].Member = refusing{Member: list[1].Member, commit: errRefused}
	half[2].Member = refusing{Member: list[2].Member, commit: errRefused}
	id, err := group.Create(t.Context(), half, group.Options{Tag: 1, Name: "nightly"})
	require.ErrorIs(t, err, errRefused)
	_, err = group.Resolve(list[1:], false)
	require.ErrorIs(t, err, group.ErrIncomplete)
	require.False(t, group.List(list)[0].Complete())
	dry, err := group.Resolve(list[:2], true)
	require.NoError(t, err)
	require.True(t, dry[0].Committed)
	require.False(t, group.List(list[:2])[0].Complete())
	_, err = group.Resolve(list, false)
	require.NoError(t, err)
	require.True(t, group.List(list)[0].Complete())

	require.ErrorIs(t, list[0].AbortGroup(id), store.ErrNoGroup, "it is complete")
	require.NoError(t, group.Delete(list, id))
	require.Empty(t, group.List(list))
	require.ErrorIs(t, group.Delete(list, id), store.ErrNoGroup)
}
