// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"errors"
	"fmt"
	"io"

	"zumastor.org/zumastor/engine/delta/codec"
	"zumastor.org/zumastor/engine/mark"
)

// ErrBase is wrapped when the base is not what the delta was made against.
var ErrBase = errors.New("the base is not the one of the delta")

// Content is a state of a volume, or what is to become one. Reads may come from several
// goroutines at a time; of offsets that are multiples of the chunk size and lengths that
// are such or end at the size, where a codec does not want others.
type Content interface {
	io.ReaderAt
	Size() int64 // bytes
}

// readFull fills p from off on.
func readFull(c io.ReaderAt, p []byte, off int64) error {
	n, err := c.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("reading %d bytes at offset %d: %w", len(p), off, err)
}

// decoder turns records into content. For one goroutine.
type decoder struct {
	header   Header
	decoders map[codec.ID]codec.Decoder
	same     []byte // what the base has at the place of the record checked last, if that has its sum
}

func newDecoder(h Header) *decoder {
	return &decoder{header: h, decoders: make(map[codec.ID]codec.Decoder)}
}

// content fills dst, of the record's length, with its content and verifies that. Base is
// nil where there is none; target has what the records before made of it.
func (d *decoder) content(dst []byte, r *Record, base Content, target io.ReaderAt) error {
	var err error
	switch r.Kind {
	case KindZero:
		clear(dst)
		return nil
	case KindComposed:
		return d.composed(dst, r, base, target)
	case KindCopy:
		err = readFull(base, dst, r.Source)
	case KindAgain:
		err = readFull(target, dst, r.Source)
	case KindExtent:
		err = d.decode(dst, r, base)
	}
	if err != nil {
		return fmt.Errorf("%v at offset %d: %w", r.Kind, r.Offset, err)
	}
	if SumOf(dst) == r.Sum {
		return nil
	}
	if r.Kind == KindExtent && !r.Codec.NeedsBase() {
		return wrongContent(r)
	}
	return fmt.Errorf("%w: what it makes at offset %d has not the sum that it is to have", ErrBase, r.Offset)
}

func wrongContent(r *Record) error {
	return fmt.Errorf("%w: the content at offset %d has not the sum that it is to have", ErrCorrupt, r.Offset)
}

func (d *decoder) decode(dst []byte, r *Record, base Content) error {
	c := d.decoders[r.Codec]
	if c == nil {
		var err error
		if c, err = codec.NewDecoder(r.Codec, codec.Limits{Extent: d.header.Extent}); err != nil {
			return fmt.Errorf("%w: %w", ErrVersion, err)
		}
		d.decoders[r.Codec] = c
	}
	var from codec.Base
	if base != nil {
		from = base
	}
	mark.DecodeBegin(uint64(len(dst)))
	err := c.Decode(dst, r.Payload, r.Offset, from)
	mark.DecodeEnd()
	if errors.Is(err, codec.ErrCorrupt) && r.Codec.NeedsBase() && base == nil {
		return fmt.Errorf("%w: %v without a base: %w", ErrCorrupt, r.Codec, err)
	}
	if errors.Is(err, codec.ErrCorrupt) {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return err
}

// checkBase returns an error if the base is known not to be what it was at a record's
// place.
func (d *decoder) checkBase(r *Record, base Content) error {
	for i := range r.Parts { // those over others are checked as they are decoded
		if overlapping(&r.Parts[i], r.Parts[:i]) {
			continue
		}
		if err := d.checkBase(&r.Parts[i], base); err != nil {
			return err
		}
	}
	d.same = d.same[:0]
	if !r.HasBase || base == nil {
		return nil
	}
	n := min(r.end(), base.Size()) - r.Offset
	if int64(cap(d.same)) < n {
		d.same = make([]byte, d.header.Extent)
	}
	d.same = d.same[:n]
	if err := readFull(base, d.same, r.Offset); err != nil {
		return fmt.Errorf("the base: %w", err)
	}
	if SumOf(d.same) != r.Base {
		return fmt.Errorf("%w: it holds something else at offset %d", ErrBase, r.Offset)
	}
	return nil
}

// overlapping reports whether a record has bytes of one of the others.
func overlapping(r *Record, others []Record) bool {
	for i := range others {
		if r.Offset < others[i].end() && others[i].Offset < r.end() {
			return true
		}
	}
	return false
}

// composed lays the parts of a record over the base, one over another.
func (d *decoder) composed(dst []byte, r *Record, base Content, target io.ReaderAt) error {
	clear(dst)
	if base != nil && r.Offset < base.Size() {
		if err := readFull(base, dst[:min(r.Length, base.Size()-r.Offset)], r.Offset); err != nil {
			return fmt.Errorf("the base: %w", err)
		}
	}
	over := &overlay{base: base, size: d.header.To.Size, off: r.Offset, p: dst}
	var buf []byte
	for i := range r.Parts {
		part := &r.Parts[i]
		if err := d.checkBase(part, over); err != nil {
			return err
		}
		buf = grown(buf, part.Length)
		if err := d.content(buf, part, over, target); err != nil {
			return err
		}
		copy(dst[part.Offset-r.Offset:], buf)
	}
	return nil
}

// overlay is a base, which may be nil, with a piece of newer content; beyond the base it
// is zeroes.
type overlay struct {
	base Content
	size int64
	off  int64
	p    []byte
}

// Size implements Content.
func (o *overlay) Size() int64 { return o.size }

// ReadAt implements Content.
func (o *overlay) ReadAt(p []byte, off int64) (int, error) {
	n := int(max(0, min(int64(len(p)), o.size-off)))
	clear(p[:n])
	if o.base != nil && off < o.base.Size() {
		if err := readFull(o.base, p[:min(int64(n), o.base.Size()-off)], off); err != nil {
			return 0, err
		}
	}
	from, to := max(off, o.off), min(off+int64(n), o.off+int64(len(o.p)))
	if from < to {
		copy(p[from-off:to-off], o.p[from-o.off:to-o.off])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
