// SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device/errdev"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
	"zumastor.org/zumastor/engine/wire"
)

const badChunk = 7 // whose slot cannot be read

// stuck is a volume of twos whose snapshot 1 is ones, of which the slot of badChunk
// cannot be read, and that is being restored.
func stuck(t *testing.T, p layout.Placement, o store.RestoreOptions) *rig.Rig {
	r, plan := snapped(t, stepwise(p, false))
	_, err := r.Volume.WriteAt(bytes.Repeat([]byte{2}, int(r.OriginSize)), 0)
	require.NoError(t, err)
	list, err := r.Map(1, badChunk, badChunk+1)
	require.NoError(t, err)
	require.Equal(t, wire.Stored, list[0].Kind)
	plan.Inject(errdev.Fault{Kinds: errdev.Reads, Off: r.Server.DataOffset() + int64(list[0].Slot)*int64(r.ChunkSize), Len: 512, Forever: true})
	require.NoError(t, r.Server.Restore(wire.SnapshotRef{Tag: 1}, o))
	return r
}

// requireOrigin checks that the chunks of the origin are as they say.
func requireOrigin(t *testing.T, r *rig.Rig, want func(block.Chunk) byte) {
	t.Helper()
	p, err := r.ReadOrigin()
	require.NoError(t, err)
	for i, c := range p {
		require.Equal(t, want(block.Chunk(i/r.ChunkSize)), c, "byte %d", i)
	}
}

func onesBut(bad block.Chunk) func(block.Chunk) byte {
	return func(c block.Chunk) byte {
		if c == bad {
			return 2
		}
		return 1
	}
}

// eventKinds returns the kinds of the events since the last restore began.
func eventKinds(r *rig.Rig) (list []store.EventKind) {
	for _, e := range r.Server.Events(0) {
		list = append(list, e.Kind)
	}
	return list
}

// A restore stops at a chunk that cannot be read, and with SkipLost goes on without it.
// A merge keeps its snapshot then.
func TestRestoreSkipsWhatCannotBeRead(t *testing.T) {
	for _, p := range everyPlacement {
		for _, merge := range []bool{false, true} {
			r := stuck(t, p, store.RestoreOptions{Merge: merge})
			err := r.Volume.Restore(context.Background())
			require.ErrorIs(t, err, errdev.ErrInjected)
			require.ErrorContains(t, err, "chunk 7: reading slot")
			require.EqualValues(t, badChunk, r.Server.Status().Restore.Next, "all before it is restored")
			require.NoError(t, r.Server.SkipLost())
			rng := rand.New(rand.NewPCG(3, uint64(p)))
			again := r.Crash(rng, memdev.Fate{})
			for _, r := range []*rig.Rig{again, r} {
				if r == again {
					require.NoError(t, r.Open())
					t.Cleanup(r.Abandon)
				}
				require.True(t, r.Server.Status().Restore.SkipLost)
				require.NoError(t, r.Volume.Restore(context.Background()))
				requireOrigin(t, r, onesBut(badChunk))
				require.Contains(t, eventKinds(r), store.EventSkipped)
				require.Equal(t, store.EventReverted, eventKinds(r)[len(eventKinds(r))-1])
				require.Equal(t, []block.Tag{1}, r.Live())
				mustBeClean(t, r.Flushed())
			}
		}
	}
}

// A device that gives nothing back is waited for, whatever may be skipped.
func TestRestoreSkipsNothingOfASilentStore(t *testing.T) {
	r, plan := snapped(t, stepwise(layout.PlacementInline, true))
	_, err := r.Volume.WriteAt(bytes.Repeat([]byte{2}, int(r.OriginSize)), 0)
	require.NoError(t, err)
	require.NoError(t, r.Server.Restore(wire.SnapshotRef{Tag: 1}, store.RestoreOptions{SkipLost: true}))
	plan.Inject(errdev.Fault{Kinds: errdev.Reads, Forever: true})
	require.ErrorContains(t, r.Volume.Restore(context.Background()), "cannot be read at all")
	plan.Clear()
	require.NoError(t, r.Volume.Restore(context.Background()))
	requireOrigin(t, r, func(block.Chunk) byte { return 1 })
}

// A snapshot that has lost a chunk is restored from only if that may be skipped.
func TestRestoreFromLossySnapshot(t *testing.T) {
	r, plan := badOrigin(t, stepwise(layout.PlacementInline, false))
	plan.Inject(badSector(badChunk * int64(r.ChunkSize)))
	_, err := r.Volume.WriteAt(bytes.Repeat([]byte{2}, int(r.OriginSize)), 0)
	require.NoError(t, err)
	plan.Clear()
	ref := wire.SnapshotRef{Tag: 1}
	require.ErrorIs(t, r.Server.Revert(ref), store.ErrDamaged)
	list, n, err := r.Server.LostChunks(ref)
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
	require.Equal(t, []block.Chunk{badChunk}, list)
	require.NoError(t, r.Server.Restore(ref, store.RestoreOptions{SkipLost: true}))
	_, err = r.Volume.ReadAt(make([]byte, 512), badChunk*int64(r.ChunkSize))
	require.ErrorIs(t, err, volume.ErrLost, "until the restore has come past it")
	require.NoError(t, r.Volume.Restore(context.Background()))
	requireOrigin(t, r, onesBut(badChunk))
	require.EqualValues(t, 1, len(r.Live()))
}

// An abandoned restore leaves each chunk of the origin whole, those before the end
// restored; writes go on, and a power cut at any time leaves a restore or none.
func TestRestoreIsAbandoned(t *testing.T) {
	for _, p := range everyPlacement {
		r := stuck(t, p, store.RestoreOptions{Merge: true})
		require.Error(t, r.Volume.Restore(context.Background()))
		rng, abandoned, cuts := rand.New(rand.NewPCG(5, uint64(p))), false, 0
		upTo := func(n block.Chunk) func(block.Chunk) byte {
			return func(c block.Chunk) byte {
				if c < n {
					return 1
				}
				return 2
			}
		}
		r.Machine.SetHook(func(memdev.Event) {
			cuts++
			left := r.Crash(rng, [...]memdev.Fate{{}, {Keep: 1}, {Tear: 1}}[cuts%3])
			defer left.Abandon()
			mustBeClean(t, left)
			require.NoError(t, left.Open())
			if left.Server.Status().Restore == nil {
				requireOrigin(t, left, upTo(badChunk))
			} else {
				require.False(t, abandoned)
			}
			require.Equal(t, []block.Tag{1}, left.Live())
		})
		was, err := r.Server.AbandonRestore()
		require.NoError(t, err)
		require.EqualValues(t, badChunk, was.Next)
		abandoned = true
		require.NoError(t, r.Server.Store.Checkpoint())
		requireOrigin(t, r, upTo(badChunk))
		_, err = r.Volume.WriteAt([]byte{511: 3}, 0)
		require.NoError(t, err)
		r.Machine.SetHook(nil)
		require.NotZero(t, cuts)
		require.Contains(t, eventKinds(r), store.EventAbandoned)
		_, err = r.Server.AbandonRestore()
		require.ErrorIs(t, err, store.ErrNotRestoring)
		require.ErrorIs(t, r.Server.SkipLost(), store.ErrNotRestoring)
		mustBeClean(t, r.Flushed())
	}
}
