// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"

	"zumastor.org/zumastor/engine/block"
)

// Kinds of tree, the Kind of a page's header. Part of the format, must not change.
const (
	KindExceptions uint8 = 1 + iota // Exception entries, by chunk
	KindChanges                     // Change entries, by generation
	KindSlots                       // SlotWord entries
	KindSnapshots                   // Snapshot entries
	KindLeases                      // SlotRun entries
	KindDigests                     // DigestSum entries
	Kinds          = int(KindDigests)
)

// Exception says where a chunk's content of some generations is. Of the origin, it
// was copied out: it is that of all generations from the previous exception's
// (exclusive) to Generation (inclusive). Of another branch, it was written: it is
// that of the generations from Generation on up to the next exception's.
type Exception struct {
	Branch     block.Branch
	Sum        uint32 // SumOf the whole slot; zero of a branch that is not the origin: it may be overwritten in place
	Chunk      block.Chunk
	Generation block.Generation
	Slot       block.Slot // LostSlot if the content is lost
}

// LostSlot stands for the slot of a chunk whose content is lost: reading it is an
// error. Part of the format, must not change.
const LostSlot block.Slot = 1<<63 - 1

// Change is an exception's mirror in order of generation: Chunk was copied out
// in Generation.
type Change struct {
	Branch     block.Branch
	Generation block.Generation
	Chunk      block.Chunk
}

// SlotWord is the allocation state of the slots 64*Index to 64*Index+63: bit i
// is set when slot 64*Index+i is allocated. A word without bits is not stored.
type SlotWord struct {
	Index uint64
	Bits  uint64
}

// ExceptionCodec codes the entries of the exception tree. An entry is
//
//	uvarint  chunk delta << 1 | branch changed
//	uvarint  branch delta                         only if the branch changed
//	varint   generation - previous generation     uvarint if the chunk is the previous one's
//	varint   slot - (previous slot + 1)
//	u32      sum of the slot
//
// where the previous of a page's first entry is all zero, and the chunk delta is
// the chunk itself if the branch changed. A run's members have just the sum.
type ExceptionCodec struct{}

// Compare orders by branch, chunk and generation.
func (ExceptionCodec) Compare(a, b Exception) int {
	switch {
	case a.Branch != b.Branch:
		return cmp.Compare(a.Branch, b.Branch)
	case a.Chunk != b.Chunk:
		return cmp.Compare(a.Chunk, b.Chunk)
	}
	return cmp.Compare(a.Generation, b.Generation)
}

// Follows reports whether e is prev's next chunk in prev's next slot, of the
// same generation.
func (ExceptionCodec) Follows(prev, e Exception) bool {
	return e.Chunk == prev.Chunk+1 && e.Slot == prev.Slot+1 && e.Generation == prev.Generation && e.Branch == prev.Branch
}

// Next returns prev's successor in a run, without its sum.
func (ExceptionCodec) Next(prev Exception) Exception {
	prev.Chunk++
	prev.Slot++
	prev.Sum = 0
	return prev
}

// Append codes e after prev.
func (ExceptionCodec) Append(dst []byte, prev, e Exception, _ bool) []byte {
	dst, same := appendBranchDelta(dst, prev.Branch, e.Branch, uint64(prev.Chunk), uint64(e.Chunk))
	if same {
		dst = binary.AppendUvarint(dst, uint64(e.Generation-prev.Generation))
	} else {
		dst = binary.AppendVarint(dst, int64(e.Generation-prev.Generation))
	}
	dst = binary.AppendVarint(dst, int64(e.Slot-prev.Slot-1))
	return binary.LittleEndian.AppendUint32(dst, e.Sum)
}

// Decode reads the entry after prev.
func (ExceptionCodec) Decode(src []byte, prev Exception, _ bool) (Exception, []byte, error) {
	d := decoder{src: src}
	e := prev
	branch, chunk, same := d.branchDelta(prev.Branch, uint64(prev.Chunk))
	e.Branch, e.Chunk = branch, block.Chunk(chunk)
	if same {
		e.Generation += block.Generation(d.uvarint())
	} else {
		e.Generation += block.Generation(d.varint())
	}
	e.Slot += 1 + block.Slot(d.varint())
	e.Sum = d.uint32()
	return e, d.src, d.err("exception")
}

// ExtraSize is the size of a run member's sum.
func (ExceptionCodec) ExtraSize() int { return 4 }

