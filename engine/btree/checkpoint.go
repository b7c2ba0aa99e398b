// SPDX-License-Identifier: Apache-2.0

package btree

import (
	"fmt"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
)

// slabPages is how many page images share one allocation.
const slabPages = 16

// Checkpoint gives every dirty page a fresh address, codes it, as written by the
// checkpoint of that number, and hands its image
// to write, children before parents, left to right. Write takes the image over:
// block.PageSize bytes, aligned for O_DIRECT. Then it calls free for each page of
// earlier checkpoints that the tree has left since; such an address must not be
// handed out again before the new root is durable and [Cache.AdvanceEpoch] was
// called, which is due as well once all images are on the device. It returns the
// new root, and all pages are clean. The tree may be changed at once.
//
// Checkpoint itself does no I/O. Alloc is called [Tree.Dirty] times before
// anything else. If alloc or write fails, the tree is as it was, free was not
// called, and the addresses that alloc gave out in this call are unused.
func (t *Tree[E]) Checkpoint(
	number uint64, alloc func() (block.Page, error), free func(block.Page), write func(p block.Page, image []byte) error,
) (Root, error) {
	addresses := make([]block.Page, t.dirty)
	for i := range addresses {
		p, err := alloc()
		if err != nil {
			return Root{}, fmt.Errorf("allocating %d pages for tree kind %d: %w", t.dirty, t.kind, err)
		}
		addresses[i] = p
	}
	c := checkpoint[E]{tree: t, number: number, addresses: addresses, write: write}
	if err := c.emit(&t.root); err != nil {
		return Root{}, fmt.Errorf("checkpoint of tree kind %d: %w", t.kind, err)
	}
	t.clean(&t.root)
	for _, p := range t.freed {
		free(p)
	}
	t.freed = nil
	return t.Root(), nil
}

// checkpoint is a Checkpoint under way.
type checkpoint[E any] struct {
	tree      *Tree[E]
	number    uint64
	addresses []block.Page // not yet given out
	write     func(p block.Page, image []byte) error
	slab      []byte       // not yet given out
	children  []block.Page // scratch
}

// emit gives the dirty nodes from r down their addresses and writes them out. It
// does not make them clean: a reference with an address and a node is dirty.
func (c *checkpoint[E]) emit(r *ref[E]) error {
	n := r.node
	if n == nil {
		return nil
	}
	for i := range n.kids {
		if err := c.emit(&n.kids[i]); err != nil {
			return err
		}
	}
	r.page, c.addresses = c.addresses[0], c.addresses[1:]
	c.children = c.children[:0]
	for _, kid := range n.kids {
		c.children = append(c.children, kid.page)
	}
	h := layout.PageHeader{Kind: n.kind, Level: n.level, Page: r.page, Identity: c.tree.identity, Checkpoint: c.number}
	image := c.image()
	if err := layout.EncodePage(c.tree.codec, h, n.entries, c.children, image); err != nil {
		return err
	}
	return c.write(r.page, image)
}

// image returns an aligned buffer of zeroes for one page.
func (c *checkpoint[E]) image() []byte {
	if len(c.slab) == 0 {
		c.slab = device.Buffer(min(slabPages, len(c.addresses)+1) * block.PageSize)
	}
	image := c.slab[:block.PageSize:block.PageSize]
	c.slab = c.slab[block.PageSize:]
	return image
}

// clean hands the dirty nodes from r down, which have been emitted, to the cache.
func (t *Tree[E]) clean(r *ref[E]) {
	n := r.node
	if n == nil {
		return
	}
	for i := range n.kids {
		t.clean(&n.kids[i])
	}
	n.page, n.dirty, r.node = r.page, false, nil
	t.dirty--
	t.cache.cleaned(n.page, n, n.memory(), n.charge)
}
