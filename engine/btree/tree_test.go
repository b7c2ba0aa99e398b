// SPDX-License-Identifier: Apache-2.0

package btree_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/btree"
)

const roomy = 1 << 30 // a cache that never evicts

// model is what a tree should hold: a sorted slice.
type model []entry

func (m model) find(key entry) (int, bool) {
	return slices.BinarySearchFunc(m, key, entryCodec{}.Compare)
}

func (m *model) insert(e entry) bool {
	i, found := m.find(e)
	if found {
		(*m)[i] = e
	} else {
		*m = slices.Insert(*m, i, e)
	}
	return found
}

func (m *model) delete(key entry) bool {
	i, found := m.find(key)
	if found {
		*m = slices.Delete(*m, i, i+1)
	}
	return found
}

// fuzzer applies random operations to a tree and its model and compares.
type fuzzer struct {
	t     *testing.T
	rng   *rand.Rand
	area  *area
	cache *btree.Cache
	tree  *btree.Tree[entry]
	model model
	mu    sync.Mutex
	space uint64 // chunks
}

func (f *fuzzer) key() entry {
	return entry{Chunk: f.rng.Uint64N(f.space), Gen: 1 + f.rng.Uint64N(3), Slot: f.rng.Uint64N(1 << 30), Sum: f.rng.Uint32()}
}

func (f *fuzzer) resolve(fn func() error) {
	f.t.Helper()
	require.NoError(f.t, btree.Resolve(&f.mu, fn))
}

func (f *fuzzer) insert(e entry) {
	want := f.model.insert(e)
	f.resolve(func() error {
		got, err := f.tree.Insert(e)
		if err == nil {
			require.Equal(f.t, want, got)
		}
		return err
	})
}

func (f *fuzzer) delete(key entry) {
	want := f.model.delete(key)
	f.resolve(func() error {
		got, err := f.tree.Delete(key)
		if err == nil {
			require.Equal(f.t, want, got, key)
		}
		return err
	})
}

// run inserts or deletes a run of entries.
func (f *fuzzer) run(insert bool) {
	e := f.key()
	for range 1 + f.rng.IntN(200) {
		if insert {
			f.insert(e)
		} else {
			f.delete(e)
		}
		e = entryCodec{}.Next(e)
		e.Sum = f.rng.Uint32()
	}
}

func (f *fuzzer) lookUp() {
	key := f.key()
	i, found := f.model.find(key)
	f.resolve(func() error {
		got, ok, err := f.tree.Ceiling(key)
		if err != nil {
			return err
		}
		require.Equal(f.t, i < len(f.model), ok)
		if ok {
			require.Equal(f.t, f.model[i], got)
		}
		return nil
	})
	f.resolve(func() error {
		got, ok, err := f.tree.Floor(key)
		if err != nil {
			return err
		}
		j := i - 1
		if found {
			j = i
		}
		require.Equal(f.t, j >= 0, ok)
		if ok {
			require.Equal(f.t, f.model[j], got)
		}
		return nil
	})
	limit := f.rng.IntN(2000)
	f.resolve(func() error {
		got, err := f.tree.Scan(key, limit, []entry{{}})
		if err != nil {
			require.Len(f.t, got, 1)
			return err
		}
		require.Equal(f.t, append([]entry{{}}, f.model[i:min(i+limit, len(f.model))]...), got)
		return nil
	})
}

func (f *fuzzer) checkpoint(reopen bool) {
	root := f.area.checkpoint(f.t, f.cache, f.tree)
	require.Equal(f.t, uint64(len(f.model)), root.Entries)
	var pages []block.Page
	require.NoError(f.t, f.tree.Pages(func(p block.Page, _ bool) error {
		pages = append(pages, p)
		return nil
	}))
	require.Len(f.t, f.area.pages, len(pages), "pages in use are those not freed")
	for _, p := range pages {
		require.Contains(f.t, f.area.pages, p)
	}
	if reopen {
		f.tree = f.area.open(f.cache, root)
	}
}

func (f *fuzzer) step() {
	switch n := f.rng.IntN(100); {
	case n < 35:
		f.insert(f.key())
	case n < 60:
		if len(f.model) > 0 {
			f.delete(f.model[f.rng.IntN(len(f.model))])
		}
	case n < 62:
		f.delete(f.key())
	case n < 80:
		f.run(true)
	case n < 92:
		f.run(false)
	case n < 98:
		f.lookUp()
	default:
		f.checkpoint(n == 99)
	}
	require.Equal(f.t, uint64(len(f.model)), f.tree.Len())
}

func TestRandomOperationsAgainstModel(t *testing.T) {
	for _, cacheSize := range []int64{0, 200 << 10, roomy} {
		for seed := range uint64(4) {
			t.Run(fmt.Sprintf("cache=%d/seed=%d", cacheSize, seed), func(t *testing.T) {
				t.Parallel()
				f := &fuzzer{
					t: t, rng: rand.New(rand.NewPCG(seed, 1)), area: newArea(),
					cache: btree.NewCache(cacheSize), space: []uint64{300, 20000, 1 << 20, 1 << 40}[seed],
				}
				f.tree = f.area.create(f.cache)
				for i := range 250 {
					f.step()
					if i%5 == 0 {
						require.NoError(t, f.tree.CheckDirty())
					}
				}
				f.checkpoint(true)
				require.Equal(t, []entry(f.model), all(t, f.tree))
				f.drain()
			})
		}
	}
}

// drain deletes all entries in random order.
func (f *fuzzer) drain() {
	rest := slices.Clone(f.model)
	f.rng.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
	for i, e := range rest {
		f.delete(e)
		if i%1000 == 0 {
			require.NoError(f.t, f.tree.CheckDirty())
			f.checkpoint(false)
		}
	}
	f.checkpoint(true)
	require.Equal(f.t, btree.Root{}, f.tree.Root())
	require.Empty(f.t, f.area.pages)
	require.Zero(f.t, f.cache.DirtyPages())
}
