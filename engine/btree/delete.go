// SPDX-License-Identifier: Apache-2.0

package btree

import (
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

// A node that shrinks below mergeBelow bytes is merged with a neighbour if both
// fit into mergeTo bytes. The gap keeps a merge from being undone by the next
// inserts.
const (
	mergeBelow = block.PageSize / 3
	mergeTo    = block.PageSize * 3 / 4
)

// Delete removes the entry that compares equal to key.
func (t *Tree[E]) Delete(key E) (found bool, err error) {
	if t.root.empty() {
		return false, nil
	}
	var p path[E]
	if err := t.descend(key, &p); err != nil {
		return false, err
	}
	if p[0].i, found = t.find(p[0].n, key); !found {
		return false, nil
	}
	var partners path[E]
	if err := t.planMerges(&p, &partners); err != nil {
		return false, err
	}
	t.touch(&p)
	t.removeAt(p[0].n, p[0].i)
	t.entries--
	t.shrink(&p, &partners)
	return true, nil
}

// planMerges finds the neighbours with which the nodes on p must be merged once
// the entry at p is removed, and puts them at their levels into partners, with
// their positions in the parent. Only here can a delete miss a page.
func (t *Tree[E]) planMerges(p, partners *path[E]) error {
	remove := p[0].i // from the node at level
	for level := range int(t.level) {
		n, up := p[level].n, p[level+1]
		count := len(n.entries) - 1
		if count == 0 {
			remove = up.i // the node leaves its parent
			continue
		}
		after := pageBytes(n.level, count, n.size+t.removal(n, remove))
		if after >= mergeBelow {
			return nil
		}
		at := up.i - 1
		if at < 0 {
			at = 1
		}
		if at >= len(up.n.kids) {
			return nil
		}
		partner, err := t.node(up.n.kids[at], n.level)
		if err != nil {
			return err
		}
		if after+partner.bytes()-layout.PageHeaderSize > mergeTo || count+len(partner.entries) > MaxEntries {
			return nil
		}
		partners[level] = step[E]{n: partner, i: at}
		remove = max(at, up.i)
	}
	return nil
}

// shrink sets the tree right after the removal of the entry at p.
func (t *Tree[E]) shrink(p, partners *path[E]) {
	for level := 0; level < int(t.level); level++ {
		n, up := p[level].n, p[level+1]
		switch {
		case len(n.entries) == 0:
			t.discard(n)
			t.removeAt(up.n, up.i)
		case partners[level].n != nil:
			t.touchRef(&up.n.kids[partners[level].i], partners[level].n)
			t.merge(up.n, min(up.i, partners[level].i))
		default:
			t.splitUp(p, level, false) // a run that was broken takes more bytes
			return
		}
	}
	t.collapse()
}

// merge appends the child after i of the parent to child i. Both are dirty.
func (t *Tree[E]) merge(parent *node[E], i int) {
	left, right := parent.kids[i].node, parent.kids[i+1].node
	if left.level > 0 {
		// The first entry of right bounds nothing; among left's it must.
		right.entries[0] = parent.entries[i+1]
	}
	left.entries = append(left.entries, right.entries...)
	left.kids = append(left.kids, right.kids...)
	t.measure(left)
	t.recharge(left)
	t.discard(right)
	t.removeAt(parent, i+1)
}

// collapse takes away roots that have a single child or no entry.
func (t *Tree[E]) collapse() {
	for n := t.root.node; n != nil && n.dirty; n = t.root.node {
		switch {
		case len(n.entries) == 0:
			t.root, t.level = ref[E]{}, 0
		case len(n.entries) == 1 && n.level > 0:
			t.root = n.kids[0]
			t.level--
		default:
			if n.overfull() {
				var p path[E]
				p[t.level].n = n
				t.splitUp(&p, int(t.level), false)
			}
			return
		}
		t.discard(n)
	}
}
