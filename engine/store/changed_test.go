// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/server"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
	"zumastor.org/zumastor/engine/wire"
)

const changedChunk = 4096

// changedRig is an origin of 1000 chunks with a store whose cache is as small as
// may be, so that look-ups miss.
func changedRig(t *testing.T) (*server.Server, *volume.Origin) {
	origin := memdev.NewVolatile(1000 * changedChunk)
	devs := placement.Devices{Store: memdev.NewVolatile(64 << 20)}
	_, err := store.Format(devs, store.FormatOptions{OriginSize: origin.Size(), ChunkSize: changedChunk})
	require.NoError(t, err)
	s, err := server.Open(devs, server.Options{Manual: true, Store: store.Options{CacheBytes: 1}})
	require.NoError(t, err)
	o, err := volume.OpenOrigin(s, origin, devs, volume.Options{AheadBytes: -1})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, o.Close())
		require.NoError(t, s.Close())
	})
	return s, o
}

func writeChunk(t *testing.T, o *volume.Origin, c block.Chunk) {
	_, err := o.WriteAt(make([]byte, 512), int64(c)*changedChunk+1024)
	require.NoError(t, err)
}

func TestChangedRuns(t *testing.T) {
	s, o := changedRig(t)
	one, err := s.CreateSnapshot(1)
	require.NoError(t, err)
	writeChunk(t, o, 3)
	writeChunk(t, o, 4)
	two, err := s.CreateSnapshot(2)
	require.NoError(t, err)
	writeChunk(t, o, 4)
	writeChunk(t, o, 999)

	tests := []struct {
		name        string
		since, upTo block.Generation
		first, end  block.Chunk
		want        []store.ChangedRun
	}{
		{"nothing asked", one.Generation, store.OriginGeneration, 5, 5, nil},
		{"between snapshots", one.Generation, two.Generation, 0, 1000, []store.ChangedRun{{Chunk: 0, Len: 3}, {Chunk: 3, Len: 2, Changed: true}, {Chunk: 5, Len: 995}}},
		{"first to origin", one.Generation, store.OriginGeneration, 0, 1000, []store.ChangedRun{{Chunk: 0, Len: 3}, {Chunk: 3, Len: 2, Changed: true}, {Chunk: 5, Len: 994}, {Chunk: 999, Len: 1, Changed: true}}},
		{"second to origin", two.Generation, store.OriginGeneration, 0, 1000, []store.ChangedRun{{Chunk: 0, Len: 4}, {Chunk: 4, Len: 1, Changed: true}, {Chunk: 5, Len: 994}, {Chunk: 999, Len: 1, Changed: true}}},
		{"a part", one.Generation, store.OriginGeneration, 4, 6, []store.ChangedRun{{Chunk: 4, Len: 1, Changed: true}, {Chunk: 5, Len: 1}}},
		{"to itself", one.Generation, one.Generation, 0, 1000, []store.ChangedRun{{Chunk: 0, Len: 1000}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := s.Changed(tt.since, tt.upTo, tt.first, tt.end, nil)
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
		})
	}

	require.NoError(t, s.DeleteSnapshot(1))
	_, err = s.Changed(one.Generation, store.OriginGeneration, 0, 1000, nil)
	require.ErrorIs(t, err, store.ErrNoSnapshot, "what a deleted snapshot shared is forgotten")
	_, err = s.Changed(0, store.OriginGeneration, 0, 1000, nil)
	require.ErrorIs(t, err, store.ErrNoSnapshot)
}

// writeSnapshot gives chunks of a snapshot slots of their own.
func writeSnapshot(t *testing.T, s *server.Server, tag block.Tag, chunks ...block.Chunk) {
	opened, err := s.OpenSnapshot(wire.SnapshotRef{Tag: tag}, true, rig.Passive{})
	require.NoError(t, err)
	runs, err := s.LeaseBranch(opened.Handle, uint64(len(chunks)))
	require.NoError(t, err)
	var copies []layout.Copy
	for i, c := range chunks {
		copies = append(copies, layout.Copy{Chunk: c, Slot: runs[0].First + block.Slot(i)})
	}
	require.NoError(t, s.ReportBranch(opened.Handle, opened.State.Generation, copies))
	require.NoError(t, s.CloseSnapshot(opened.Handle))
}

