// SPDX-License-Identifier: Apache-2.0

package btree_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/btree"
)

// million returns a tree of a million entries with random keys, all in memory.
func million(b *testing.B) (*btree.Tree[entry], *rand.Rand) {
	rng := rand.New(rand.NewPCG(1, 2))
	tree := newArea().create(btree.NewCache(roomy))
	for range 1_000_000 {
		_, err := tree.Insert(entry{Chunk: rng.Uint64N(1 << 32), Gen: 1, Slot: rng.Uint64N(1 << 24)})
		require.NoError(b, err)
	}
	return tree, rng
}

func BenchmarkCeiling(b *testing.B) {
	for _, clean := range []bool{false, true} {
		name := map[bool]string{false: "dirty", true: "clean"}[clean]
		b.Run(name, func(b *testing.B) {
			tree, rng := million(b)
			if clean {
				a := newArea()
				_, err := tree.Checkpoint(1, a.alloc, a.release, a.write)
				require.NoError(b, err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := tree.Ceiling(entry{Chunk: rng.Uint64N(1 << 32)}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkInsert(b *testing.B) {
	b.Run("random", func(b *testing.B) {
		tree, rng := million(b)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := tree.Insert(entry{Chunk: rng.Uint64N(1 << 32), Gen: 2, Slot: rng.Uint64N(1 << 24)}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("ascending", func(b *testing.B) {
		tree, _ := million(b)
		b.ReportAllocs()
		for i := uint64(1 << 31); b.Loop(); i++ {
			if _, err := tree.Insert(entry{Chunk: i, Gen: 2, Slot: i}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkCheckpoint(b *testing.B) {
	tree, rng := million(b)
	a := newArea()
	pages := 0
	for b.Loop() {
		for range 1000 {
			_, err := tree.Insert(entry{Chunk: rng.Uint64N(1 << 32), Gen: 2})
			require.NoError(b, err)
		}
		pages += tree.Dirty()
		_, err := tree.Checkpoint(1, a.alloc, a.release, a.write)
		require.NoError(b, err)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(pages), "ns/page")
}
