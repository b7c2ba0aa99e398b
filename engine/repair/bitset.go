// SPDX-License-Identifier: Apache-2.0

package repair

// bitset is a set of numbers that takes a bit a number, in segments where they are.
type bitset struct{ segments map[uint64]*[64]uint64 }

func (b *bitset) has(i uint64) bool {
	s := b.segments[i/4096]
	return s != nil && s[i/64%64]>>(i%64)&1 != 0
}

// add adds i and reports whether it was new.
func (b *bitset) add(i uint64) bool {
	if b.has(i) {
		return false
	}
	if b.segments == nil {
		b.segments = make(map[uint64]*[64]uint64)
	}
	s := b.segments[i/4096]
	if s == nil {
		s = new([64]uint64)
		b.segments[i/4096] = s
	}
	s[i/64%64] |= 1 << (i % 64)
	return true
}

func (b *bitset) remove(i uint64) {
	if s := b.segments[i/4096]; s != nil {
		s[i/64%64] &^= 1 << (i % 64)
	}
}
