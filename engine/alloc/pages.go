// SPDX-License-Identifier: Apache-2.0

package alloc

import (
	"fmt"
	"math"
	"math/bits"
	"slices"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

// Pages is the allocation state of the pages of the trees. It is not kept on the
// device: the trees themselves say which pages they use, and an opening store
// asks them. It takes one bit a page, up to the highest page in use of each extent.
type Pages struct {
	extents []pageExtent // ascending
	used    uint64       // pages in use
	beyond  uint64       // those of them at or beyond the limit
	limit   block.Page   // none at or beyond it is given out
	at      int          // extent in which the search for a free page goes on
	cursor  uint64       // and its page there
	freed   []block.Page // since the last Thaw; still in use
	held    []block.Page // would be free if they were not pinned; still in use
}

// pageExtent is an extent and its pages in use.
type pageExtent struct {
	layout.Extent
	words  []uint64 // bit i%64 of word i/64: page First+i is in use
	pinned []uint64 // as words was when the pages were pinned; nil: they are not
}

// noLimit is a limit beyond all pages.
const noLimit = block.Page(math.MaxUint64)

// NewPages returns the state of extents, ascending and apart, in which no page is in
// use.
func NewPages(extents ...layout.Extent) *Pages {
	p := &Pages{limit: noLimit}
	for _, e := range extents {
		p.extents = append(p.extents, pageExtent{Extent: e})
	}
	return p
}

// Total returns how many pages there are, those beyond the limit included.
func (p *Pages) Total() uint64 {
	n := uint64(0)
	for _, e := range p.extents {
		n += e.Len
	}
	return n
}

// Used returns how many pages are in use, those that wait to be freed included.
func (p *Pages) Used() uint64 { return p.used }

// Beyond returns how many pages at or beyond the limit are in use.
func (p *Pages) Beyond() uint64 { return p.beyond }

// Free returns how many pages can be given out.
func (p *Pages) Free() uint64 {
	n := uint64(0)
	for i := range p.extents {
		n += p.below(&p.extents[i])
	}
	return n - (p.used - p.beyond)
}

// below returns how many pages of an extent are before the limit.
func (p *Pages) below(e *pageExtent) uint64 {
	if p.limit <= e.First {
		return 0
	}
	return min(e.Len, uint64(p.limit-e.First))
}

// SetLimit says that no page at or beyond limit is to be given out; those in use
// stay so. Zero means that all may be given out.
func (p *Pages) SetLimit(limit block.Page) {
	if limit == 0 {
		limit = noLimit
	}
	p.limit, p.beyond = limit, 0
	for i := range p.extents {
		e := &p.extents[i]
		p.beyond += e.usedFrom(p.below(e))
	}
}

// UsedFrom returns how many pages at or beyond limit are in use; zero is no limit.
func (p *Pages) UsedFrom(limit block.Page) uint64 {
	n := uint64(0)
	for i := range p.extents {
		if e := &p.extents[i]; limit != 0 && e.End() > limit {
			n += e.usedFrom(uint64(max(e.First, limit) - e.First))
		}
	}
	return n
}

// usedFrom returns how many pages from the i-th on are in use.
func (e *pageExtent) usedFrom(i uint64) uint64 {
	n := 0
	for w := i / 64; w < uint64(len(e.words)); w++ {
		word := e.words[w]
		if w == i/64 {
			word &= ^uint64(0) << (i % 64)
		}
		n += bits.OnesCount64(word)
	}
	return uint64(n)
}

// SetExtents replaces the extents, when there are more pages or fewer. It is an
// error, and nothing changes, if a page in use would be in none.
func (p *Pages) SetExtents(extents []layout.Extent) error {
	next := NewPages(extents...)
	for _, e := range p.extents {
		for w, word := range e.words {
			for ; word != 0; word &= word - 1 {
				page := e.First + block.Page(w*64+bits.TrailingZeros64(word))
				if err := next.Claim(page); err != nil {
					return fmt.Errorf("page %d is in use: %w", page, err)
				}
			}
		}
	}
	for i := range next.extents {
		if e, _ := p.find(next.extents[i].First); e != nil {
			next.extents[i].pinned = e.pinned
		}
	}
	p.extents, p.at, p.cursor = next.extents, 0, 0
	p.SetLimit(p.limit)
	return nil
}

// find returns the extent that holds a page, and its number there.
func (p *Pages) find(page block.Page) (*pageExtent, uint64) {
	i, ok := slices.BinarySearchFunc(p.extents, page, func(e pageExtent, page block.Page) int {
		switch {
		case e.End() <= page:
			return -1
		case e.First > page:
			return 1
		}
		return 0
	})
	if !ok {
		return nil, 0
	}
	return &p.extents[i], uint64(page - p.extents[i].First)
}

// Claim marks a page as in use. It is an error, wrapping layout.ErrCorrupt, if the
// page is in no extent or in use already.
func (p *Pages) Claim(page block.Page) error {
	e, i := p.find(page)
	if e == nil {
		return fmt.Errorf("%w: page %d is outside the tree pages", layout.ErrCorrupt, page)
	}
	if e.has(i) {
		return fmt.Errorf("%w: page %d is used twice", layout.ErrCorrupt, page)
	}
	p.set(e, i)
	return nil
}

// Alloc returns a free page, the lowest after the last one given out since
// Rewind. It returns [ErrNoSpace] if there is none.
func (p *Pages) Alloc() (block.Page, error) {
	if p.Free() == 0 {
		return 0, fmt.Errorf("metadata area of %d pages: %w", p.Total(), ErrNoSpace)
	}
	for {
		if p.at == len(p.extents) {
			p.Rewind()
		}
		e := &p.extents[p.at]
		if i := e.nextFree(p.cursor); i < p.below(e) {
			p.set(e, i)
			p.cursor = i + 1
			return e.First + block.Page(i), nil
		}
		p.at, p.cursor = p.at+1, 0
	}
}

// nextFree returns the first page from the i-th on that is not in use, which may be
// beyond the extent.
func (e *pageExtent) nextFree(i uint64) uint64 {
	for w := i / 64; w < uint64(len(e.words)); w++ {
		free := ^e.words[w]
		if w == i/64 {
			free &= ^uint64(0) << (i % 64)
		}
		if free != 0 {
			return w*64 + uint64(bits.TrailingZeros64(free))
		}
	}
	return max(i, uint64(len(e.words))*64)
}

// Rewind makes the next Alloc search from the lowest page, so that the area in
// use stays compact.
func (p *Pages) Rewind() { p.at, p.cursor = 0, 0 }

// Defer frees a page once Thaw is called: the last checkpoint still uses it.
func (p *Pages) Defer(page block.Page) { p.freed = append(p.freed, page) }

// Deferred returns how many pages wait for Thaw.
func (p *Pages) Deferred() int { return len(p.freed) }

// Thaw frees the first n deferred pages: the checkpoint that no longer uses them
// is durable.
func (p *Pages) Thaw(n int) {
	for _, page := range p.freed[:n] {
		if e, i := p.find(page); i/64 < uint64(len(e.pinned)) && e.pinned[i/64]&(1<<(i%64)) != 0 {
			p.held = append(p.held, page)
			continue
		}
		p.release(page)
	}
	p.freed = append(p.freed[:0], p.freed[n:]...)
}

// release makes a page free.
func (p *Pages) release(page block.Page) {
	e, i := p.find(page)
	e.words[i/64] &^= 1 << (i % 64)
	p.used--
	if page >= p.limit {
		p.beyond--
	}
}

// Pin keeps the pages that are in use now from being free before Unpin.
func (p *Pages) Pin() {
	for i := range p.extents {
		p.extents[i].pinned = slices.Clone(p.extents[i].words)
	}
}

// Unpin frees what is free but for Pin.
func (p *Pages) Unpin() {
	for _, page := range p.held {
		p.release(page)
	}
	for i := range p.extents {
		p.extents[i].pinned = nil
	}
	p.held = nil
}

// Held returns how many pages only Pin keeps from being free.
func (p *Pages) Held() int { return len(p.held) }

func (e *pageExtent) has(i uint64) bool {
	return i/64 < uint64(len(e.words)) && e.words[i/64]&(1<<(i%64)) != 0
}

func (p *Pages) set(e *pageExtent, i uint64) {
	for uint64(len(e.words)) <= i/64 {
		e.words = append(e.words, 0)
	}
	e.words[i/64] |= 1 << (i % 64)
	p.used++
	if e.First+block.Page(i) >= p.limit {
		p.beyond++
	}
}
