// SPDX-License-Identifier: Apache-2.0

package btree

import (
	"fmt"
	"slices"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

// MaxEntries bounds the entries of a node, and so the memory of a decoded page,
// however well its entries are coded.
const MaxEntries = layout.MaxPageEntries

// Codec codes and orders the entries of a tree.
type Codec[E any] = layout.EntryCodec[E]

// Root names the topmost page of a tree and counts its entries. The zero Root is
// the empty tree.
type Root = layout.Root

// Pager reads pages of the metadata area.
type Pager interface {
	// ReadPage fills buf, which is aligned and block.PageSize long, with page p.
	// It blocks, is called from many goroutines, and verifies nothing.
	ReadPage(p block.Page, buf []byte) error
}

// Tree is a sorted set of entries. See the package comment for locking.
type Tree[E any] struct {
	codec    Codec[E]
	kind     uint8
	pager    Pager
	cache    *Cache
	identity [16]byte

	root    ref[E]
	level   uint8 // of the root
	entries uint64
	dirty   int          // dirty nodes
	freed   []block.Page // pages of the last checkpoint that the tree has left since
	scratch []byte       // for measuring entries; used by mutations only
}

// New returns an empty tree. Kind is stored in each page and tells the trees of
// one store apart; identity is the store's. Trees of one metadata area may share
// the cache; trees of different ones must not.
func New[E any](codec Codec[E], kind uint8, pager Pager, cache *Cache, identity [16]byte) *Tree[E] {
	return &Tree[E]{codec: codec, kind: kind, pager: pager, cache: cache, identity: identity}
}

// Open returns the tree that root names, as of the checkpoint that returned it.
// It reads nothing yet.
func Open[E any](codec Codec[E], kind uint8, pager Pager, cache *Cache, identity [16]byte, root Root) *Tree[E] {
	t := New(codec, kind, pager, cache, identity)
	t.root.page, t.level, t.entries = root.Page, root.Level, root.Entries
	return t
}

// Root returns the root as of now. Its Page is 0 when the tree has changed since
// the last checkpoint, unless the tree is empty, in which case it is the root.
func (t *Tree[E]) Root() Root {
	r := Root{Level: t.level, Entries: t.entries}
	if t.root.node == nil {
		r.Page = t.root.page
	}
	return r
}

// Len returns the number of entries.
func (t *Tree[E]) Len() uint64 { return t.entries }

// Dirty returns the number of pages that a checkpoint would write now.
func (t *Tree[E]) Dirty() int { return t.dirty }

// step is a node on the way from the root to a leaf, and a position in it: of
// the child taken, or of the entry sought.
type step[E any] struct {
	n *node[E]
	i int
}

// path is the way from the root to a leaf; the index is the level.
type path[E any] [layout.MaxPageLevel + 1]step[E]

// node returns the node that r refers to, which must be of the given level, or a
// [*Miss].
func (t *Tree[E]) node(r ref[E], level uint8) (*node[E], error) {
	if r.node != nil {
		return r.node, nil
	}
	cached, epoch := t.cache.get(r.page)
	if cached == nil {
		return nil, &Miss{Page: r.page, level: level, epoch: epoch, tree: t}
	}
	n, ok := cached.(*node[E])
	if !ok || n.kind != t.kind || n.level != level {
		return nil, fmt.Errorf("tree kind %d: %w", t.kind, &layout.CorruptError{
			What: fmt.Sprintf("tree page %d", r.page), Offset: int64(r.page) * block.PageSize,
			Reason: "belongs to two trees or two levels",
		})
	}
	return n, nil
}

// descend fills p with the way to the leaf whose range holds key. Positions in
// inner nodes are those of the children taken; that in the leaf is not set.
func (t *Tree[E]) descend(key E, p *path[E]) error {
	r := t.root
	for level := int(t.level); ; level-- {
		n, err := t.node(r, uint8(level))
		if err != nil {
			return err
		}
		p[level].n = n
		if level == 0 {
			return nil
		}
		p[level].i = t.childFor(n, key)
		r = n.kids[p[level].i]
	}
}

// Insert adds e, or puts it in the place of the entry that compares equal.
func (t *Tree[E]) Insert(e E) (replaced bool, err error) {
	if t.root.empty() {
		t.root.node = t.create(0, []E{e}, nil)
		t.level, t.entries = 0, 1
		return false, nil
	}
	var p path[E]
	if err := t.descend(e, &p); err != nil {
		return false, err
	}
	t.touch(&p)
	leaf := &p[0]
	if leaf.i, replaced = t.find(leaf.n, e); replaced {
		t.replaceAt(leaf.n, leaf.i, e)
	} else {
		t.insertAt(leaf.n, leaf.i, e, ref[E]{})
		t.entries++
		leaf.n.noteInsert(leaf.i)
	}
	if leaf.n.overfull() {
		t.splitUp(&p, 0, t.ascending(&p))
	}
	return replaced, nil
}

// ascending reports whether more entries are likely to come right after the one
// just inserted at p: it is the tree's last, or goes on a streak.
func (t *Tree[E]) ascending(p *path[E]) bool {
	if p[0].n.streak >= ascendingStreak {
		return true
	}
	for level := range int(t.level) + 1 {
		if p[level].i != len(p[level].n.entries)-1 {
			return false
		}
	}
	return true
}

// touch makes all nodes on p dirty.
func (t *Tree[E]) touch(p *path[E]) { t.touchTo(p, 0) }

// touchRef makes n, which r refers to, dirty.
func (t *Tree[E]) touchRef(r *ref[E], n *node[E]) {
	if n.dirty {
		return
	}
	n.dirty, n.charge = true, n.memory()
	t.cache.taken(n.page, n.charge)
	t.freed = append(t.freed, n.page)
	t.dirty++
	*r = ref[E]{node: n}
}

// create returns a new dirty node. It takes entries and kids over.
func (t *Tree[E]) create(level uint8, entries []E, kids []ref[E]) *node[E] {
	n := &node[E]{kind: t.kind, level: level, dirty: true, entries: entries, kids: kids}
	n.charge = n.memory()
	t.measure(n)
	t.cache.created(n.charge)
	t.dirty++
	return n
}

// discard forgets a node that is no longer part of the tree.
func (t *Tree[E]) discard(n *node[E]) {
	t.cache.discarded(n.page, n.dirty, n.charge)
	if n.dirty {
		t.dirty--
	} else {
		t.freed = append(t.freed, n.page)
	}
}

// splitUp splits the dirty node at level, and those above it for as long as they
// are overfull in turn. Ascending says that more entries will come right after
// the position in p: the split is there, so that full nodes are left behind.
func (t *Tree[E]) splitUp(p *path[E], level int, ascending bool) {
	for p[level].n.overfull() {
		if level == int(t.level) {
			t.grow(p)
		}
		n, at := p[level].n, t.splitPoint(p[level], ascending)
		var kids []ref[E]
		if n.level > 0 {
			kids = slices.Clone(n.kids[at:])
			clear(n.kids[at:])
			n.kids = n.kids[:at]
		}
		right := t.create(n.level, slices.Clone(n.entries[at:]), kids)
		n.entries = n.entries[:at]
		t.measure(n)
		if n.last >= at {
			right.last, right.streak = n.last-at, n.streak
		}
		level++
		up := &p[level]
		if up.i == 0 {
			// The bound of a first child may be above what it holds.
			t.replaceAt(up.n, 0, n.entries[0])
		}
		up.i++
		t.insertAt(up.n, up.i, right.entries[0], ref[E]{node: right})
	}
}

// grow puts a new root above the old one.
func (t *Tree[E]) grow(p *path[E]) {
	old := p[t.level].n
	t.level++
	t.root = ref[E]{node: t.create(t.level, []E{old.entries[0]}, []ref[E]{{node: old}})}
	p[t.level] = step[E]{n: t.root.node}
}

// splitPoint returns the position of the first entry that goes to the right node.
func (t *Tree[E]) splitPoint(s step[E], ascending bool) int {
	if !ascending {
		return t.middle(s.n)
	}
	at := min(s.i+1, len(s.n.entries)-1)
	left := &node[E]{level: s.n.level, entries: s.n.entries[:at]}
	right := &node[E]{level: s.n.level, entries: s.n.entries[at:]}
	t.measure(left)
	t.measure(right)
	if left.overfull() || right.overfull() {
		return t.middle(s.n)
	}
	return at
}
