// SPDX-License-Identifier: Apache-2.0

package check

import (
	"maps"
	"math/bits"
	"slices"
)

// bitset is a set of numbers that takes memory only where they are: one bit a
// number, in segments. The zero value is empty and ready.
type bitset struct {
	segments map[uint64]*[segmentWords]uint64
}

const segmentWords = 64

// setWord adds the numbers 64*index+i for each bit i of word.
func (b *bitset) setWord(index, word uint64) {
	if b.segments == nil {
		b.segments = make(map[uint64]*[segmentWords]uint64)
	}
	s := b.segments[index/segmentWords]
	if s == nil {
		s = new([segmentWords]uint64)
		b.segments[index/segmentWords] = s
	}
	s[index%segmentWords] |= word
}

// word returns the bits of the numbers from 64*index on.
func (b *bitset) word(index uint64) uint64 {
	if s := b.segments[index/segmentWords]; s != nil {
		return s[index%segmentWords]
	}
	return 0
}

func (b *bitset) has(i uint64) bool { return b.word(i/64)>>(i%64)&1 != 0 }

// add adds i and reports whether it was new.
func (b *bitset) add(i uint64) bool {
	if b.has(i) {
		return false
	}
	b.setWord(i/64, 1<<(i%64))
	return true
}

// remove takes the numbers [first, end) out.
func (b *bitset) remove(first, end uint64) {
	for index := first / 64; index*64 < end; index++ {
		s := b.segments[index/segmentWords]
		if s == nil {
			index |= segmentWords - 1 // on to the next segment
			continue
		}
		s[index%segmentWords] &^= maskOf(index, first, end)
	}
}

// maskOf returns the bits of word index that stand for numbers in [first, end).
func maskOf(index, first, end uint64) uint64 {
	mask := ^uint64(0)
	if base := index * 64; first > base {
		mask <<= first - base
	}
	if top := (index + 1) * 64; end < top {
		mask &= ^uint64(0) >> (top - end)
	}
	return mask
}

// without calls fn with the runs of numbers that are in b but not in other, in
// order, until fn returns false.
func (b *bitset) without(other *bitset, fn func(first, n uint64) bool) {
	var first, n uint64
	for _, seg := range slices.Sorted(maps.Keys(b.segments)) {
		for i, word := range b.segments[seg] {
			index := seg*segmentWords + uint64(i)
			for word &^= other.word(index); word != 0; word &= word - 1 {
				at := index*64 + uint64(bits.TrailingZeros64(word))
				if n > 0 && at == first+n {
					n++
					continue
				}
				if n > 0 && !fn(first, n) {
					return
				}
				first, n = at, 1
			}
		}
	}
	if n > 0 {
		fn(first, n)
	}
}
