// SPDX-License-Identifier: Apache-2.0

package btree_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/btree"
)

// bytesPerEntry checkpoints the tree and returns page bytes an entry.
func bytesPerEntry(t *testing.T, tree *btree.Tree[entry]) float64 {
	t.Helper()
	got := float64(tree.Dirty()*block.PageSize) / float64(tree.Len())
	t.Logf("%.2f bytes an entry", got)
	return got
}

// The bounds are what the store's promise of metadata bytes an exception rests on.
func TestBytesPerEntry(t *testing.T) {
	const n = 50_000
	rng := rand.New(rand.NewPCG(3, 3))
	for _, tc := range []struct {
		name  string
		bound float64
		next  func(i uint64) entry
	}{
		{"one ascending run", 4.4, func(i uint64) entry {
			return entry{Chunk: i, Gen: 9, Slot: 1000 + i, Sum: rng.Uint32()}
		}},
		{"ascending without runs", 7.6, func(i uint64) entry {
			return entry{Chunk: 2 * i, Gen: 9, Slot: 1000 + i, Sum: rng.Uint32()}
		}},
		{"runs of 16 at random places", 6, func(i uint64) entry {
			return entry{Chunk: i/16*2654435761%(1<<26)*16 + i%16, Gen: 9, Slot: i, Sum: rng.Uint32()}
		}},
		{"random chunks in consecutive slots", 15, func(i uint64) entry {
			return entry{Chunk: rng.Uint64N(1 << 26), Gen: 9, Slot: i, Sum: rng.Uint32()}
		}},
		{"four runs upwards, interleaved", 4.5, func(i uint64) entry {
			return entry{Chunk: i%4<<40 + i/4, Gen: 9, Slot: i%4<<40 + i/4, Sum: rng.Uint32()}
		}},
		{"one run upwards in the midst of others", 4.65, func(i uint64) entry {
			if i < 1000 {
				return entry{Chunk: rng.Uint64N(2) << 40, Gen: i, Slot: rng.Uint64N(1 << 20)}
			}
			return entry{Chunk: 1<<20 + i, Gen: 9, Slot: i, Sum: rng.Uint32()}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tree := newArea().create(btree.NewCache(roomy))
			for i := range uint64(n) {
				_, err := tree.Insert(tc.next(i))
				require.NoError(t, err)
			}
			require.NoError(t, tree.CheckDirty())
			require.LessOrEqual(t, bytesPerEntry(t, tree), tc.bound)
		})
	}
}

func TestAscendingInsertsFillPages(t *testing.T) {
	a := newArea()
	c := btree.NewCache(roomy)
	tree := a.create(c)
	for i := range uint64(200_000) {
		_, err := tree.Insert(entry{Chunk: 3 * i, Gen: 1, Slot: i * i})
		require.NoError(t, err)
	}
	root := a.checkpoint(t, c, tree)
	require.GreaterOrEqual(t, root.Level, uint8(2))
	used, pages := 0, 0
	for _, image := range a.pages {
		used += int(image[10]) | int(image[11])<<8
		pages++
	}
	fill := float64(used) / float64(pages*(block.PageSize-64))
	require.GreaterOrEqual(t, fill, 0.95)
}

func TestDeletingMostEntriesGivesPagesBack(t *testing.T) {
	const n = 50_000
	tree := newArea().create(btree.NewCache(roomy))
	rng := rand.New(rand.NewPCG(5, 5))
	for i := range uint64(n) {
		_, err := tree.Insert(entry{Chunk: i, Gen: rng.Uint64N(9), Slot: rng.Uint64N(1 << 30)})
		require.NoError(t, err)
	}
	before := tree.Dirty()
	for _, e := range all(t, tree) {
		if e.Chunk%20 != 0 {
			found, err := tree.Delete(e)
			require.NoError(t, err)
			require.True(t, found)
		}
	}
	require.Less(t, tree.Dirty(), before/7)
	require.Equal(t, uint64(n/20), tree.Len())
}

// Deleting every other entry of full pages of runs makes them overflow.
func TestBrokenRunsSplitPages(t *testing.T) {
	for _, n := range []uint64{900, 977, 10_000} {
		a := newArea()
		c := btree.NewCache(roomy)
		tree := a.create(c)
		var want []entry
		for i := range n {
			e := entry{Chunk: i, Gen: 1 << 60, Slot: 1<<62 + i, Sum: uint32(i)}
			_, err := tree.Insert(e)
			require.NoError(t, err)
			if i%2 == 0 {
				want = append(want, e)
			}
		}
		for i := uint64(1); i < n; i += 2 {
			_, err := tree.Delete(entry{Chunk: i, Gen: 1 << 60})
			require.NoError(t, err)
		}
		require.NoError(t, tree.CheckDirty())
		root := a.checkpoint(t, c, tree)
		require.Equal(t, want, all(t, a.open(btree.NewCache(0), root)))
	}
}
