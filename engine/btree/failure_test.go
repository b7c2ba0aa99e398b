// SPDX-License-Identifier: Apache-2.0

package btree_test

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/btree"
	"zumastor.org/zumastor/engine/layout"
)

// filled returns a model and its tree, on area a with cache c, as checkpointed.
func filled(t testing.TB, a *area, c *btree.Cache, n int) (model, *btree.Tree[entry]) {
	rng := rand.New(rand.NewPCG(8, 8))
	tree := a.create(c)
	for range n {
		_, err := tree.Insert(entry{Chunk: rng.Uint64N(1 << 40), Gen: 1, Slot: rng.Uint64(), Sum: rng.Uint32()})
		require.NoError(t, err)
	}
	m := model(all(t, tree))
	a.checkpoint(t, c, tree)
	return m, tree
}

// Every operation, with each of its reads failing in turn and nothing cached: the
// error comes out, nothing has changed, and repeating the operation succeeds.
func TestFailedReadsChangeNothing(t *testing.T) {
	a, c := newArea(), btree.NewCache(0)
	m, tree := filled(t, a, c, 40_000)
	require.GreaterOrEqual(t, tree.Root().Level, uint8(2))
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(9, 9))
	failures := 0
	for range 120 {
		at := rng.IntN(len(m))
		e := m[at]
		op := func() error { _, err := tree.Delete(e); return err }
		switch rng.IntN(4) {
		case 0:
			e.Gen, e.Sum = 2, 5
			m.insert(e)
			op = func() error { _, err := tree.Insert(e); return err }
		case 1:
			op = func() error { _, _, err := tree.Floor(entry{Chunk: e.Chunk}); return err }
		case 2:
			op = func() error { _, err := tree.Scan(e, 1000, nil); return err }
		default:
			// A stretch, so that pages shrink and are merged.
			for _, e := range append(model(nil), m[at:min(at+180, len(m))]...) {
				require.NoError(t, btree.Resolve(&mu, func() error { _, err := tree.Delete(e); return err }))
				m.delete(e)
			}
			m.delete(e)
		}
		a.checkpoint(t, c, tree)
		size := tree.Len()
		for nth := 1; ; nth++ {
			a.failAt = a.reads + nth
			err := btree.Resolve(&mu, op)
			a.failAt = 0
			if err == nil {
				break
			}
			failures++
			require.ErrorIs(t, err, errRead)
			require.Equal(t, size, tree.Len())
			require.Zero(t, tree.Dirty())
		}
	}
	require.Greater(t, failures, 240)
	a.checkpoint(t, c, tree)
	require.Equal(t, []entry(m), all(t, tree))
}

func TestDamagedPagesAreReported(t *testing.T) {
	a, c := newArea(), btree.NewCache(0)
	m, tree := filled(t, a, c, 2000)
	for p, image := range a.pages {
		image[100] ^= 1
		reopened := a.open(btree.NewCache(0), tree.Root())
		err := reopened.Ascend(entry{}, func(entry) bool { return true })
		require.ErrorIs(t, err, layout.ErrCorrupt, "page %d", p)
		image[100] ^= 1
	}
	require.Equal(t, []entry(m), all(t, tree))
}

// A root that names the page of another tree, or of another level, is refused
// also when that page is in the cache already.
func TestCrossLinkedTreesAreRefused(t *testing.T) {
	a, c := newArea(), btree.NewCache(roomy)
	_, tree := filled(t, a, c, 2000)
	root := tree.Root()
	other := btree.Open[entry](entryCodec{}, testKind+1, a, c, testIdentity, root)
	_, _, err := other.Ceiling(entry{})
	require.ErrorIs(t, err, layout.ErrCorrupt)
	root.Level++
	_, _, err = a.open(c, root).Ceiling(entry{})
	require.ErrorIs(t, err, layout.ErrCorrupt)
}

// A checkpoint whose n-th allocation or write fails leaves the tree as it was.
func TestFailedCheckpointKeepsEverythingDirty(t *testing.T) {
	errFull := errors.New("full")
	for _, where := range []string{"alloc", "write"} {
		t.Run(where, func(t *testing.T) {
			a, c := newArea(), btree.NewCache(roomy)
			m, tree := filled(t, a, c, 3000)
			for i, e := range m[:300] {
				if i%3 == 0 {
					_, err := tree.Delete(e)
					require.NoError(t, err)
					m.delete(e)
				}
			}
			dirty := tree.Dirty()
			require.Greater(t, dirty, 2)
			for nth := range dirty {
				calls := 0
				count := func(at string) error {
					if at == where {
						calls++
						if calls > nth {
							return errFull
						}
					}
					return nil
				}
				_, err := tree.Checkpoint(1,
					func() (block.Page, error) { a.next++; return a.next, count("alloc") },
					func(block.Page) { t.Fatal("freed") },
					func(block.Page, []byte) error { return count("write") })
				require.ErrorIs(t, err, errFull)
				require.Equal(t, dirty, tree.Dirty())
				require.Equal(t, dirty, c.DirtyPages())
				require.Zero(t, tree.Root().Page)
			}
			a.checkpoint(t, c, tree)
			require.Equal(t, []entry(m), all(t, a.open(btree.NewCache(0), tree.Root())))
		})
	}
}
