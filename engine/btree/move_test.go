// SPDX-License-Identifier: Apache-2.0

package btree_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/btree"
)

// Going through a tree with Move, in steps with checkpoints between and others who
// change it, leaves no page beyond the limit, and changes no entry.
func TestMoveEmptiesTheEnd(t *testing.T) {
	for _, c := range []struct {
		entries uint64
		cache   int64
		part    block.Page // a page in so many stays where it is
	}{{0, 0, 2}, {5, 0, 1000}, {3000, roomy, 2}, {150_000, roomy, 3}, {150_000, 50 << 10, 1000}} {
		a, cache := newArea(), btree.NewCache(c.cache)
		a.next = 10_000
		tree := a.create(cache)
		var want []entry
		for i := range c.entries {
			e := entry{Chunk: 7 * i, Gen: i % 5, Slot: i * i, Sum: uint32(i)}
			want = append(want, e)
			_, err := tree.Insert(e)
			require.NoError(t, err)
		}
		a.checkpoint(t, cache, tree)
		limit := 10_000 + (a.next-10_000)/c.part
		a.next, a.free = 1, nil

		var from entry
		var mu sync.Mutex
		steps := 0
		for more := true; more; steps++ {
			require.NoError(t, btree.Resolve(&mu, func() error {
				next, m, err := tree.Move(limit, from, 10)
				if err == nil {
					from, more = next, m
				}
				return err
			}))
			require.LessOrEqual(t, tree.Dirty(), 70)
			if steps%5 == 4 {
				a.checkpoint(t, cache, tree)
				a.free = nil
			}
			if steps%7 == 3 {
				e := want[uint64(steps)*331%c.entries]
				require.NoError(t, btree.Resolve(&mu, func() error { _, err := tree.Insert(e); return err }))
			}
		}
		root := a.checkpoint(t, cache, tree)
		pages := 0
		again := a.open(btree.NewCache(roomy), root)
		require.NoError(t, again.Pages(func(p block.Page, _ bool) error {
			require.Less(t, p, limit)
			pages++
			return nil
		}))
		require.Equal(t, want, all(t, again))
		if c.entries > 100_000 {
			require.Greater(t, pages, 300)
			require.Greater(t, steps, 20)
		}
	}
}