// AppendExtra appends e's sum.
func (ExceptionCodec) AppendExtra(dst []byte, e Exception) []byte {
	return binary.LittleEndian.AppendUint32(dst, e.Sum)
}

// DecodeExtra reads e's sum from ExtraSize bytes.
func (ExceptionCodec) DecodeExtra(src []byte, e *Exception) { e.Sum = binary.LittleEndian.Uint32(src) }

// ChangeCodec codes the entries of the change tree. An entry is
//
//	uvarint  generation delta << 1 | branch changed
//	uvarint  branch delta              only if the branch changed
//	uvarint  chunk delta               the chunk itself unless branch and generation are the previous one's
//
// where the generation delta is the generation itself if the branch changed.
type ChangeCodec struct{}

// Compare orders by branch, generation and chunk.
func (ChangeCodec) Compare(a, b Change) int {
	switch {
	case a.Branch != b.Branch:
		return cmp.Compare(a.Branch, b.Branch)
	case a.Generation != b.Generation:
		return cmp.Compare(a.Generation, b.Generation)
	}
	return cmp.Compare(a.Chunk, b.Chunk)
}

// Follows reports whether e is prev's next chunk, in the same generation.
func (c ChangeCodec) Follows(prev, e Change) bool { return e == c.Next(prev) }

// Next returns prev's successor in a run.
func (ChangeCodec) Next(prev Change) Change {
	prev.Chunk++
	return prev
}

// Append codes e after prev.
func (ChangeCodec) Append(dst []byte, prev, e Change, _ bool) []byte {
	dst, same := appendBranchDelta(dst, prev.Branch, e.Branch, uint64(prev.Generation), uint64(e.Generation))
	if same {
		return binary.AppendUvarint(dst, uint64(e.Chunk-prev.Chunk))
	}
	return binary.AppendUvarint(dst, uint64(e.Chunk))
}

// Decode reads the entry after prev.
func (ChangeCodec) Decode(src []byte, prev Change, _ bool) (Change, []byte, error) {
	d := decoder{src: src}
	branch, generation, same := d.branchDelta(prev.Branch, uint64(prev.Generation))
	e := Change{Branch: branch, Generation: block.Generation(generation), Chunk: block.Chunk(d.uvarint())}
	if same {
		e.Chunk += prev.Chunk
	}
	return e, d.src, d.err("change")
}

// ExtraSize is zero: a run's members are known from its first.
func (ChangeCodec) ExtraSize() int { return 0 }

// AppendExtra appends nothing.
func (ChangeCodec) AppendExtra(dst []byte, _ Change) []byte { return dst }

// DecodeExtra reads nothing.
func (ChangeCodec) DecodeExtra([]byte, *Change) {}

// SlotWordCodec codes the entries of the slot tree. An entry is
//
//	uvarint  index delta
//	uvarint  bits, complemented and in reverse order
//
// so that a word whose slots are all allocated, the usual one, is two bytes.
type SlotWordCodec struct{}

// Compare orders by index.
func (SlotWordCodec) Compare(a, b SlotWord) int { return cmp.Compare(a.Index, b.Index) }

// Follows reports whether e is the next word with the same bits.
func (SlotWordCodec) Follows(prev, e SlotWord) bool {
	return e.Index == prev.Index+1 && e.Bits == prev.Bits
}

// Next returns prev's successor in a run.
func (SlotWordCodec) Next(prev SlotWord) SlotWord {
	prev.Index++
	return prev
}

// Append codes e after prev.
func (SlotWordCodec) Append(dst []byte, prev, e SlotWord, _ bool) []byte {
	dst = binary.AppendUvarint(dst, e.Index-prev.Index)
	return binary.AppendUvarint(dst, bits.Reverse64(^e.Bits))
}

// Decode reads the entry after prev.
func (SlotWordCodec) Decode(src []byte, prev SlotWord, _ bool) (SlotWord, []byte, error) {
	d := decoder{src: src}
	e := SlotWord{Index: prev.Index + d.uvarint(), Bits: ^bits.Reverse64(d.uvarint())}
	if e.Bits == 0 {
		d.bad = true
	}
	return e, d.src, d.err("slot word")
}

// ExtraSize is zero: a run's members have the bits of its first.
func (SlotWordCodec) ExtraSize() int { return 0 }

// AppendExtra appends nothing.
func (SlotWordCodec) AppendExtra(dst []byte, _ SlotWord) []byte { return dst }

