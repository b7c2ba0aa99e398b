// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
	"zumastor.org/zumastor/engine/wire"
)

func tagged(tag block.Tag) *wire.SnapshotRef { return &wire.SnapshotRef{Tag: tag} }

func TestChangeListRuns(t *testing.T) {
	s, o := changedRig(t)
	for tag, chunks := range [][]block.Chunk{{}, {3, 4, 63, 64, 65, 900}, {4, 999}, {0}} {
		_, err := s.CreateSnapshot(block.Tag(tag))
		require.NoError(t, err)
		for _, c := range chunks {
			writeChunk(t, o, c)
		}
	}
	tests := []struct {
		name     string
		from, to *wire.SnapshotRef
		first    block.Chunk
		limit    int
		want     []store.ChunkRun
		next     block.Chunk
		more     bool
	}{
		{"of nothing to a snapshot", nil, tagged(1), 0, 0, []store.ChunkRun{{Chunk: 0, Len: 1000}}, 0, false},
		{"of nothing to the origin", nil, nil, 10, 0, []store.ChunkRun{{Chunk: 10, Len: 990}}, 0, false},
		{"nothing happened", tagged(0), tagged(1), 0, 0, nil, 0, false},
		{"one generation", tagged(1), tagged(2), 0, 0, []store.ChunkRun{{Chunk: 3, Len: 2}, {Chunk: 63, Len: 3}, {Chunk: 900, Len: 1}}, 0, false},
		{"backwards", tagged(2), tagged(1), 0, 0, []store.ChunkRun{{Chunk: 3, Len: 2}, {Chunk: 63, Len: 3}, {Chunk: 900, Len: 1}}, 0, false},
		{"a part", tagged(1), tagged(2), 4, 2, []store.ChunkRun{{Chunk: 4, Len: 1}, {Chunk: 63, Len: 3}}, 900, true},
		{"to the origin", tagged(2), nil, 0, 0, []store.ChunkRun{{Chunk: 0, Len: 1}, {Chunk: 4, Len: 1}, {Chunk: 999, Len: 1}}, 0, false},
		{"to itself", tagged(2), tagged(2), 0, 0, nil, 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			list, err := s.ChangeList(store.ChangeQuery{From: tt.from, To: tt.to, First: tt.first, Limit: tt.limit})
			require.NoError(t, err)
			require.Equal(t, tt.want, list.Runs)
			require.Equal(t, []any{tt.next, tt.more}, []any{list.Next, list.More})
			require.EqualValues(t, 1000*changedChunk, list.Size)
		})
	}
	_, err := s.ChangeList(store.ChangeQuery{From: tagged(9)})
	require.ErrorIs(t, err, store.ErrNoSnapshot)
	require.NoError(t, s.Revert(*tagged(1)))
	_, err = s.ChangeList(store.ChangeQuery{From: tagged(1)})
	require.ErrorIs(t, err, store.ErrRestoring)
}

// TestChangeListSizes: beyond the smaller end all is changed, up to the newer end.
func TestChangeListSizes(t *testing.T) {
	s, o := changedRig(t)
	_, err := s.CreateSnapshot(1)
	require.NoError(t, err)
	writeChunk(t, o, 399)
	require.NoError(t, s.ResizeOrigin(t.Context(), 400*changedChunk+512, nil))
	_, err = s.CreateSnapshot(2)
	require.NoError(t, err)
	list := func(from, to *wire.SnapshotRef, limit int) *store.ChangeList {
		got, err := s.ChangeList(store.ChangeQuery{From: from, To: to, Limit: limit})
		require.NoError(t, err)
		return got
	}
	require.Equal(t, []store.ChunkRun{{Chunk: 399, Len: 2}}, list(tagged(1), tagged(2), 0).Runs, "it shrank: the rest of a chunk is kept, too")
	require.Equal(t, []store.ChunkRun{{Chunk: 399, Len: 601}}, list(tagged(2), tagged(1), 0).Runs, "the other way round it grew")
	short := list(nil, tagged(2), 1)
	require.Equal(t, []store.ChunkRun{{Chunk: 0, Len: 401}}, short.Runs)
	require.False(t, short.More)
}

