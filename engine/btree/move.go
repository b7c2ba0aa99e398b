// SPDX-License-Identifier: Apache-2.0

package btree

import "zumastor.org/zumastor/engine/block"

// Move makes dirty the pages that lie at or beyond limit, so that the next
// checkpoint writes them elsewhere: up to n leaves from that of the entry from on,
// all below one page, and the pages above them. It returns the entry from which to
// go on, and whether there is more to go through. After an error, a [*Miss] included,
// it is made again with the same from. Whoever goes through the whole tree so, while
// none of the addresses given out is at or beyond limit, has moved it away from there
// by the next checkpoint.
func (t *Tree[E]) Move(limit block.Page, from E, n int) (next E, more bool, err error) {
	if t.root.empty() {
		return next, false, nil
	}
	var p path[E]
	r := t.root
	for level := int(t.level); level > 0; level-- {
		node, err := t.node(r, uint8(level))
		if err != nil {
			return from, true, err
		}
		p[level] = step[E]{node, t.childFor(node, from)}
		if !node.dirty && node.page >= limit {
			t.touchTo(&p, level)
		}
		r = node.kids[p[level].i]
		if level > 1 && p[level].i+1 < len(node.entries) {
			next, more = node.entries[p[level].i+1], true
		}
	}
	if t.level == 0 {
		_, err := t.moveLeaf(limit, &p, r)
		return next, false, err
	}
	for above := &p[1]; ; above.i++ {
		moved, err := t.moveLeaf(limit, &p, above.n.kids[above.i])
		switch {
		case err != nil:
			return from, true, err
		case above.i+1 == len(above.n.kids):
			return next, more, nil
		case moved:
			n--
		}
		if n <= 0 {
			return above.n.entries[above.i+1], true, nil
		}
	}
}

// moveLeaf makes the leaf at the end of p dirty if it lies at or beyond limit. One
// that is dirty already counts as moved: a Move that was cut short may have been it.
func (t *Tree[E]) moveLeaf(limit block.Page, p *path[E], r ref[E]) (moved bool, err error) {
	if r.node != nil || r.page < limit {
		return r.node != nil, nil
	}
	leaf, err := t.node(r, 0)
	if err != nil {
		return false, err
	}
	p[0].n = leaf
	t.touchTo(p, 0)
	return true, nil
}

// touchTo makes the nodes on p from the root down to a level dirty.
func (t *Tree[E]) touchTo(p *path[E], level int) {
	t.touchRef(&t.root, p[t.level].n)
	for l := int(t.level); l > level; l-- {
		t.touchRef(&p[l].n.kids[p[l].i], p[l-1].n)
	}
}
