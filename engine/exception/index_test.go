// SPDX-License-Identifier: Apache-2.0

package exception_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/btree"
	"zumastor.org/zumastor/engine/exception"
	"zumastor.org/zumastor/engine/layout"
)

var (
	testUUID = layout.UUID{6}
	errRead  = errors.New("medium error")
)

// pages is a metadata area in memory.
type pages struct {
	images map[block.Page][]byte
	next   block.Page
	reads  int
	failAt int // the number of the read that fails, if above 0
	cache  *btree.Cache
}

func (p *pages) ReadPage(page block.Page, buf []byte) error {
	if p.reads++; p.reads == p.failAt {
		return errRead
	}
	copy(buf, p.images[page])
	return nil
}

func newIndex(cacheBytes int64) (*exception.Index, *pages) {
	p := &pages{images: map[block.Page][]byte{}, cache: btree.NewCache(cacheBytes)}
	return &exception.Index{
		Exceptions: btree.New(layout.ExceptionCodec{}, layout.KindExceptions, p, p.cache, testUUID),
		Changes:    btree.New(layout.ChangeCodec{}, layout.KindChanges, p, p.cache, testUUID),
	}, p
}

// clean makes all pages durable, so that they may be dropped from memory.
func (p *pages) clean(t testing.TB, x *exception.Index) {
	t.Helper()
	alloc := func() (block.Page, error) { p.next++; return p.next, nil }
	write := func(page block.Page, image []byte) error {
		p.images[page] = image
		return nil
	}
	_, err := x.Exceptions.Checkpoint(1, alloc, func(block.Page) {}, write)
	require.NoError(t, err)
	_, err = x.Changes.Checkpoint(1, alloc, func(block.Page) {}, write)
	require.NoError(t, err)
	p.cache.AdvanceEpoch()
}

func resolve(fn func() error) error {
	var mu sync.Mutex
	return btree.Resolve(&mu, fn)
}

// key is a chunk of a branch.
type key struct {
	branch block.Branch
	chunk  block.Chunk
}

// model is the exceptions by chunk and generation.
type model map[key]map[block.Generation]layout.Exception

func (m model) insert(e layout.Exception) {
	k := key{e.Branch, e.Chunk}
	if m[k] == nil {
		m[k] = map[block.Generation]layout.Exception{}
	}
	m[k][e.Generation] = e
}

// at says by the rule what a snapshot of generation g reads.
func (m model) at(k key, g block.Generation) (best layout.Exception, ok bool) {
	for _, e := range m[k] {
		if e.Generation >= g && (!ok || e.Generation < best.Generation) {
			best, ok = e, true
		}
	}
	return best, ok
}

func (m model) before(k key, g block.Generation) (before block.Generation) {
	for _, e := range m[k] {
		if e.Generation < g {
			before = max(before, e.Generation)
		}
	}
	return before
}

func (m model) newest(k key) (layout.Exception, bool) {
	g := m.before(k, math.MaxUint64)
	return m[k][g], g != 0
}

func compare(t *testing.T, m model, x *exception.Index, k key, g block.Generation) {
	t.Helper()
	require.NoError(t, resolve(func() error {
		e, ok, err := x.At(k.branch, k.chunk, g)
		if err != nil {
			return err
		}
		want, there := m.at(k, g)
		require.Equal(t, there, ok, "at %v, generation %d", k, g)
		if ok {
			require.Equal(t, want, e)
		}
		e, ok, err = x.Newest(k.branch, k.chunk)
		if err != nil {
			return err
		}
		want, there = m.newest(k)
		require.Equal(t, there, ok, "newest of %v", k)
		if ok {
			require.Equal(t, want, e)
		}
		before, err := x.Before(k.branch, k.chunk, g)
		if err != nil {
			return err
		}
		require.Equal(t, m.before(k, g), before, "before %d of %v", g, k)
		return nil
	}))
}

// mirror checks that both trees hold the same exceptions.
func mirror(t *testing.T, m model, x *exception.Index) {
	t.Helper()
	changes := map[layout.Change]bool{}
	require.NoError(t, x.Changes.Ascend(layout.Change{}, func(c layout.Change) bool {
		changes[c] = true
		return true
	}))
	n := 0
	require.NoError(t, x.Exceptions.Ascend(layout.Exception{}, func(e layout.Exception) bool {
		require.Equal(t, m[key{e.Branch, e.Chunk}][e.Generation], e)
		require.True(t, changes[layout.Change{Branch: e.Branch, Generation: e.Generation, Chunk: e.Chunk}])
		n++
		return true
	}))
	require.Len(t, changes, n)
	total := 0
	for _, gens := range m {
		total += len(gens)
	}
	require.Equal(t, total, n)
}

// random returns an exception among few chunks and generations, so that they meet.
func random(rng *rand.Rand) layout.Exception {
	e := layout.Exception{
		Branch: block.Branch(rng.IntN(3)), Chunk: block.Chunk(rng.IntN(12)), Generation: block.Generation(1 + rng.IntN(20)),
		Slot: block.Slot(rng.Uint64N(1 << 40)), Sum: rng.Uint32(),
	}
	if rng.IntN(10) == 0 {
		e.Chunk = math.MaxUint64 >> 1
	}
	return e
}

