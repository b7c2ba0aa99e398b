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
	// lossless says that all pages fit. Only then can what is not known to be settled
	// be known to need a copy-out.
	lossless bool
	fresh    atomic.Uint64 // the last generation that began with nothing settled
}

// settledPage is the bits of one stretch of chunks in one generation. A page of
// another generation, or of another stretch, counts as empty.
type settledPage struct {
	number     uint64
	generation block.Generation
	// complete says that what has no bit needs a copy-out. Such a page is never
	// dropped in its generation: the map has room for all pages.
	complete atomic.Bool
	words    [settledPageWords]atomic.Uint64
}

// newSettledMap returns an empty map for a number of chunks with at most limit
// bytes of pages, but at least one page.
func newSettledMap(chunks uint64, limit int64) *settledMap {
	m := &settledMap{fit: max(1, uint64(limit)/(settledPageChunks/8))}
	m.resize(chunks)
	return m
}

// resize makes room for a number of chunks. Where all pages fit, no chunk that is known
// to be settled is forgotten. No page is complete after it: chunks that the origin did
// not have may be settled from when it had them. Nothing else may be done with the map
// meanwhile.
func (m *settledMap) resize(chunks uint64) {
	all := (chunks + settledPageChunks - 1) / settledPageChunks
	n := min(all, m.fit)
	m.lossless = n == all
	m.fresh.Store(0)
	for i := range m.pages {
		if p := m.pages[i].Load(); p != nil {
			p.complete.Store(false)
		}
	}
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

// set notes that c is settled in generation g. Where not all pages fit, a concurrent
// set of another page in the same place may drop it.
func (m *settledMap) set(g block.Generation, c block.Chunk) {
	m.pageFor(g, c).words[c%settledPageChunks/64].Or(1 << (c % 64))
}

// pageFor returns the page that holds c, an empty one if there was none. One of a
// generation that began with nothing settled is complete.
func (m *settledMap) pageFor(g block.Generation, c block.Chunk) *settledPage {
	number := uint64(c) >> settledPageShift
	at := &m.pages[number%uint64(len(m.pages))]
	for {
		old := at.Load()
		if old != nil && old.number == number && old.generation == g {
			return old
		}
		p := &settledPage{number: number, generation: g}
		p.complete.Store(m.lossless && uint64(g) == m.fresh.Load())
		if at.CompareAndSwap(old, p) { // else a bit of whoever was first would be lost
			return p
		}
	}
}

// begin says that generation g begins, with nothing settled.
func (m *settledMap) begin(g block.Generation) { m.fresh.Store(uint64(g)) }

// unsettled appends those of the chunks [first, end), of one page, that need a
// copy-out. It reports whether that is known.
func (m *settledMap) unsettled(g block.Generation, first, end block.Chunk, dst []block.Chunk) ([]block.Chunk, bool) {
	if !m.lossless {
		return dst, false
	}
	p := m.pageFor(g, first)
	if !p.complete.Load() {
		return dst, false
	}
	for c := first; c < end; c++ {
		if p.words[c%settledPageChunks/64].Load()&(1<<(c%64)) == 0 {
			dst = append(dst, c)
		}
	}
	return dst, true
}

// learn takes in that of the chunks of a page from first on to end all are settled
// but those of a list, which ascends. What is settled meanwhile keeps its bit: a
// page that may become complete is never dropped.
func (m *settledMap) learn(g block.Generation, first, end block.Chunk, unsettled []block.Chunk) {
	p := m.pageFor(g, first)
	for c := first; c < end; c++ {
		if len(unsettled) > 0 && unsettled[0] == c {
			unsettled = unsettled[1:]
			continue
		}
		p.words[c%settledPageChunks/64].Or(1 << (c % 64))
	}
	p.complete.Store(true)
}
