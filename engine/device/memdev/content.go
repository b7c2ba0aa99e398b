// SPDX-License-Identifier: Apache-2.0

package memdev

import (
	"bytes"
	"maps"
	"slices"
	"sync"
)

const (
	blockSize = 4096
	// runBlocks neighbouring blocks are in one shard, so that an ordinary
	// request takes one lock.
	runBlocks = 16
	runSize   = runBlocks * blockSize
	shards    = 64
)

// content is a sparse array of bytes: blocks that are not there are zeroes, and
// no block that is there is all zeroes. Clones share blocks until either side
// writes to them.
type content struct {
	shards [shards]shard
}

type shard struct {
	mu     sync.RWMutex
	blocks map[int64]*page
	owner  *owner
}

// page is one block. Only the content whose shard has the same owner may change
// it; for all others it is immutable.
type page struct {
	owner *owner
	data  [blockSize]byte
}

// owner is a token, compared by address; it must not be of size zero.
type owner struct{ _ byte }

func newContent() *content {
	c := new(content)
	for i := range c.shards {
		c.shards[i] = shard{blocks: make(map[int64]*page), owner: new(owner)}
	}
	return c
}

// clone returns a copy that costs a pointer a block. Nothing may write
// meanwhile.
func (c *content) clone() *content {
	to := new(content)
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		to.shards[i] = shard{blocks: maps.Clone(s.blocks), owner: new(owner)}
		s.owner = new(owner)
		s.mu.Unlock()
	}
	return to
}

func (c *content) shardOf(blk int64) *shard {
	return &c.shards[uint64(blk)/runBlocks%shards]
}

func (c *content) stored() int {
	n := 0
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.RLock()
		n += len(s.blocks)
		s.mu.RUnlock()
	}
	return n
}

func (c *content) read(p []byte, off int64) {
	for len(p) > 0 {
		n := min(len(p), int(runSize-off%runSize))
		s := c.shardOf(off / blockSize)
		s.mu.RLock()
		s.read(p[:n], off)
		s.mu.RUnlock()
		p, off = p[n:], off+int64(n)
	}
}

func (s *shard) read(p []byte, off int64) {
	for len(p) > 0 {
		at := int(off % blockSize)
		n := min(len(p), blockSize-at)
		if b := s.blocks[off/blockSize]; b != nil {
			copy(p[:n], b.data[at:])
		} else {
			clear(p[:n])
		}
		p, off = p[n:], off+int64(n)
	}
}

func (c *content) write(p []byte, off int64) {
	for len(p) > 0 {
		n := min(len(p), int(runSize-off%runSize))
		s := c.shardOf(off / blockSize)
		s.mu.Lock()
		s.write(p[:n], off)
		s.mu.Unlock()
		p, off = p[n:], off+int64(n)
	}
}

func (s *shard) write(p []byte, off int64) {
	for len(p) > 0 {
		at := int(off % blockSize)
		n := min(len(p), blockSize-at)
		s.put(off/blockSize, at, p[:n])
		p, off = p[n:], off+int64(n)
	}
}

// put writes part into block blk at byte at.
func (s *shard) put(blk int64, at int, part []byte) {
	b := s.blocks[blk]
	zero := isZero(part)
	if zero && (b == nil || len(part) == blockSize) {
		delete(s.blocks, blk)
		return
	}
	if b == nil || b.owner != s.owner {
		own := &page{owner: s.owner}
		if b != nil && len(part) < blockSize {
			own.data = b.data
		}
		b = own
		s.blocks[blk] = b
	}
	copy(b.data[at:], part)
	if zero && isZero(b.data[:]) {
		delete(s.blocks, blk)
	}
}

// zero zeroes n bytes at off, in time proportional to the lesser of the range
// and what is stored.
func (c *content) zero(off, n int64) {
	end := off + n
	for _, blk := range c.storedIn(off, n) {
		lo, hi := max(off, blk*blockSize), min(end, (blk+1)*blockSize)
		s := c.shardOf(blk)
		s.mu.Lock()
		s.put(blk, int(lo%blockSize), zeroBlock[:hi-lo])
		s.mu.Unlock()
	}
}

// storedIn returns the numbers of the stored blocks that the n bytes at off
// touch, sorted.
func (c *content) storedIn(off, n int64) []int64 {
	if n == 0 {
		return nil
	}
	first, end := off/blockSize, (off+n-1)/blockSize+1
	var found []int64
	if end-first > int64(c.stored()) {
		for i := range c.shards {
			s := &c.shards[i]
			s.mu.RLock()
			for blk := range s.blocks {
				if first <= blk && blk < end {
					found = append(found, blk)
				}
			}
			s.mu.RUnlock()
		}
		slices.Sort(found)
		return found
	}
	for blk := first; blk < end; blk++ {
		s := c.shardOf(blk)
		s.mu.RLock()
		if s.blocks[blk] != nil {
			found = append(found, blk)
		}
		s.mu.RUnlock()
	}
	return found
}

// zeroBlock is never written.
var zeroBlock [blockSize]byte

func isZero(p []byte) bool { return bytes.Equal(p, zeroBlock[:len(p)]) }
