// SPDX-License-Identifier: Apache-2.0

package vcdiff

import (
	"encoding/binary"
	"fmt"
	"hash/adler32"
)

// section is a part of a delta that is read from its begin.
type section struct {
	b   []byte
	err error // the first
}

func (s *section) fail(format string, args ...any) {
	if s.err == nil {
		s.err = fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
	}
}

func (s *section) byte() byte { return s.take(1)[0] }

// take returns the next n bytes, or zeros of any number where they are not there.
func (s *section) take(n int) []byte {
	if n < 0 || n > len(s.b) || s.err != nil {
		s.fail("cut short")
		return make([]byte, 4)
	}
	b := s.b[:n]
	s.b = s.b[n:]
	return b
}

// number reads a number of at most 35 bits.
func (s *section) number() int {
	n := 0
	for range 5 {
		c := s.byte()
		n = n<<7 | int(c&0x7f)
		if c&0x80 == 0 {
			return n
		}
	}
	s.fail("number of more than 35 bits")
	return 0
}

// Decode fills dst with what the delta makes of source. An error is of ErrCorrupt;
// dst is then undefined.
func Decode(dst, delta, source []byte) error {
	s := section{b: delta}
	if err := header(&s); err != nil {
		return err
	}
	done := 0
	for len(s.b) > 0 {
		n, err := window(&s, dst, done, source)
		if err != nil {
			return err
		}
		done += n
	}
	if done != len(dst) {
		return fmt.Errorf("%w: %d bytes for %d", ErrCorrupt, done, len(dst))
	}
	return nil
}

func header(s *section) error {
	if m := s.take(len(magic)); s.err == nil && [4]byte(m) != magic {
		s.fail("no header")
	}
	indicator := s.byte()
	switch {
	case s.err != nil:
	case indicator&headerSecondary != 0:
		s.fail("secondary compression is not supported (xdelta3 -S none leaves it out)")
	case indicator&headerCodeTable != 0:
		s.fail("code tables other than the default are not supported")
	case indicator&^headerApplication != 0:
		s.fail("header bits %#x are not known", indicator)
	case indicator&headerApplication != 0:
		s.take(s.number())
	}
	return s.err
}

// window decodes a window to dst[done:] and returns its length.
func window(s *section, dst []byte, done int, source []byte) (int, error) {
	indicator := s.byte()
	var from []byte
	switch {
	case indicator&^(windowSource|windowTarget|windowAdler) != 0 || indicator&3 == 3:
		s.fail("window bits %#x are not known", indicator)
	case indicator&windowSource != 0:
		from = segment(s, source)
	case indicator&windowTarget != 0:
		from = segment(s, dst[:done])
	}
	w := section{b: s.take(s.number())}
	if s.err != nil {
		return 0, s.err
	}
	size := w.number()
	if size > len(dst)-done {
		w.fail("window of %d bytes, %d are left", size, len(dst)-done)
	}
	if compressed := w.byte(); compressed != 0 {
		w.fail("secondary compression is not supported (xdelta3 -S none leaves it out)")
	}
	data, codes, addresses := w.number(), w.number(), w.number()
	var sum []byte
	if indicator&windowAdler != 0 {
		sum = w.take(4)
	}
	d := decoder{source: from, data: section{b: w.take(data)}, codes: section{b: w.take(codes)}, addresses: section{b: w.take(addresses)}}
	if len(w.b) > 0 {
		w.fail("%d bytes after a window", len(w.b))
	}
	if w.err != nil {
		return 0, w.err
	}
	d.target = dst[done : done+size]
	if err := d.run(); err != nil {
		return 0, err
	}
	if sum != nil && binary.BigEndian.Uint32(sum) != adler32.Checksum(d.target) {
		return 0, fmt.Errorf("%w: Adler-32 of a window is wrong", ErrCorrupt)
	}
	return size, nil
}

// segment reads which part of b a window copies from.
func segment(s *section, b []byte) []byte {
	size, position := s.number(), s.number()
	if s.err == nil && (size > len(b) || position > len(b)-size) {
		s.fail("source of %d bytes at %d in %d", size, position, len(b))
	}
	if s.err != nil {
		return nil
	}
	return b[position : position+size]
}

// decoder decodes a window.
type decoder struct {
	source, target         []byte
	at                     int // in the target
	data, codes, addresses section
	cache                  cache
}

func (d *decoder) run() error {
	for len(d.codes.b) > 0 {
		for _, i := range table[d.codes.byte()] {
			if err := d.do(i); err != nil {
				return err
			}
		}
	}
	if d.at != len(d.target) || len(d.data.b) > 0 || len(d.addresses.b) > 0 {
		d.codes.fail("%d of %d bytes of a window", d.at, len(d.target))
	}
	return d.codes.err
}

func (d *decoder) do(i instruction) error {
	if i.kind == nothing {
		return nil
	}
	size := int(i.size)
	if size == 0 {
		size = d.codes.number()
	}
	if size > len(d.target)-d.at {
		d.codes.fail("instruction of %d bytes, %d are left", size, len(d.target)-d.at)
	}
	if d.codes.err != nil {
		return d.codes.err
	}
	out := d.target[d.at : d.at+size]
	switch i.kind {
	case add:
		if b := d.data.take(size); d.data.err == nil {
			copy(out, b)
		}
	case run:
		b := d.data.byte()
		for k := range out {
			out[k] = b
		}
	case copyFrom:
		d.copy(out, d.address(i.mode))
	}
	d.at += size
	if d.data.err != nil {
		return d.data.err
	}
	return d.addresses.err
}

// address reads an address in source and target as one.
func (d *decoder) address(mode uint8) int {
	here := len(d.source) + d.at
	a := 0
	switch {
	case mode == 0:
		a = d.addresses.number()
	case mode == 1:
		a = here - d.addresses.number()
	case mode < sameMode:
		a = d.cache.near[mode-nearMode] + d.addresses.number()
	default:
		a = d.cache.same[int(mode-sameMode)*256+int(d.addresses.byte())]
	}
	if a < 0 || a >= here {
		d.addresses.fail("address %d at %d", a, here)
		return 0
	}
	d.cache.update(a)
	return a
}

// copy fills out, the part of the target at d.at, which may overlap with what it
// is copied from.
func (d *decoder) copy(out []byte, from int) {
	if d.addresses.err != nil {
		return
	}
	if from < len(d.source) {
		out = out[copy(out, d.source[from:]):]
		from = len(d.source)
	}
	for n := range out {
		out[n] = d.target[from-len(d.source)+n]
	}
}