// DecodeExtra reads nothing.
func (SlotWordCodec) DecodeExtra([]byte, *SlotWord) {}

// LeaseCodec codes the entries of the lease tree: runs of leased slots, ascending,
// which do not overlap. An entry is
//
//	uvarint  first - first of the previous one
//	uvarint  number of slots
type LeaseCodec struct{}

// Compare orders by first slot.
func (LeaseCodec) Compare(a, b SlotRun) int { return cmp.Compare(a.First, b.First) }

// Follows is never true: leases form no runs of entries.
func (LeaseCodec) Follows(_, _ SlotRun) bool { return false }

// Next returns prev's successor, which no entry equals.
func (LeaseCodec) Next(prev SlotRun) SlotRun { return SlotRun{First: prev.First + 1} }

// Append codes e after prev.
func (LeaseCodec) Append(dst []byte, prev, e SlotRun, _ bool) []byte {
	dst = binary.AppendUvarint(dst, uint64(e.First-prev.First))
	return binary.AppendUvarint(dst, e.Len)
}

// Decode reads the entry after prev.
func (LeaseCodec) Decode(src []byte, prev SlotRun, _ bool) (SlotRun, []byte, error) {
	d := decoder{src: src}
	e := SlotRun{First: prev.First + block.Slot(d.uvarint()), Len: d.uvarint()}
	if e.Len == 0 || e.Len > math.MaxUint64-uint64(e.First) {
		d.bad = true
	}
	return e, d.src, d.err("lease")
}

// ExtraSize is zero.
func (LeaseCodec) ExtraSize() int { return 0 }

// AppendExtra appends nothing.
func (LeaseCodec) AppendExtra(dst []byte, _ SlotRun) []byte { return dst }

// DecodeExtra reads nothing.
func (LeaseCodec) DecodeExtra([]byte, *SlotRun) {}

// appendBranchDelta codes the first two fields of a key in order: the second
// field's delta with a bit that says whether the branch changed. It reports
// whether both fields are the previous entry's.
func appendBranchDelta(dst []byte, prevBranch, branch block.Branch, prevKey, key uint64) ([]byte, bool) {
	if branch == prevBranch {
		return binary.AppendUvarint(dst, (key-prevKey)<<1), key == prevKey
	}
	dst = binary.AppendUvarint(dst, key<<1|1)
	return binary.AppendUvarint(dst, uint64(branch-prevBranch)), false
}

// decoder reads a coded entry. After a malformed field all others are zero, and
// err returns an error.
type decoder struct {
	src []byte
	bad bool
}

func (d *decoder) branchDelta(prevBranch block.Branch, prevKey uint64) (branch block.Branch, key uint64, same bool) {
	v := d.uvarint()
	if v&1 == 0 {
		return prevBranch, prevKey + v>>1, v == 0
	}
	delta := d.uvarint()
	if delta == 0 || delta > math.MaxUint64-uint64(prevBranch) {
		d.bad = true
	}
	return prevBranch + block.Branch(delta), v >> 1, false
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.src)
	return take(d, v, n)
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.src)
	return take(d, v, n)
}

func (d *decoder) uint8() uint8 {
	if len(d.src) < 1 {
		return take(d, uint8(0), 0)
	}
	return take(d, d.src[0], 1)
}

func (d *decoder) uint32() uint32 {
	if len(d.src) < 4 {
		return take(d, uint32(0), 0)
	}
	return take(d, binary.LittleEndian.Uint32(d.src), 4)
}

// uvarintUpTo is uvarint for a field that holds no more than most.
func (d *decoder) uvarintUpTo(most uint64) uint64 {
	v := d.uvarint()
	if v > most {
		d.bad = true
		return 0
	}
	return v
}

// bytes reads n bytes, which it does not copy.
func (d *decoder) bytes(n int) []byte {
	if len(d.src) < n || n == 0 {
		d.bad = d.bad || n > 0
		return nil
	}
	return take(d, d.src[:n:n], n)
}

// take consumes n bytes and returns v, or marks the entry bad when n says that v
// could not be read.
func take[V any](d *decoder, v V, n int) V {
	if n <= 0 {
		d.bad = true
		return *new(V)
	}
	d.src = d.src[n:]
	return v
}

func (d *decoder) err(what string) error {
	if d.bad {
		return fmt.Errorf("%w: malformed %s entry", ErrCorrupt, what)
	}
	return nil
}
