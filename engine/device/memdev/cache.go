// SPDX-License-Identifier: Apache-2.0

package memdev

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"

	"zumastor.org/zumastor/engine/block"
)

// sector is what a power cut keeps or loses whole.
type sector [block.SectorSize]byte

// cache holds every version of each sector that was written and that no flush
// has made durable. Reads see the newest; a power cut may leave any of them, or
// what is durable.
type cache struct {
	mu      sync.Mutex
	next    uint64              // number of the next write
	flying  map[uint64]struct{} // writes that have begun and not returned
	sectors map[int64][]version // by sector number; oldest first, never empty
}

// version is what one write left in one sector; nil data is zeroes.
type version struct {
	write uint64
	data  *sector
}

// horizon is what a flush covers: writes with a lower number that were not
// flying.
type horizon struct {
	next   uint64
	flying map[uint64]struct{}
}

func (h horizon) covers(write uint64) bool {
	_, late := h.flying[write]
	return write < h.next && !late
}

func newCache() *cache {
	return &cache{flying: make(map[uint64]struct{}), sectors: make(map[int64][]version)}
}

func (c *cache) begin() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := c.next
	c.next++
	c.flying[id] = struct{}{}
	return id
}

func (c *cache) end(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.flying, id)
}

func (c *cache) horizon() horizon {
	c.mu.Lock()
	defer c.mu.Unlock()
	return horizon{next: c.next, flying: maps.Clone(c.flying)}
}

func (c *cache) read(durable *content, p []byte, off int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	durable.read(p, off)
	if len(c.sectors) == 0 {
		return
	}
	for ; len(p) > 0; p, off = p[block.SectorSize:], off+block.SectorSize {
		if vs := c.sectors[off/block.SectorSize]; vs != nil {
			copy(p, vs[len(vs)-1].bytes())
		}
	}
}

func (c *cache) write(id uint64, p []byte, off int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for ; len(p) > 0; p, off = p[block.SectorSize:], off+block.SectorSize {
		var data *sector
		if !isZero(p[:block.SectorSize]) {
			data = new(sector(p))
		}
		c.add(off/block.SectorSize, version{id, data})
	}
}

func (c *cache) add(no int64, v version) { c.sectors[no] = append(c.sectors[no], v) }

// replace puts data into every sector of the range that is not known to be
// zeroes.
func (c *cache) replace(id uint64, durable *content, off, n int64, data *sector) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first, end := off/block.SectorSize, (off+n)/block.SectorSize
	var touched []int64
	for no := range c.sectors {
		if first <= no && no < end {
			touched = append(touched, no)
		}
	}
	for _, blk := range durable.storedIn(off, n) {
		const per = blockSize / block.SectorSize
		for no := max(first, blk*per); no < min(end, (blk+1)*per); no++ {
			if c.sectors[no] == nil {
				touched = append(touched, no)
			}
		}
	}
	for _, no := range touched {
		c.add(no, version{id, data})
	}
}

// flush moves what h covers to the durable content.
func (c *cache) flush(durable *content, h horizon) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for no, vs := range c.sectors {
		for i := len(vs) - 1; i >= 0; i-- {
			if !h.covers(vs[i].write) {
				continue
			}
			durable.write(vs[i].bytes(), no*block.SectorSize)
			if vs = vs[i+1:]; len(vs) == 0 {
				delete(c.sectors, no)
			} else {
				c.sectors[no] = vs
			}
			break
		}
	}
}

// clone returns a copy in which no write is flying.
func (c *cache) clone() *cache {
	c.mu.Lock()
	defer c.mu.Unlock()
	to := newCache()
	to.next = c.next
	for no, vs := range c.sectors {
		to.sectors[no] = slices.Clone(vs)
	}
	return to
}

// survive writes to durable what a power cut leaves of the cache.
func (c *cache) survive(durable *content, rng *rand.Rand, fate Fate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	chances := c.chances(rng, fate)
	for _, no := range slices.Sorted(maps.Keys(c.sectors)) {
		for _, v := range slices.Backward(c.sectors[no]) {
			q := chances[v.write]
			if q == 1 || q > 0 && rng.Float64() < q {
				durable.write(v.bytes(), no*block.SectorSize)
				break
			}
		}
	}
}

// chances draws for each unflushed write the probability with which a sector of
// it survives.
func (c *cache) chances(rng *rand.Rand, fate Fate) map[uint64]float64 {
	chances := make(map[uint64]float64)
	for _, vs := range c.sectors {
		for _, v := range vs {
			chances[v.write] = 0
		}
	}
	for _, id := range slices.Sorted(maps.Keys(chances)) {
		chances[id] = fate.Draw(rng)
	}
	return chances
}

func (v version) bytes() []byte {
	if v.data == nil {
		return zeroBlock[:block.SectorSize]
	}
	return v.data[:]
}

func newGarbage() *sector {
	return new(sector(bytes.Repeat([]byte("DISCARD."), block.SectorSize/8)))
}
