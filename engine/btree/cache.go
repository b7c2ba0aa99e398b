// SPDX-License-Identifier: Apache-2.0

package btree

import (
	"sync"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
)

// Cache holds the decoded nodes of any number of trees of one metadata area,
// within a bound. When the nodes exceed it, clean nodes are dropped by second
// chance: each that was used since the hand's last passing is spared once.
// Dirty nodes are counted but cannot be dropped, and neither can the nodes of a
// checkpoint that is being written (see [Cache.AdvanceEpoch]) nor those that a
// [Resolve] waits for. A Cache is safe for concurrent use.
type Cache struct {
	buffers sync.Pool // *[]byte, aligned, of block.PageSize: for reading

	mu    sync.Mutex // guards all below
	limit int64
	used  int64 // bytes of all nodes
	fixed int64 // bytes of those that are dirty or held
	dirty int
	epoch uint64
	pages map[block.Page]*slot
	clock ring // the slots that may be dropped
	held  ring // those whose pages may not be on the device yet
	hand  int  // in the clock
}

// slot is a clean node in the cache. All fields are guarded by the cache's mu.
type slot struct {
	page  block.Page
	node  any // *node[E], immutable while here
	bytes int64
	home  *ring // where the slot is: the clock or held
	at    int   // position there
	pins  int   // Resolves that wait for it
	used  bool  // since the hand's last passing
}

// ring is a set of slots in no particular order. Its cache's mu guards it.
type ring []*slot

func (r *ring) add(s *slot) {
	s.home, s.at = r, len(*r)
	*r = append(*r, s)
}

// remove puts the last slot in the place of s.
func (r *ring) remove(s *slot) {
	last := len(*r) - 1
	(*r)[s.at] = (*r)[last]
	(*r)[s.at].at = s.at
	(*r)[last] = nil
	*r = (*r)[:last]
}

// NewCache returns an empty cache that keeps at most limit bytes of decoded
// nodes, as far as the nodes that cannot be dropped allow.
func NewCache(limit int64) *Cache {
	c := &Cache{limit: limit, pages: make(map[block.Page]*slot)}
	c.buffers.New = func() any {
		b := device.Buffer(block.PageSize)
		return &b
	}
	return c
}

// AdvanceEpoch tells the cache that the pages of the last checkpoint are on the
// device, and that those which it freed may be handed out again from now on.
// Call it once for each checkpoint, before the next one's [Tree.Checkpoint] and
// before the first reuse of an address. Until then the checkpoint's nodes stay in
// the cache, so that nobody reads a page before it is written; and a read that
// began earlier is dropped, because its address may hold something else.
func (c *Cache) AdvanceEpoch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++
	for _, s := range c.held {
		c.clock.add(s)
		c.fixed -= s.bytes
	}
	c.held = nil
	c.evict(nil)
}

// Fixed returns the memory of the nodes that only a checkpoint makes droppable:
// those that are dirty, and those of a checkpoint that is being written.
func (c *Cache) Fixed() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fixed
}

// Bytes returns the memory that all nodes take, dirty ones included.
func (c *Cache) Bytes() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.used
}

// get returns the clean node of page, or nil, and the epoch.
func (c *Cache) get(page block.Page) (node any, epoch uint64) {
	c.mu.Lock()
	if s := c.pages[page]; s != nil {
		s.used = true
		node = s.node
	}
	epoch = c.epoch
	c.mu.Unlock()
	return node, epoch
}

// now returns the epoch.
func (c *Cache) now() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.epoch
}

// loaded adds a node that was read from its page in the given epoch, unless that
// has passed, and pins it for p, which may be nil. A node that is there already
// stays.
func (c *Cache) loaded(page block.Page, node any, bytes int64, epoch uint64, p *pins) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if epoch != c.epoch {
		return
	}
	s := c.pages[page]
	if s == nil {
		s = c.add(&c.clock, page, node, bytes)
	}
	if p != nil {
		s.pins++
		p.slots = append(p.slots, pinned{c, s})
	}
	c.evict(s)
}

// cleaned adds a node that a checkpoint has just handed over for writing, and
// that was dirty until now. It takes the place of whatever the page held before.
func (c *Cache) cleaned(page block.Page, node any, bytes, charge int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(page)
	c.dirty--
	c.count(-charge)
	c.add(&c.held, page, node, bytes)
	c.fixed += bytes
	c.evict(nil)
}

// taken removes the clean node of page, if it is there, because it becomes dirty.
func (c *Cache) taken(page block.Page, charge int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(page)
	c.dirty++
	c.count(charge)
	c.evict(nil)
}

// created counts a new dirty node.
func (c *Cache) created(charge int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dirty++
	c.count(charge)
	c.evict(nil)
}

// resized counts that a dirty node has grown, or shrunk, by delta bytes.
func (c *Cache) resized(delta int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count(delta)
	c.evict(nil)
}

// count adds bytes of dirty nodes. The caller holds mu.
func (c *Cache) count(bytes int64) {
	c.used += bytes
	c.fixed += bytes
}

// discarded forgets a node that left its tree: a dirty one by its charge, a
// clean one by its page.
func (c *Cache) discarded(page block.Page, dirty bool, charge int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if dirty {
		c.dirty--
		c.count(-charge)
		return
	}
	c.remove(page)
}

// add puts a clean node into the cache, at home in r. The caller holds mu.
func (c *Cache) add(r *ring, page block.Page, node any, bytes int64) *slot {
	s := &slot{page: page, node: node, bytes: bytes, used: true}
	r.add(s)
	c.pages[page] = s
	c.used += bytes
	return s
}

// remove drops the node of page if there is one. The caller holds mu.
func (c *Cache) remove(page block.Page) {
	s := c.pages[page]
	if s == nil {
		return
	}
	delete(c.pages, page)
	if s.home == &c.held {
		c.fixed -= s.bytes
	}
	s.home.remove(s)
	c.used -= s.bytes
}

// evict drops clean nodes other than keep until the bound holds or the hand has
// passed all twice. The caller holds mu.
func (c *Cache) evict(keep *slot) {
	for range 2 * len(c.clock) {
		if c.used <= c.limit || len(c.clock) == 0 {
			return
		}
		if c.hand >= len(c.clock) {
			c.hand = 0
		}
		switch s := c.clock[c.hand]; {
		case s == keep || s.pins > 0:
			c.hand++
		case s.used:
			s.used = false
			c.hand++
		default:
			c.remove(s.page) // the last one takes its place under the hand
		}
	}
}
