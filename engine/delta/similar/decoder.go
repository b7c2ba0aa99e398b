// SPDX-License-Identifier: Apache-2.0

package similar

import (
	"encoding/binary"
	"fmt"
	"slices"

	"zumastor.org/zumastor/engine/delta/zstddict"
)

// Decoder takes payloads apart. It holds at most 5 times the largest extent that
// it was given, and 1 MiB.
type Decoder struct {
	zstd            *zstddict.Decoder
	copies          []copyOp
	dict, raw, rest []byte
}

// NewDecoder returns a decoder.
func NewDecoder() (*Decoder, error) {
	z, err := zstddict.NewDecoder()
	return &Decoder{zstd: z}, err
}

// Decode fills dst, which is not empty, with the extent at offset. An error wraps
// ErrCorrupt or is base's.
func (d *Decoder) Decode(dst, payload []byte, offset int64, base Base) error {
	rest, flags, err := d.parse(payload, len(dst), offset, base.Size())
	if err != nil {
		return err
	}
	left := len(dst)
	for _, c := range d.copies {
		left -= c.n
		if err := readBase(dst[c.at:c.end()], c.from, base); err != nil {
			return err
		}
	}
	if flags&flagPackedRest != 0 {
		if left == 0 {
			return corrupt("a packed rest of nothing")
		}
		if d.dict, err = readDictionary(d.dict, dictionary(d.copies, len(dst), offset, base.Size()), base); err != nil {
			return err
		}
		d.rest = slices.Grow(d.rest[:0], left)[:left]
		if err := d.zstd.Decode(d.rest, rest, d.dict); err != nil {
			return corrupt("the rest: %w", err)
		}
		rest = d.rest
	}
	if len(rest) != left {
		return corrupt("a rest of %d bytes for %d", len(rest), left)
	}
	at := 0
	for _, c := range d.copies {
		rest = rest[copy(dst[at:c.at], rest):]
		at = c.end()
	}
	copy(dst[at:], rest)
	return nil
}

// reader takes uvarints off a slice.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

// parse sets the copies, all inside of the extent and the base, and returns the
// rest as stored.
func (d *Decoder) parse(payload []byte, n int, offset, size int64) (rest []byte, flags byte, err error) {
	if len(payload) == 0 {
		return nil, 0, corrupt("no bytes")
	}
	flags = payload[0]
	if flags&^(flagPackedInstructions|flagPackedRest) != 0 {
		return nil, 0, corrupt("flags %#x are not known", flags)
	}
	r := reader{b: payload[1:]}
	count, stored := r.uvarint(), r.uvarint()
	unpacked := stored
	if flags&flagPackedInstructions != 0 {
		unpacked = r.uvarint()
	}
	if r.bad || stored > uint64(len(r.b)) {
		return nil, 0, corrupt("cut short")
	}
	// A copy takes three bytes at least, and 24 at most.
	if count > uint64(n/minCopy) || unpacked < 3*count || unpacked > 24*count {
		return nil, 0, corrupt("%d copies in %d bytes for an extent of %d", count, unpacked, n)
	}
	instructions, rest := r.b[:stored], r.b[stored:]
	if flags&flagPackedInstructions != 0 {
		if count == 0 {
			return nil, 0, corrupt("packed instructions of no copies")
		}
		d.raw = slices.Grow(d.raw[:0], int(unpacked))[:unpacked]
		if err := d.zstd.Decode(d.raw, instructions, nil); err != nil {
			return nil, 0, corrupt("instructions: %w", err)
		}
		instructions = d.raw
	}
	d.copies = slices.Grow(d.copies[:0], int(count))[:count]
	return rest, flags, d.columns(instructions, n, offset, size)
}

// columns fills in the copies.
func (d *Decoder) columns(instructions []byte, n int, offset, size int64) error {
	r := reader{b: instructions}
	gaps := uint64(0)
	for i := range d.copies {
		gap := r.uvarint()
		gaps += min(gap, uint64(n)+1)
		if gaps > uint64(n) {
			return corrupt("gaps of more than %d bytes", n)
		}
		d.copies[i].at = int(gap)
	}
	at := uint64(0)
	for i := range d.copies {
		c := &d.copies[i]
		at += uint64(c.at)
		length := r.uvarint()
		if length > uint64(n) || at+length+minCopy > uint64(n) {
			return corrupt("copy of %d bytes at %d in an extent of %d", length, at, n)
		}
		c.at, c.n = int(at), int(length)+minCopy
		at += length + minCopy
	}
	distance := offset
	for i := range d.copies {
		c := &d.copies[i]
		switch v := r.uvarint(); v {
		case 0:
		case 1:
			distance = offset
		default:
			v -= 2
			distance += int64(v>>1) ^ -int64(v&1)
		}
		c.from = distance + int64(c.at)
		if c.from < 0 || c.from > size-int64(c.n) {
			return corrupt("copy of %d bytes at %d from a base of %d", c.n, c.from, size)
		}
	}
	if r.bad || len(r.b) > 0 {
		return corrupt("%d bytes after the instructions", len(r.b))
	}
	return nil
}

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: similar: %w", ErrCorrupt, fmt.Errorf(format, args...))
}
