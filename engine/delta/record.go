// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/zeebo/blake3"

	"zumastor.org/zumastor/engine/delta/codec"
)

// Kind says what a record is. Part of the format, must not change.
type Kind uint8

// The kinds of records.
const (
	KindExtent   Kind = 1 + iota // content, coded
	KindZero                     // zeroes, of any length
	KindCopy                     // content that stands elsewhere in the base
	KindAgain                    // content that stands at an earlier offset of the target
	KindComposed                 // records laid one over another
	KindEnd                      // there are no more; its payload is the index
	maxKind      = KindEnd
)

var kindNames = [...]string{"", "extent", "zero", "copy", "again", "composed", "end"}

// String returns the kind's name, or its number where this version does not know it.
func (k Kind) String() string {
	if k == 0 || k > maxKind {
		return fmt.Sprintf("kind %d", uint8(k))
	}
	return kindNames[k]
}

// Sum is the first half of the BLAKE3 of some content.
type Sum [16]byte

// SumOf returns the sum of p.
func SumOf(p []byte) Sum {
	sum := blake3.Sum256(p)
	return Sum(sum[:16])
}

// Record is one piece of a delta: the content of Length bytes from Offset on.
type Record struct {
	Kind   Kind
	Codec  codec.ID // of an extent
	Offset int64
	Length int64
	Sum    Sum // of the content; of an extent, copy and again
	// Quick says that Sum is that of [Header.quickSum], of content that stands in the
	// payload as it is. Only who reads a delta to apply it ever sees that.
	Quick bool
	// Base is the sum of what the base has at the same place, up to its end, and
	// HasBase says that it is known.
	Base    Sum
	HasBase bool
	Source  int64  // where a copy or again stands
	Payload []byte // of an extent
	Parts   []Record
}

// Sizes and bounds of records in bytes. Part of the format, must not change.
const (
	recordSize = 64
	// payloadSlack is by how much a payload may be larger than the content.
	payloadSlack = 64 << 10
	// MaxParts bounds the parts of a composed record.
	MaxParts = 255
	// maxComposed is how many times the bound of an extent the payload of a composed
	// record may be.
	maxComposed = 4
	maxIndex    = 1 << 16 // entries
	indexEntry  = 16
)

// Flags of a record. Part of the format, must not change.
const (
	flagBase  = 1 << iota // Base is known
	flagQuick             // Sum is the quick one, and the checksum leaves it the payload
	allFlags  = flagBase | flagQuick
)

func (r *Record) end() int64 { return r.Offset + r.Length }

// bare reports whether the payload is the content as it is, of which Sum is.
func (r *Record) bare() bool { return r.Kind == KindExtent && r.Codec == codec.Raw }

// maxPayload bounds the payload of a record of that kind.
func maxPayload(k Kind, extent int) int {
	switch k {
	case KindExtent:
		return extent + payloadSlack
	case KindCopy, KindAgain:
		return 8
	case KindComposed:
		return maxComposed * (extent + payloadSlack)
	case KindEnd:
		return maxIndex * indexEntry
	}
	return 0
}

// apart is how many bytes of an extent's payload are worth a write of their own rather
// than a copy behind the fixed part.
const apart = 64 << 10

// append codes a record as the seq-th of its delta; parts have number 0.
func (r *Record) append(dst []byte, seq uint32) []byte {
	start := len(dst)
	dst = r.appendFixed(dst, seq)
	switch r.Kind {
	case KindCopy, KindAgain:
		dst = binary.LittleEndian.AppendUint64(dst, uint64(r.Source))
	case KindComposed:
		for i := range r.Parts {
			dst = r.Parts[i].append(dst, 0)
		}
	default:
		dst = append(dst, r.Payload...)
	}
	seal(dst[start:start+recordSize], dst[start+recordSize:])
	return dst
}

// seal puts the payload's length, and then the checksum, into the fixed part.
func seal(fixed, payload []byte) {
	binary.LittleEndian.PutUint32(fixed[4:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(fixed[recordSize-4:], partsCRC(fixed, payload))
}

// intact reports whether a coded record has the checksum that is in it.
func intact(p []byte) bool {
	return binary.LittleEndian.Uint32(p[recordSize-4:]) == partsCRC(p[:recordSize], p[recordSize:])
}

// appendFixed codes the fixed part, which is not sealed yet.
func (r *Record) appendFixed(dst []byte, seq uint32) []byte {
	flags := uint8(0)
	if r.HasBase {
		flags |= flagBase
	}
	if r.Quick {
		flags |= flagQuick
	}
	dst = append(dst, byte(r.Kind), flags, byte(r.Codec), 0, 0, 0, 0, 0)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(r.Offset))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(r.Length))
	dst = append(dst, r.Sum[:]...)
	dst = append(dst, r.Base[:]...)
	dst = binary.LittleEndian.AppendUint32(dst, seq)
	return append(dst, 0, 0, 0, 0) // the checksum
}

// partsCRC is the checksum of a record: the CRC32C of its fixed part, with zeroes for the
// checksum, and of the payload, but for one that has a quick sum.
func partsCRC(fixed, payload []byte) uint32 {
	crc := crc32.Update(0, castagnoli, fixed[:recordSize-4])
	crc = crc32.Update(crc, castagnoli, make([]byte, 4))
	if fixed[1]&flagQuick != 0 {
		return crc
	}
	return crc32.Update(crc, castagnoli, payload)
}

// coded is a record's fixed part as it stands in the delta.
type coded struct {
	Record
	payload int
	seq     uint32
}

