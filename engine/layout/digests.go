// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"

	"zumastor.org/zumastor/engine/block"
)

// DigestSum is the sum of a node of the tree over the content of the snapshot of the
// origin with that generation, and of later ones up to the node's next entry.
type DigestSum struct {
	Level      uint8 // 0 is a leaf's
	Index      uint64
	Generation block.Generation
	Sum        [sha256.Size]byte
}

// MaxDigestLevel is the topmost node's level. Part of the format, must not change.
const MaxDigestLevel = 5

// DigestCodec codes the entries of the tree of digests. An entry is
//
//	uvarint   level - previous level
//	uvarint   index - previous index      the index itself if the level changed
//	varint    generation - previous generation     uvarint if the node is the previous one's
//	32 bytes  sum
type DigestCodec struct{}

// Compare orders by level, index and generation.
func (DigestCodec) Compare(a, b DigestSum) int {
	switch {
	case a.Level != b.Level:
		return cmp.Compare(a.Level, b.Level)
	case a.Index != b.Index:
		return cmp.Compare(a.Index, b.Index)
	}
	return cmp.Compare(a.Generation, b.Generation)
}

// Follows reports whether e is of prev's next node, in the same generation.
func (DigestCodec) Follows(prev, e DigestSum) bool {
	return e.Level == prev.Level && e.Index == prev.Index+1 && e.Generation == prev.Generation
}

// Next returns prev's successor in a run, without its sum.
func (DigestCodec) Next(prev DigestSum) DigestSum {
	return DigestSum{Level: prev.Level, Index: prev.Index + 1, Generation: prev.Generation}
}

// Append codes e after prev.
func (DigestCodec) Append(dst []byte, prev, e DigestSum, _ bool) []byte {
	dst = binary.AppendUvarint(dst, uint64(e.Level-prev.Level))
	index := e.Index
	if e.Level == prev.Level {
		index -= prev.Index
	}
	dst = binary.AppendUvarint(dst, index)
	if e.Level == prev.Level && e.Index == prev.Index {
		dst = binary.AppendUvarint(dst, uint64(e.Generation-prev.Generation))
	} else {
		dst = binary.AppendVarint(dst, int64(e.Generation-prev.Generation))
	}
	return append(dst, e.Sum[:]...)
}

// Decode reads the entry after prev.
func (DigestCodec) Decode(src []byte, prev DigestSum, _ bool) (DigestSum, []byte, error) {
	d := decoder{src: src}
	e := prev
	e.Level += uint8(d.uvarintUpTo(uint64(MaxDigestLevel - min(prev.Level, MaxDigestLevel))))
	index := d.uvarint()
	if e.Index = index; e.Level == prev.Level {
		e.Index += prev.Index
	}
	if e.Level == prev.Level && e.Index == prev.Index {
		e.Generation += block.Generation(d.uvarint())
	} else {
		e.Generation += block.Generation(d.varint())
	}
	e.Sum = [sha256.Size]byte{}
	copy(e.Sum[:], d.bytes(len(e.Sum)))
	return e, d.src, d.err("digest")
}

// ExtraSize is the size of a run member's sum.
func (DigestCodec) ExtraSize() int { return sha256.Size }

// AppendExtra appends e's sum.
func (DigestCodec) AppendExtra(dst []byte, e DigestSum) []byte { return append(dst, e.Sum[:]...) }

// DecodeExtra reads e's sum from ExtraSize bytes.
func (DigestCodec) DecodeExtra(src []byte, e *DigestSum) { copy(e.Sum[:], src) }