// TestChangeListModel compares the lists of every two snapshots of a tree, of
// which some are written to, deleted and reclaimed, with where their chunks are,
// and with what they hold.
func TestChangeListModel(t *testing.T) {
	const chunks, size = 96, 96 * changedChunk
	r, err := rig.New(rig.Options{
		OriginSize: size, StoreSize: 64 << 20, ChunkSize: changedChunk, Placement: layout.PlacementInline, CacheBytes: 1, AheadBytes: -1,
	}, rig.Wrappers{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	rng := rand.New(rand.NewPCG(5, 6))
	write := func(w interface {
		WriteAt([]byte, int64) (int, error)
	}, n int) {
		for range n {
			p := bytes.Repeat([]byte{byte(rng.Uint32())}, 512)
			_, err := w.WriteAt(p, rng.Int64N(size/512)*512)
			require.NoError(t, err)
		}
	}
	for tag := block.Tag(1); tag <= 40; tag++ {
		n := store.NewSnapshot{Tag: tag}
		if live := r.Live(); len(live) > 0 && rng.IntN(2) == 0 {
			n.Parent = tagged(live[rng.IntN(len(live))])
		}
		_, err := r.Server.Create(n)
		require.NoError(t, err)
		write(r.Volume, 8)
		if live := r.Live(); rng.IntN(2) == 0 {
			v, err := volume.OpenSnapshotRef(r.Source(), *tagged(live[rng.IntN(len(live))]), true)
			require.NoError(t, err)
			write(v, 6)
			require.NoError(t, v.Close())
		}
		if live := r.Live(); tag%3 == 0 { // with those under it, if it has some
			require.NoError(t, r.Server.Delete(*tagged(live[rng.IntN(len(live))]), true))
		}
	}
	compareLists(t, r, chunks)
	require.NoError(t, r.Maintain())
	_, err = r.Server.Checkpoint()
	require.NoError(t, err)
	compareLists(t, r, chunks)
}

// compareLists checks the change lists between all that is live.
func compareLists(t *testing.T, r *rig.Rig, chunks block.Chunk) {
	type end struct {
		ref  *wire.SnapshotRef
		maps []wire.Mapping
		data []byte
	}
	origin, err := r.ReadOrigin()
	require.NoError(t, err)
	ends := []end{{data: origin, maps: make([]wire.Mapping, chunks)}}
	for c := range ends[0].maps {
		ends[0].maps[c] = wire.Mapping{Chunk: block.Chunk(c), Len: 1, Kind: wire.Shared}
	}
	for _, tag := range r.Live() {
		e := end{ref: tagged(tag)}
		e.data, err = r.ReadSnapshot(tag, 0, int64(chunks)*changedChunk)
		require.NoError(t, err)
		for c := range chunks {
			m, err := r.Map(tag, c, c+1)
			require.NoError(t, err)
			m[0].Owned = false
			e.maps = append(e.maps, m[0])
		}
		ends = append(ends, e)
	}
	require.Greater(t, len(ends), 5)
	for _, from := range ends[1:] {
		for _, to := range ends {
			list, err := r.Server.ChangeList(store.ChangeQuery{From: from.ref, To: to.ref})
			require.NoError(t, err)
			listed := make(map[block.Chunk]bool)
			for _, run := range list.Runs {
				for i := range run.Len {
					listed[run.Chunk+block.Chunk(i)] = true
				}
			}
			for c := range chunks {
				same := bytes.Equal(from.data[c*changedChunk:(c+1)*changedChunk], to.data[c*changedChunk:(c+1)*changedChunk])
				require.True(t, same || listed[c], "chunk %d differs from %v to %v", c, from.ref, to.ref)
				require.Equal(t, from.maps[c] != to.maps[c], listed[c], "chunk %d from %v to %v: %v %v", c, from.ref, to.ref, from.maps[c], to.maps[c])
			}
		}
	}
}

// TestChangeListLetsIOGoOn: while a list is made, snapshots are and writes go on, and
// what it is between may go.
func TestChangeListLetsIOGoOn(t *testing.T) {
	s, o := changedRig(t)
	for tag := range block.Tag(2) {
		_, err := s.CreateSnapshot(tag)
		require.NoError(t, err)
		for c := range block.Chunk(900) {
			writeChunk(t, o, c)
		}
	}
	var lists sync.WaitGroup
	end := make(chan struct{})
	lists.Go(func() {
		for {
			select {
			case <-end:
				return
			default:
			}
			if list, err := s.ChangeList(store.ChangeQuery{From: tagged(0), To: tagged(1)}); err == nil {
				if len(list.Runs) != 1 || list.Runs[0].Len != 900 {
					t.Errorf("list of %v", list.Runs)
				}
			}
		}
	})
	for tag := block.Tag(2); tag < 20; tag++ {
		_, err := s.CreateSnapshot(tag)
		require.NoError(t, err)
		writeChunk(t, o, block.Chunk(tag))
	}
	require.NoError(t, s.DeleteSnapshot(0))
	close(end)
	lists.Wait()
	_, err := s.ChangeList(store.ChangeQuery{From: tagged(0), To: tagged(1)})
	require.ErrorIs(t, err, store.ErrNoSnapshot)
}
