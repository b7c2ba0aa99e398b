// SPDX-License-Identifier: Apache-2.0

package btree

import "fmt"

// CheckDirty verifies what must hold of the dirty nodes between operations:
// their sizes, order, bounds, and the tree's count of them.
func (t *Tree[E]) CheckDirty() error {
	count := 0
	if err := t.checkDirty(t.root.node, t.level, nil, nil, &count); err != nil {
		return err
	}
	if count != t.dirty {
		return fmt.Errorf("%d dirty nodes, counted %d", count, t.dirty)
	}
	return nil
}

// checkDirty is CheckDirty for n and below. Entries must be in [low, high).
func (t *Tree[E]) checkDirty(n *node[E], level uint8, low, high *E, count *int) error {
	if n == nil {
		return nil
	}
	*count++
	size := n.size
	t.measure(n)
	switch {
	case size != n.size:
		return fmt.Errorf("size %d, measured %d", size, n.size)
	case n.overfull() || len(n.entries) == 0 || !n.dirty || n.level != level || n.kind != t.kind:
		return fmt.Errorf("malformed node: %d entries, %d bytes, level %d", len(n.entries), n.bytes(), n.level)
	case level > 0 && len(n.kids) != len(n.entries), level == 0 && n.kids != nil:
		return fmt.Errorf("%d children of %d entries", len(n.kids), len(n.entries))
	}
	for i := range n.entries {
		e, next := &n.entries[i], high
		if i+1 < len(n.entries) {
			next = &n.entries[i+1]
		}
		bounds := level == 0 || i > 0
		if bounds && low != nil && t.codec.Compare(*low, *e) > 0 || next != nil && bounds && t.codec.Compare(*e, *next) >= 0 {
			return fmt.Errorf("entry %d of level %d out of order", i, level)
		}
		if level > 0 {
			from := low
			if i > 0 {
				from = e
			}
			if err := t.checkDirty(n.kids[i].node, level-1, from, next, count); err != nil {
				return err
			}
		}
	}
	return nil
}

// DirtyPages returns the number of dirty nodes of all trees.
func (c *Cache) DirtyPages() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dirty
}
