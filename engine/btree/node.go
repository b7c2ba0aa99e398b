// SPDX-License-Identifier: Apache-2.0

package btree

import (
	"slices"
	"unsafe"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

// node is a decoded page. A clean node is what its page holds; it never changes
// until the tree takes it out of the cache and makes it dirty. A dirty node
// belongs to the tree and is pointed to by its parent or the root.
type node[E any] struct {
	kind    uint8
	level   uint8 // 0 for a leaf
	dirty   bool
	page    block.Page // of a clean node
	size    int        // coded bytes of the entries and children, without the bitmap
	charge  int64      // bytes that the cache counts for a dirty node
	entries []E        // of an inner node: lower bounds of the children; the first bounds nothing
	kids    []ref[E]   // of an inner node, one for each entry
	last    int        // of a leaf: where the last insert was, as far as is known
	streak  int        // and how many inserts before it each came right after one another
}

// ascendingStreak is how many inserts, each right after the one before, make a
// leaf expect more of them. Shorter runs at random places would, if leaves were
// split where they end, leave pages emptier than halving does.
const ascendingStreak = 32

// noteInsert keeps count of inserts that ascend without a gap. It is by leaf, so
// that several ascending streams are told apart.
func (n *node[E]) noteInsert(i int) {
	if i == n.last+1 {
		n.streak++
	} else {
		n.streak = 0
	}
	n.last = i
}

// ref points to a node: by address when it is clean, directly when it is dirty.
type ref[E any] struct {
	page block.Page
	node *node[E] // nil unless dirty
}

func (r ref[E]) empty() bool { return r.page == 0 && r.node == nil }

// bytes returns the length of the node's page if it were coded now.
func (n *node[E]) bytes() int { return pageBytes(n.level, len(n.entries), n.size) }

// pageBytes returns the length of a page of entries that take size bytes.
func pageBytes(level uint8, entries, size int) int {
	if level == 0 {
		size += layout.LeafBitmapSize(entries)
	}
	return layout.PageHeaderSize + size
}

// overfull reports whether the node must be split.
func (n *node[E]) overfull() bool {
	return n.bytes() > block.PageSize || len(n.entries) > MaxEntries
}

// memory returns the bytes that the decoded node occupies, bookkeeping included.
func (n *node[E]) memory() int64 {
	const bookkeeping = 256
	var e E
	return bookkeeping + int64(cap(n.entries))*int64(unsafe.Sizeof(e)) +
		int64(cap(n.kids))*int64(unsafe.Sizeof(ref[E]{}))
}

// find returns the position of the first entry that is not below key, and
// whether it equals key.
func (t *Tree[E]) find(n *node[E], key E) (int, bool) {
	lo, hi := 0, len(n.entries)
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		switch c := t.codec.Compare(n.entries[mid], key); {
		case c == 0:
			return mid, true
		case c < 0:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return lo, false
}

// childFor returns the position of the child of n whose range holds key.
func (t *Tree[E]) childFor(n *node[E], key E) int {
	i, found := t.find(n, key)
	if found || i == 0 {
		return i
	}
	return i - 1
}

// cost returns the coded bytes of e after prev in a node of the level.
func (t *Tree[E]) cost(level uint8, prev, e E, first bool) int {
	if level == 0 && !first && t.codec.Follows(prev, e) {
		return t.codec.ExtraSize()
	}
	t.scratch = t.codec.Append(t.scratch[:0], prev, e, first)
	if level == 0 {
		return len(t.scratch)
	}
	return len(t.scratch) + layout.ChildSize
}

// costAt returns the coded bytes of n's entry i; none if there is no such entry.
func (t *Tree[E]) costAt(n *node[E], i int) int {
	var zero E
	switch {
	case i == 0:
		return t.cost(n.level, zero, n.entries[0], true)
	case i < len(n.entries):
		return t.cost(n.level, n.entries[i-1], n.entries[i], false)
	}
	return 0
}

// removal returns how many bytes n.size grows by (mostly a negative number) when
// entry i is removed. An entry's removal may break a run.
func (t *Tree[E]) removal(n *node[E], i int) int {
	d := -t.costAt(n, i)
	if i+1 == len(n.entries) {
		return d
	}
	var prev E
	if i > 0 {
		prev = n.entries[i-1]
	}
	return d - t.costAt(n, i+1) + t.cost(n.level, prev, n.entries[i+1], i == 0)
}

// insertAt puts e, and for an inner node its child, at position i.
func (t *Tree[E]) insertAt(n *node[E], i int, e E, kid ref[E]) {
	if i < len(n.entries) {
		n.size -= t.costAt(n, i)
	}
	n.entries = slices.Insert(n.entries, i, e)
	if n.level > 0 {
		n.kids = slices.Insert(n.kids, i, kid)
	}
	n.size += t.costAt(n, i) + t.costAt(n, i+1)
	t.recharge(n)
}

// recharge has the cache count the dirty node n as what it takes now.
func (t *Tree[E]) recharge(n *node[E]) {
	if m := n.memory(); m != n.charge {
		t.cache.resized(m - n.charge)
		n.charge = m
	}
}

// replaceAt puts e in the place of entry i.
func (t *Tree[E]) replaceAt(n *node[E], i int, e E) {
	n.size -= t.costAt(n, i) + t.costAt(n, i+1)
	n.entries[i] = e
	n.size += t.costAt(n, i) + t.costAt(n, i+1)
}

// removeAt removes entry i, and for an inner node its child.
func (t *Tree[E]) removeAt(n *node[E], i int) {
	n.size += t.removal(n, i)
	n.entries = slices.Delete(n.entries, i, i+1)
	if n.level > 0 {
		n.kids = slices.Delete(n.kids, i, i+1)
	}
}

// measure sets n.size anew.
func (t *Tree[E]) measure(n *node[E]) {
	n.size = 0
	for i := range n.entries {
		n.size += t.costAt(n, i)
	}
}

// middle returns the position that halves n by coded bytes.
func (t *Tree[E]) middle(n *node[E]) int {
	size, half := 0, n.size/2
	for i := range n.entries {
		if size += t.costAt(n, i); size >= half {
			return max(1, min(i, len(n.entries)-1))
		}
	}
	return len(n.entries) / 2
}

// decodeNode reads a page into a clean node; want says which page it must be.
func (t *Tree[E]) decodeNode(page []byte, want layout.PageHeader) (*node[E], error) {
	p, err := layout.DecodePage(t.codec, want, page)
	if err != nil {
		return nil, err
	}
	n := &node[E]{kind: t.kind, level: want.Level, page: want.Page, entries: p.Entries, size: p.Length}
	if want.Level == 0 {
		n.size -= layout.LeafBitmapSize(len(p.Entries))
		return n, nil
	}
	n.kids = make([]ref[E], len(p.Children))
	for i, c := range p.Children {
		n.kids[i].page = c
	}
	return n, nil
}
