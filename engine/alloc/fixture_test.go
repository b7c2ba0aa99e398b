// SPDX-License-Identifier: Apache-2.0

package alloc_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/alloc"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/btree"
	"zumastor.org/zumastor/engine/layout"
)

var testUUID = layout.UUID{1, 2, 3}

// run returns the slots [first, end).
func run(first, end uint64) layout.SlotRun {
	return layout.SlotRun{First: block.Slot(first), Len: end - first}
}

func size(runs []layout.SlotRun) uint64 {
	n := uint64(0)
	for _, r := range runs {
		n += r.Len
	}
	return n
}

// lock is a sync.Locker that stands in for the store's. What others do with the
// lock while a Resolve reads a page is done by between, each time.
type lock struct {
	taken   int
	between func()
}

func (l *lock) Lock() {
	if l.taken++; l.taken > 1 && l.between != nil {
		l.between()
	}
}

func (l *lock) Unlock() {}

// area is a metadata area in memory that holds a slot tree alone.
type area struct {
	pages  map[block.Page][]byte
	alloc  *alloc.Pages
	cache  *btree.Cache
	reads  int
	failAt int // the number of the read that fails, if above 0
}

func newArea(cacheBytes int64) *area {
	return &area{
		pages: map[block.Page][]byte{}, cache: btree.NewCache(cacheBytes),
		alloc: alloc.NewPages(layout.Extent{First: 10, Len: 1 << 20}),
	}
}

func (a *area) ReadPage(p block.Page, buf []byte) error {
	if a.reads++; a.reads == a.failAt {
		return errRead
	}
	copy(buf, a.pages[p])
	return nil
}

func (a *area) tree() *btree.Tree[layout.SlotWord] {
	return btree.New(layout.SlotWordCodec{}, layout.KindSlots, a, a.cache, testUUID)
}

func (a *area) open(root layout.Root) *btree.Tree[layout.SlotWord] {
	return btree.Open(layout.SlotWordCodec{}, layout.KindSlots, a, btree.NewCache(1<<20), testUUID, root)
}

// write makes the tree's pages durable, and returns the root.
func (a *area) write(t testing.TB, tree *btree.Tree[layout.SlotWord]) layout.Root {
	t.Helper()
	a.alloc.Rewind()
	root, err := tree.Checkpoint(1, a.alloc.Alloc, a.alloc.Defer, func(p block.Page, image []byte) error {
		a.pages[p] = image
		return nil
	})
	require.NoError(t, err)
	a.cache.AdvanceEpoch()
	return root
}

// filled returns the state of an area of words words, each with what bits says,
// clean and on its pages.
func (a *area) filled(t testing.TB, words uint64, bitsOf func(index uint64) uint64) *alloc.Slots {
	t.Helper()
	tree, used := a.tree(), uint64(0)
	for i := range words {
		w := layout.SlotWord{Index: i, Bits: bitsOf(i)}
		if w.Bits == 0 {
			continue
		}
		_, err := tree.Insert(w)
		require.NoError(t, err)
		used += onesCount(w.Bits)
	}
	a.write(t, tree)
	return alloc.NewSlots(tree, words*64, used)
}

// random returns a rare, a usual or a dense pattern of bits.
func random(rng *rand.Rand) uint64 {
	switch rng.IntN(4) {
	case 0:
		return rng.Uint64() & rng.Uint64() & rng.Uint64()
	case 1:
		return rng.Uint64() | rng.Uint64() | rng.Uint64()
	case 2:
		return ^uint64(0) << rng.IntN(64)
	}
	return rng.Uint64()
}

// allocated returns the slots that the tree has as allocated, one bool a slot.
func allocated(t testing.TB, tree *btree.Tree[layout.SlotWord], total uint64) []bool {
	t.Helper()
	got := make([]bool, total)
	require.NoError(t, tree.Ascend(layout.SlotWord{}, func(w layout.SlotWord) bool {
		for i := range uint64(64) {
			if w.Bits>>i&1 != 0 {
				got[w.Index*64+i] = true
			}
		}
		return true
	}))
	return got
}
