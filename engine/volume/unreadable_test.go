// SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/errdev"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
	"zumastor.org/zumastor/engine/wire"
)

// badOrigin is a volume that is full of ones, with a snapshot, and a plan for its
// origin device.
func badOrigin(t *testing.T, o rig.Options) (*rig.Rig, *errdev.Plan) {
	var plan errdev.Plan
	r, err := rig.New(o, planned(rig.Origin, &plan))
	require.NoError(t, err)
	t.Cleanup(r.Abandon)
	_, err = r.Volume.WriteAt(bytes.Repeat([]byte{1}, int(o.OriginSize)), 0)
	require.NoError(t, err)
	_, err = r.Server.CreateSnapshot(1)
	require.NoError(t, err)
	return r, &plan
}

// badSector is one that cannot be read any more.
func badSector(off int64) errdev.Fault {
	return errdev.Fault{Kinds: errdev.Reads, Off: off, Len: block.SectorSize, Forever: true}
}

// requireLost checks that snapshot 1 has lost just the given chunks, and is ones
// elsewhere.
func requireLost(t *testing.T, r *rig.Rig, lost ...block.Chunk) {
	t.Helper()
	geo := r.Server.Geometry()
	bad := map[block.Chunk]bool{}
	for _, c := range lost {
		bad[c] = true
	}
	for c := block.Chunk(0); uint64(c) < geo.Chunks(); c++ {
		p, err := r.ReadSnapshot(1, geo.Offset(c), int64(geo.Len(c)))
		if bad[c] {
			require.ErrorIs(t, err, volume.ErrLost, "chunk %d", c)
			continue
		}
		require.NoError(t, err, "chunk %d", c)
		require.Equal(t, bytes.Repeat([]byte{1}, geo.Len(c)), p, "chunk %d", c)
	}
	require.Equal(t, len(lost) > 0, r.Server.Snapshots()[0].Lossy)
}

// A chunk with a bad sector is lost to the snapshot when it is written to, its
// neighbours of the same batch are not, and a crash changes nothing of it.
func TestUnreadableChunkIsLost(t *testing.T) {
	for _, p := range everyPlacement {
		t.Run(p.String(), func(t *testing.T) {
			o := small(p)
			r, plan := badOrigin(t, o)
			size := int64(o.ChunkSize)
			plan.Inject(badSector(5*size + 3*block.SectorSize))
			plan.Inject(badSector(9 * size))
			plan.Inject(badSector(r.Server.Geometry().Size() - block.SectorSize))
			_, err := r.Volume.WriteAt(bytes.Repeat([]byte{2}, int(4*size)), 3*size)
			require.NoError(t, err)
			st := r.Server.Status()
			require.EqualValues(t, 1, st.LostCount)
			require.Equal(t, block.Chunk(5), st.LostChunks[0].Chunk)
			require.Equal(t, []block.Tag{1}, st.LostChunks[0].Snapshots)
			require.Contains(t, st.LostChunks[0].String(), "chunk 5 of snapshots [1]")
			_, err = r.Volume.WriteAt(make([]byte, o.OriginSize-7*size), 7*size)
			require.NoError(t, err)

			rng := rand.New(rand.NewPCG(1, uint64(p)))
			again := r.Crash(rng, memdev.Fate{})
			require.NoError(t, again.Open())
			defer again.Abandon()
			requireLost(t, again, 5, 9, block.Chunk(r.Server.Geometry().Chunks()-1))
			mustBeClean(t, again.Flushed())
			require.NoError(t, again.Close())
			mustBeClean(t, again)
			require.NoError(t, again.Open())
			requireLost(t, again, 5, 9, block.Chunk(r.Server.Geometry().Chunks()-1))
		})
	}
}

// What nobody writes to is not lost: what is read ahead of a sequential writer, and
// what is settled for a resize.
func TestOnlyWritesLoseChunks(t *testing.T) {
	o := small(layout.PlacementInline)
	r, plan := badOrigin(t, o)
	size := int64(o.ChunkSize)
	plan.Inject(badSector(20 * size))
	for c := range int64(20) {
		_, err := r.Volume.WriteAt([]byte{511: 2}, c*size)
		require.NoError(t, err)
	}
	require.NotZero(t, plan.Counts().Failed, "it was tried ahead")
	require.ErrorIs(t, r.Volume.Settle(20, 22), errdev.ErrInjected)
	require.Zero(t, r.Server.Status().LostCount)
	plan.Clear()
	requireLost(t, r)
}

// With FailWrite the writes of the chunk fail, and no others.
func TestFailWriteKeepsTheChunk(t *testing.T) {
	o := small(layout.PlacementInline)
	o.Unreadable = volume.FailWrite
	r, plan := badOrigin(t, o)
	size := int64(o.ChunkSize)
	plan.Inject(badSector(5 * size))
	_, err := r.Volume.WriteAt(make([]byte, size), 5*size-block.SectorSize)
	require.ErrorIs(t, err, errdev.ErrInjected)
	require.ErrorContains(t, err, "chunk 5, which snapshots need, cannot be read")
	_, err = r.Volume.WriteAt(make([]byte, size), 4*size)
	require.NoError(t, err)
	plan.Clear()
	requireLost(t, r)
	_, err = r.Volume.WriteAt(make([]byte, size), 5*size)
	require.NoError(t, err)
	requireLost(t, r)
}

