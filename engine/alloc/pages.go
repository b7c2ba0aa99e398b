// SPDX-License-Identifier: Apache-2.0

package alloc

import (
	"fmt"
	"math/bits"
	"slices"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

// Pages is the allocation state of the pages of the trees. It is not kept on the
// device: the trees themselves say which pages they use, and an opening store
// asks them. It takes one bit a page, up to the highest page in use.
type Pages struct {
	area   layout.Extent
	words  []uint64     // bit i%64 of word i/64: page area.First+i is in use
	used   uint64       // bits set
	cursor uint64       // where the search for a free page goes on
	freed  []block.Page // since the last Thaw; still in use
	pinned []uint64     // as words was when they were pinned; nil: they are not
	held   []block.Page // would be free if they were not pinned; still in use
}

// NewPages returns the state of an area in which no page is in use.
func NewPages(area layout.Extent) *Pages { return &Pages{area: area} }

// Used returns how many pages are in use, those that wait to be freed included.
func (p *Pages) Used() uint64 { return p.used }

// Free returns how many pages are not in use.
func (p *Pages) Free() uint64 { return p.area.Len - p.used }

// Claim marks a page as in use. It is an error, wrapping layout.ErrCorrupt, if the
// page is outside the area or in use already.
func (p *Pages) Claim(page block.Page) error {
	if page < p.area.First || page >= p.area.End() {
		return fmt.Errorf("%w: page %d is outside the tree pages %d to %d", layout.ErrCorrupt, page, p.area.First, p.area.End()-1)
	}
	i := uint64(page - p.area.First)
	p.grow(i)
	if p.words[i/64]&(1<<(i%64)) != 0 {
		return fmt.Errorf("%w: page %d is used twice", layout.ErrCorrupt, page)
	}
	p.set(i)
	return nil
}

// Alloc returns a free page, the lowest after the last one given out since
// Rewind. It returns [ErrNoSpace] if there is none.
func (p *Pages) Alloc() (block.Page, error) {
	if p.used >= p.area.Len {
		return 0, fmt.Errorf("metadata area of %d pages: %w", p.area.Len, ErrNoSpace)
	}
	for w := p.cursor / 64; w < uint64(len(p.words)); w++ {
		free := ^p.words[w]
		if w == p.cursor/64 {
			free &= ^uint64(0) << (p.cursor % 64)
		}
		if free != 0 {
			return p.take(w*64 + uint64(bits.TrailingZeros64(free)))
		}
	}
	return p.take(max(p.cursor, uint64(len(p.words))*64))
}

// take gives out page i of the area, or starts over from the lowest when i is
// beyond it.
func (p *Pages) take(i uint64) (block.Page, error) {
	if i >= p.area.Len {
		p.cursor = 0
		return p.Alloc()
	}
	p.grow(i)
	p.set(i)
	p.cursor = i + 1
	return p.area.First + block.Page(i), nil
}

// Rewind makes the next Alloc search from the lowest page, so that the area in
// use stays compact.
func (p *Pages) Rewind() { p.cursor = 0 }

// Defer frees a page once Thaw is called: the last checkpoint still uses it.
func (p *Pages) Defer(page block.Page) { p.freed = append(p.freed, page) }

// Deferred returns how many pages wait for Thaw.
func (p *Pages) Deferred() int { return len(p.freed) }

// Thaw frees the first n deferred pages: the checkpoint that no longer uses them
// is durable.
func (p *Pages) Thaw(n int) {
	for _, page := range p.freed[:n] {
		if i := uint64(page - p.area.First); i/64 < uint64(len(p.pinned)) && p.pinned[i/64]&(1<<(i%64)) != 0 {
			p.held = append(p.held, page)
			continue
		}
		p.release(page)
	}
	p.freed = append(p.freed[:0], p.freed[n:]...)
}

// release makes a page free.
func (p *Pages) release(page block.Page) {
	i := uint64(page - p.area.First)
	p.words[i/64] &^= 1 << (i % 64)
	p.used--
}

// Pin keeps the pages that are in use now from being free before Unpin.
func (p *Pages) Pin() { p.pinned = slices.Clone(p.words) }

// Unpin frees what is free but for Pin.
func (p *Pages) Unpin() {
	for _, page := range p.held {
		p.release(page)
	}
	p.pinned, p.held = nil, nil
}

// Held returns how many pages only Pin keeps from being free.
func (p *Pages) Held() int { return len(p.held) }

func (p *Pages) grow(i uint64) {
	for uint64(len(p.words)) <= i/64 {
		p.words = append(p.words, 0)
	}
}

func (p *Pages) set(i uint64) {
	p.words[i/64] |= 1 << (i % 64)
	p.used++
}