// The index answers as the rule of versions says, for every chunk and generation,
// with everything in memory and with nothing.
func TestRuleOfVersions(t *testing.T) {
	for _, cache := range []int64{1 << 20, 0} {
		for seed := range uint64(4) {
			rng := rand.New(rand.NewPCG(seed, 4))
			x, p := newIndex(cache)
			m := model{}
			for range 150 {
				e := random(rng)
				require.NoError(t, resolve(func() error { return x.Insert(e) }))
				m.insert(e)
				if rng.IntN(20) == 0 {
					p.clean(t, x)
				}
				compare(t, m, x, key{e.Branch, e.Chunk}, block.Generation(rng.IntN(22)))
			}
			p.clean(t, x)
			for b := range block.Branch(4) {
				for _, c := range []block.Chunk{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, math.MaxUint64 >> 1} {
					for _, g := range []block.Generation{0, 1, 2, 7, 19, 20, 21, math.MaxUint64} {
						compare(t, m, x, key{b, c}, g)
					}
				}
			}
			mirror(t, m, x)
		}
	}
}

func TestEmptyIndex(t *testing.T) {
	x, _ := newIndex(0)
	for _, g := range []block.Generation{0, 1, math.MaxUint64} {
		compare(t, model{}, x, key{}, g)
	}
}

// An exception of generation g serves the snapshots after its predecessor's up to
// g.
func TestWhoAnExceptionServes(t *testing.T) {
	x, _ := newIndex(1 << 20)
	for _, g := range []block.Generation{3, 7} {
		require.NoError(t, x.Insert(layout.Exception{Chunk: 5, Generation: g, Slot: block.Slot(g) * 100}))
	}
	require.NoError(t, x.Insert(layout.Exception{Chunk: 6, Generation: 9}))
	require.NoError(t, x.Insert(layout.Exception{Chunk: 4, Generation: 1}))
	serves := map[block.Generation]block.Slot{1: 300, 3: 300, 4: 700, 7: 700}
	for g := range block.Generation(12) {
		e, ok, err := x.At(0, 5, max(1, g))
		require.NoError(t, err)
		require.Equal(t, g <= 7, ok, "generation %d", g)
		if slot, named := serves[g]; named {
			require.Equal(t, slot, e.Slot)
		}
	}
	for g, want := range map[block.Generation]block.Generation{0: 0, 1: 0, 3: 0, 4: 3, 7: 3, 8: 7} {
		before, err := x.Before(0, 5, g)
		require.NoError(t, err)
		require.Equal(t, want, before, "before %d", g)
	}
}

// Inserting a chunk and generation again, as a replay does, replaces it.
func TestInsertAgainReplaces(t *testing.T) {
	x, _ := newIndex(1 << 20)
	m := model{}
	for slot := range block.Slot(3) {
		e := layout.Exception{Chunk: 1, Generation: 2, Slot: slot, Sum: uint32(slot)}
		require.NoError(t, x.Insert(e))
		m.insert(e)
		mirror(t, m, x)
	}
}

// An Insert whose read fails has at most noted the change: making it again, with
// the medium well, leaves both trees each other's mirror.
func TestInsertAfterFailedReads(t *testing.T) {
	for nth := 1; ; nth++ {
		rng := rand.New(rand.NewPCG(1, 4))
		x, p := newIndex(0)
		m := model{}
		for range 3000 {
			e := random(rng)
			e.Chunk = block.Chunk(rng.Uint64N(1 << 30))
			require.NoError(t, x.Insert(e))
			m.insert(e)
		}
		p.clean(t, x)
		e := layout.Exception{Chunk: 1 << 29, Generation: 30, Slot: 5}
		p.failAt = p.reads + nth
		err := resolve(func() error { return x.Insert(e) })
		if err == nil {
			require.GreaterOrEqual(t, nth, 5)
			return
		}
		require.ErrorIs(t, err, errRead)
		require.NoError(t, resolve(func() error {
			_, ok, err := x.At(0, e.Chunk, e.Generation)
			require.False(t, ok, "half an insert is seen")
			return err
		}))
		require.NoError(t, resolve(func() error { return x.Insert(e) }))
		m.insert(e)
		mirror(t, m, x)
	}
}

// Changes are found by generation, in order of chunk.
func TestChangesByGeneration(t *testing.T) {
	x, _ := newIndex(1 << 20)
	var want []layout.Change
	for _, g := range []block.Generation{5, 2, 9} {
		for _, c := range []block.Chunk{8, 1, 3} {
			require.NoError(t, x.Insert(layout.Exception{Chunk: c, Generation: g}))
			want = append(want, layout.Change{Generation: g, Chunk: c})
		}
	}
	slices.SortFunc(want, layout.ChangeCodec{}.Compare)
	got, err := x.Changes.Scan(layout.Change{Generation: 3}, 10, nil)
	require.NoError(t, err)
	require.Equal(t, want[3:], got)
}