// A device that gives nothing back for a while has no bad chunks.
func TestSilentOriginLosesNothing(t *testing.T) {
	for nth := int64(1); nth < 12; nth++ {
		for _, forever := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d/%v", nth, forever), func(t *testing.T) {
				o := small(layout.PlacementInline)
				r, plan := badOrigin(t, o)
				plan.Inject(errdev.Fault{Kinds: errdev.Reads, Nth: nth, Forever: forever})
				for c := range int64(16) {
					_, err := r.Volume.WriteAt(device.Buffer(o.ChunkSize), 3*c*int64(o.ChunkSize))
					require.True(t, err == nil || forever, "%v", err)
				}
				plan.Clear()
				require.Zero(t, r.Server.Status().LostCount)
				requireLost(t, r)
			})
		}
	}
}

// The snapshots of a snapshot share what it has lost, unless they have bytes of their
// own there.
func TestSnapshotsOfLossyOnesAreLossy(t *testing.T) {
	o := small(layout.PlacementInline)
	r, plan := badOrigin(t, o)
	one := &wire.SnapshotRef{Tag: 1}
	_, err := r.Server.Create(store.NewSnapshot{Tag: 2, Parent: one})
	require.NoError(t, err)
	plan.Inject(badSector(0))
	_, err = r.Volume.WriteAt([]byte{511: 2}, 0)
	require.NoError(t, err)
	_, err = r.Server.Create(store.NewSnapshot{Tag: 3, Parent: one})
	require.NoError(t, err)
	_, err = r.Server.CreateSnapshot(4)
	require.NoError(t, err)
	plan.Clear()
	for _, s := range r.Server.Snapshots() {
		require.Equal(t, s.Tag != 4, s.Lossy, "snapshot %d", s.Tag)
		_, err = r.ReadSnapshot(s.Tag, 0, 512)
		require.Equal(t, s.Tag != 4, err != nil, "snapshot %d: %v", s.Tag, err)
	}
}

// A power cut at any write or flush while a chunk is lost leaves it lost, or as it was;
// never other bytes, and never unsaid.
func TestLosingChunksPowerCuts(t *testing.T) {
	for _, p := range everyPlacement {
		t.Run(p.String(), func(t *testing.T) {
			o := small(p)
			o.CheckpointBytes = 4 * int64(o.ChunkSize)
			r, plan := badOrigin(t, o)
			size := int64(o.ChunkSize)
			bad := []block.Chunk{5, 6, 11}
			for _, c := range bad {
				plan.Inject(badSector(int64(c) * size))
			}
			rng, cuts := rand.New(rand.NewPCG(7, uint64(p))), 0
			written := int64(0) // origin bytes whose write has returned
			r.Machine.SetHook(func(memdev.Event) {
				cuts++
				left := r.Crash(rng, [...]memdev.Fate{{}, {Keep: 1}, {Tear: 1}, {Keep: 0.5, Tear: 0.5}}[cuts%4])
				defer left.Abandon()
				mustBeClean(t, left)
				require.NoError(t, left.Open())
				requireOnesOrLost(t, left, bad, written)
				mustBeCleanClosed(t, left)
			})
			for off := int64(0); off < 16*size; off += 2 * size {
				_, err := r.Volume.WriteAt(bytes.Repeat([]byte{2}, int(2*size)), off)
				require.NoError(t, err)
				require.NoError(t, r.Maintain())
				written = off + 2*size
			}
			r.Machine.SetHook(nil)
			require.Greater(t, cuts, 16)
			require.EqualValues(t, len(bad), r.Server.Status().LostCount)
		})
	}
}

// requireOnesOrLost checks that snapshot 1 is ones, but for bad chunks that it may
// have lost, and must have if the origin was written to there.
func requireOnesOrLost(t *testing.T, r *rig.Rig, bad []block.Chunk, written int64) {
	t.Helper()
	geo, lost := r.Server.Geometry(), 0
	for c := block.Chunk(0); uint64(c) < geo.Chunks(); c++ {
		p, err := r.ReadSnapshot(1, geo.Offset(c), int64(geo.Len(c)))
		if errors.Is(err, volume.ErrLost) {
			require.Contains(t, bad, c)
			lost++
			continue
		}
		if errors.Is(err, errdev.ErrInjected) {
			require.Contains(t, bad, c)
			require.GreaterOrEqual(t, geo.Offset(c), written, "chunk %d is not shared any more", c)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, bytes.Repeat([]byte{1}, geo.Len(c)), p, "chunk %d", c)
	}
	require.Equal(t, lost > 0, r.Server.Snapshots()[0].Lossy)
}
