// SPDX-License-Identifier: Apache-2.0

package btree

import "zumastor.org/zumastor/engine/block"

// Pages calls fn with the address of every page of the last checkpoint that the
// tree still uses, parents before children, until fn returns an error, which
// Pages returns. It reads inner pages only, by itself, and keeps none in memory
// but one for each level and what the cache has room for. The caller must keep
// mutations out. It is for opening: the allocator learns what is in use.
func (t *Tree[E]) Pages(fn func(p block.Page, leaf bool) error) error {
	if t.root.empty() {
		return nil
	}
	return t.walk(t.root, t.level, fn)
}

// walk is Pages for what lies below r, a reference to a node of the given level.
func (t *Tree[E]) walk(r ref[E], level uint8, fn func(p block.Page, leaf bool) error) error {
	if r.node == nil {
		if err := fn(r.page, level == 0); err != nil {
			return err
		}
	}
	if level == 0 {
		return nil
	}
	var n *node[E]
	err := t.reading(func() (err error) {
		n, err = t.node(r, level)
		return err
	})
	if err != nil {
		return err
	}
	for _, kid := range n.kids {
		if err := t.walk(kid, level-1, fn); err != nil {
			return err
		}
	}
	return nil
}
