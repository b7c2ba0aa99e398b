// SPDX-License-Identifier: Apache-2.0

package similar

import (
	"encoding/binary"
	"math/bits"
)

const (
	pageSize  = 16 << 10
	pageSlots = 256
)

// pages read the base in aligned pages and keep some of them: 4 MiB. What an
// extent may read is bounded; beyond that, and where the base ends or cannot be
// read, there is nothing.
type pages struct {
	base  Base
	size  int64
	place int64  // of same
	same  []byte // the part of the base at the extent's own place, already read
	slots [pageSlots]page
	left  int // pages that may yet be read
	err   error
}

type page struct {
	number int64 // 0 for none, else the page and 1
	b      []byte
}

// start begins an extent of n bytes.
func (p *pages) start(base Base, place int64, same []byte, n int) {
	p.base, p.size, p.place, p.same, p.err = base, base.Size(), place, same, nil
	p.left = 64 + 4*n/pageSize
	for i := range p.slots {
		p.slots[i].number = 0
	}
}

// from returns what is at hand of the base from that place on, at least a byte,
// or nothing.
func (p *pages) from(at int64) []byte {
	if at < 0 || at >= p.size {
		return nil
	}
	if d := at - p.place; d >= 0 && d < int64(len(p.same)) {
		return p.same[d:]
	}
	b := p.page(at)
	return b[min(at%pageSize, int64(len(b))):]
}

// upTo returns what is at hand of the base before that place, at least a byte, or
// nothing.
func (p *pages) upTo(at int64) []byte {
	if at <= 0 || at > p.size {
		return nil
	}
	if d := at - p.place; d > 0 && d <= int64(len(p.same)) {
		return p.same[:d]
	}
	b := p.page(at - 1)
	return b[:min(int64(len(b)), (at-1)%pageSize+1)]
}

// page returns the page with that place, short at the end of the base, or nil
// where it cannot be had.
func (p *pages) page(at int64) []byte {
	number := at / pageSize
	slot := &p.slots[number%pageSlots]
	if slot.number == number+1 {
		return slot.b
	}
	if p.left == 0 || p.err != nil {
		return nil
	}
	p.left--
	slot.number = 0
	n := min(pageSize, p.size-number*pageSize)
	if cap(slot.b) < pageSize {
		slot.b = make([]byte, pageSize)
	}
	slot.b = slot.b[:n]
	if p.err = readBase(slot.b, number*pageSize, p.base); p.err != nil {
		return nil
	}
	slot.number = number + 1
	return slot.b
}

// forward returns how many bytes of content stand at that place of the base.
func (p *pages) forward(content []byte, at int64) int {
	n := 0
	for n < len(content) {
		b := p.from(at + int64(n))
		m := equal(content[n:], b)
		n += m
		if m == 0 || m < len(b) {
			break
		}
	}
	return n
}

// backward returns how many bytes of content's end stand before that place.
func (p *pages) backward(content []byte, at int64) int {
	n := 0
	for n < len(content) {
		b := p.upTo(at - int64(n))
		m := equalBack(content[:len(content)-n], b)
		n += m
		if m == 0 || m < len(b) {
			break
		}
	}
	return n
}

// equal returns how many bytes a and b have in common at their begins.
func equal(a, b []byte) int {
	n, i := min(len(a), len(b)), 0
	for ; i+8 <= n; i += 8 {
		if d := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); d != 0 {
			return i + bits.TrailingZeros64(d)/8
		}
	}
	for ; i < n && a[i] == b[i]; i++ {
	}
	return i
}

// equalBack returns how many bytes a and b have in common at their ends.
func equalBack(a, b []byte) int {
	n, i := min(len(a), len(b)), 0
	for ; i+8 <= n; i += 8 {
		if d := binary.LittleEndian.Uint64(a[len(a)-i-8:]) ^ binary.LittleEndian.Uint64(b[len(b)-i-8:]); d != 0 {
			return i + bits.LeadingZeros64(d)/8
		}
	}
	for ; i < n && a[len(a)-1-i] == b[len(b)-1-i]; i++ {
	}
	return i
}