// decodeFixed reads the fixed part of a record, of which only the checksum will tell
// whether it is right; the length of the payload is within the bounds.
func decodeFixed(p []byte, extent int) (coded, error) {
	c := coded{payload: int(binary.LittleEndian.Uint32(p[4:])), seq: binary.LittleEndian.Uint32(p[56:])}
	c.Kind, c.Codec, c.HasBase, c.Quick = Kind(p[0]), codec.ID(p[2]), p[1]&flagBase != 0, p[1]&flagQuick != 0
	c.Offset, c.Length = int64(binary.LittleEndian.Uint64(p[8:])), int64(binary.LittleEndian.Uint64(p[16:]))
	copy(c.Sum[:], p[24:])
	copy(c.Base[:], p[40:])
	switch {
	case c.Kind == 0:
		return c, fmt.Errorf("%w: a record of no kind", ErrCorrupt)
	case c.Kind > maxKind:
		return c, fmt.Errorf("%w: a record of %v", ErrVersion, c.Kind)
	case p[1]&^allFlags != 0 || p[3] != 0:
		return c, fmt.Errorf("%w: flags %#x of a record", ErrVersion, p[1])
	case c.payload > maxPayload(c.Kind, extent):
		return c, fmt.Errorf("%w: %v record with %d coded bytes", ErrCorrupt, c.Kind, c.payload)
	}
	return c, nil
}

// decodePayload takes in the payload of a record whose checksum is right. What it
// keeps of p is valid as long as p is.
func (r *Record) decodePayload(p []byte, h *Header) error {
	switch r.Kind {
	case KindCopy, KindAgain:
		if len(p) != 8 {
			return fmt.Errorf("%w: %v record with %d coded bytes", ErrCorrupt, r.Kind, len(p))
		}
		r.Source = int64(binary.LittleEndian.Uint64(p))
	case KindComposed:
		return r.decodeParts(p, h)
	default:
		r.Payload = p
	}
	return nil
}

func (r *Record) decodeParts(p []byte, h *Header) error {
	over := *h // their base is as large as what is made
	over.From = &End{Size: h.To.Size}
	for len(p) > 0 {
		if len(p) < recordSize || len(r.Parts) == MaxParts {
			return fmt.Errorf("%w: parts of the composed record at offset %d", ErrCorrupt, r.Offset)
		}
		c, err := decodeFixed(p, h.Extent)
		if err != nil {
			return err
		}
		n := recordSize + c.payload
		if len(p) < n || c.seq != 0 || c.Kind != KindExtent && c.Kind != KindZero && c.Kind != KindAgain || c.Quick || !intact(p[:n]) {
			return fmt.Errorf("%w: parts of the composed record at offset %d", ErrCorrupt, r.Offset)
		}
		part := c.Record
		if err := part.decodePayload(p[recordSize:n], h); err != nil {
			return err
		}
		if err := part.check(&over); err != nil {
			return err
		}
		if part.Offset < r.Offset || part.end() > r.end() || part.Kind == KindAgain && part.Source > r.Offset-part.Length {
			return fmt.Errorf("%w: a part at offset %d does not fit the composed record at %d", ErrCorrupt, part.Offset, r.Offset)
		}
		r.Parts = append(r.Parts, part)
		p = p[n:]
	}
	if len(r.Parts) == 0 {
		return fmt.Errorf("%w: composed record without parts", ErrCorrupt)
	}
	return nil
}

// check returns an error unless the record can be one of a delta with this header.
func (r *Record) check(h *Header) error {
	bad := func(what string) error {
		return fmt.Errorf("%w: %v record of %d bytes at offset %d: %s", ErrCorrupt, r.Kind, r.Length, r.Offset, what)
	}
	size, window := h.To.Size, int64(h.Extent)
	switch {
	case r.Kind == 0 || r.Kind >= KindEnd:
		return bad("it is no record of content")
	case r.Offset < 0 || r.Length <= 0 || r.Offset >= size || r.Length > size-r.Offset:
		return bad("it is beyond the volume")
	case r.Offset%int64(h.ChunkSize) != 0 || r.Length%int64(h.ChunkSize) != 0 && r.end() != size:
		return bad("it is not of whole chunks")
	case r.Kind != KindZero && r.Offset/window != (r.end()-1)/window:
		return bad("it crosses the bound of an extent")
	case r.HasBase && r.Offset >= h.baseSize():
		return bad("there is no base at its place")
	case (r.Kind == KindZero || r.Kind == KindComposed) && (r.Sum != Sum{} || r.HasBase) || !r.HasBase && r.Base != Sum{}:
		return bad("it has a sum")
	case r.Kind != KindExtent && r.Codec != 0:
		return bad("it has a codec")
	case r.Quick && (!r.bare() || int64(len(r.Payload)) != r.Length):
		return bad("its sum is not of its payload")
	case r.Kind == KindExtent && !h.allows(r.Codec):
		return bad(fmt.Sprintf("%v is not one of the header's codecs", r.Codec))
	case r.Kind == KindCopy && (r.Source < 0 || r.Source > h.baseSize() || r.Length > h.baseSize()-r.Source):
		return bad("its source is beyond the base")
	case r.Kind == KindAgain && (r.Source < 0 || r.Source > r.Offset-r.Length):
		return bad("its source does not stand before it")
	}
	return nil
}

// allows reports whether the header names the codec.
func (h *Header) allows(id codec.ID) bool {
	for _, c := range h.Codecs {
		if c == id {
			return true
		}
	}
	return false
}
