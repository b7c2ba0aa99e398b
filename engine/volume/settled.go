// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"sync/atomic"

	"zumastor.org/zumastor/engine/block"
)

// settledPageChunks is how many chunks one page of the settled map covers.
const (
	settledPageShift  = 12
	settledPageChunks = 1 << settledPageShift
	settledPageWords  = settledPageChunks / 64
)

// settledMap remembers which chunks are known to be settled, one bit a chunk. It
// is a cache with a bound: a bit that is not set means only that nothing is
// known. Where all pages fit, none is ever dropped. Safe for concurrent use,
// without locks and, but for the first bit of a page, without allocation.
type settledMap struct {
	fit   uint64                        // most pages
	pages []atomic.Pointer[settledPage] // page n is at n modulo the length
}

// settledPage is the bits of one stretch of chunks in one generation. A page of
// another generation, or of another stretch, counts as empty.
type settledPage struct {
	number     uint64
	generation block.Generation
	words      [settledPageWords]atomic.Uint64
}

// newSettledMap returns an empty map for a number of chunks with at most limit
// bytes of pages, but at least one page.
func newSettledMap(chunks uint64, limit int64) *settledMap {
	m := &settledMap{fit: max(1, uint64(limit)/(settledPageChunks/8))}
	m.grow(chunks)
	return m
}

// grow makes room for a number of chunks. Where all pages fit, nothing that is known
// is forgotten. Nothing else may be done with the map meanwhile.
func (m *settledMap) grow(chunks uint64) {
	n := min((chunks+settledPageChunks-1)/settledPageChunks, m.fit)
	if n <= uint64(len(m.pages)) {
		return
	}
	pages := make([]atomic.Pointer[settledPage], n)
	for i := range m.pages {
		if p := m.pages[i].Load(); p != nil {
			pages[p.number%n].Store(p)
		}
	}
	m.pages = pages
}

// all reports whether every chunk of [first, end) is known to be settled in
// generation g.
func (m *settledMap) all(g block.Generation, first, end block.Chunk) bool {
	for c := first; c < end; c++ {
		p := m.page(g, c)
		if p == nil || p.words[c%settledPageChunks/64].Load()&(1<<(c%64)) == 0 {
			return false
		}
	}
	return true
}

// page returns the page that holds c, or nil.
func (m *settledMap) page(g block.Generation, c block.Chunk) *settledPage {
	number := uint64(c) >> settledPageShift
	p := m.pages[number%uint64(len(m.pages))].Load()
	if p == nil || p.number != number || p.generation != g {
		return nil
	}
	return p
}

// set notes that c is settled in generation g. A concurrent set of another page
// in the same place may drop it.
func (m *settledMap) set(g block.Generation, c block.Chunk) {
	p := m.page(g, c)
	if p == nil {
		number := uint64(c) >> settledPageShift
		p = &settledPage{number: number, generation: g}
		m.pages[number%uint64(len(m.pages))].Store(p)
	}
	p.words[c%settledPageChunks/64].Or(1 << (c % 64))
}