// TestChangedByWritesToSnapshots: what was written to a snapshot differs too.
func TestChangedByWritesToSnapshots(t *testing.T) {
	s, o := changedRig(t)
	one, err := s.CreateSnapshot(1)
	require.NoError(t, err)
	writeChunk(t, o, 3)
	two, err := s.CreateSnapshot(2)
	require.NoError(t, err)
	child, err := s.Create(store.NewSnapshot{Tag: 3, Parent: &wire.SnapshotRef{Tag: 2}})
	require.NoError(t, err)
	writeSnapshot(t, s, 1, 0, 7)
	writeSnapshot(t, s, 2, 999)

	got, err := s.Changed(one.Generation, two.Generation, 0, 1000, nil)
	require.NoError(t, err)
	require.Equal(t, []store.ChangedRun{
		{Chunk: 0, Len: 1, Changed: true}, {Chunk: 1, Len: 2}, {Chunk: 3, Len: 1, Changed: true}, {Chunk: 4, Len: 3},
		{Chunk: 7, Len: 1, Changed: true}, {Chunk: 8, Len: 991}, {Chunk: 999, Len: 1, Changed: true},
	}, got)
	got, err = s.Changed(two.Generation, store.OriginGeneration, 990, 1000, nil)
	require.NoError(t, err)
	require.Equal(t, []store.ChangedRun{{Chunk: 990, Len: 9}, {Chunk: 999, Len: 1, Changed: true}}, got)
	for _, ends := range [][2]block.Generation{
		{one.Generation, child.Generation}, {child.Generation, store.OriginGeneration}, {store.OriginGeneration, store.OriginGeneration},
	} {
		_, err = s.Changed(ends[0], ends[1], 0, 1000, nil)
		require.ErrorIs(t, err, store.ErrNoSnapshot, "only the origin and its own snapshots have an order")
	}
}

// TestChangedModel compares every pair of snapshots with what was written, while
// snapshots between them go and their exceptions are reclaimed.
func TestChangedModel(t *testing.T) {
	s, o := changedRig(t)
	rng := rand.New(rand.NewPCG(3, 4))
	written := make(map[block.Generation]map[block.Chunk]bool) // since that snapshot was the newest
	live := make(map[block.Tag]block.Generation)
	newest := block.Generation(0)
	for tag := block.Tag(1); tag <= 12; tag++ {
		snap, err := s.CreateSnapshot(tag)
		require.NoError(t, err)
		newest = snap.Generation
		live[tag], written[newest] = newest, make(map[block.Chunk]bool)
		for range 60 {
			c := block.Chunk(rng.IntN(1000))
			writeChunk(t, o, c)
			written[newest][c] = true
		}
		if tag%3 == 0 {
			require.NoError(t, s.DeleteSnapshot(tag-1))
			delete(live, tag-1)
		}
	}
	for more := true; more; {
		var err error
		more, err = s.Maintain()
		require.NoError(t, err)
	}
	_, err := s.Checkpoint() // pages leave memory only once they are written
	require.NoError(t, err)

	ends := []block.Generation{store.OriginGeneration}
	for _, g := range live {
		ends = append(ends, g)
	}
	for _, since := range live {
		for _, upTo := range ends {
			if upTo < since {
				continue
			}
			runs, err := s.Changed(since, upTo, 0, 1000, nil)
			require.NoError(t, err)
			next := block.Chunk(0)
			for i, r := range runs {
				require.Equal(t, next, r.Chunk)
				require.True(t, i == 0 || runs[i-1].Changed != r.Changed, "runs are joined")
				for range r.Len {
					want := false
					for g := since; g < upTo && g <= newest; g++ {
						want = want || written[g][next]
					}
					require.Equal(t, want, r.Changed, "chunk %d from %d to %d", next, since, upTo)
					next++
				}
			}
			require.Equal(t, block.Chunk(1000), next)
		}
	}
}
