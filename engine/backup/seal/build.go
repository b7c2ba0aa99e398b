// SPDX-License-Identifier: Apache-2.0

package seal

import "fmt"

// Builder makes an object of what is written to it. It holds the object in memory.
type Builder struct {
	object  object
	sealed  []byte
	segment []byte // of content, not sealed yet
	number  int64
	content int64
}

// Begin begins the object of that name, for about room bytes of content.
func (s Seals) Begin(name string, room int) (*Builder, error) {
	header, err := s.newHeader()
	if err != nil {
		return nil, err
	}
	b := &Builder{segment: make([]byte, 0, SegmentSize)}
	if b.object, err = s.object(name, header); err != nil {
		return nil, err
	}
	b.sealed = append(make([]byte, 0, SealedSize(int64(room))), header...)
	return b, nil
}

// Len returns how many bytes of content were written.
func (b *Builder) Len() int64 { return b.content }

// Write implements io.Writer, and never fails.
func (b *Builder) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if len(b.segment) == SegmentSize { // and more comes: it is not the last one
			b.flush(false)
		}
		k := copy(b.segment[len(b.segment):SegmentSize], p)
		b.segment = b.segment[:len(b.segment)+k]
		p = p[k:]
	}
	b.content += int64(n)
	return n, nil
}

func (b *Builder) flush(last bool) {
	b.sealed = b.object.aead.Seal(b.sealed, nonce(b.number, last), b.segment, b.object.with)
	b.segment = b.segment[:0]
	b.number++
}

// Finish returns the object. The builder is of no further use.
func (b *Builder) Finish() []byte {
	b.flush(true)
	return b.sealed
}

// Seal returns the object of that name and content.
func (s Seals) Seal(name string, content []byte) ([]byte, error) {
	b, err := s.Begin(name, len(content))
	if err != nil {
		return nil, err
	}
	if _, err := b.Write(content); err != nil {
		return nil, err
	}
	return b.Finish(), nil
}

// Open returns the content of a whole object.
func (s Seals) Open(name string, sealed []byte) ([]byte, error) {
	o, err := s.Opener(name, sealed)
	if err != nil {
		return nil, err
	}
	size, err := contentSize(name, int64(len(sealed)))
	if err != nil {
		return nil, err
	}
	return o.Open(nil, sealed[HeaderSize:], 0, size)
}

// contentSize returns how many bytes of content an object of that size has.
func contentSize(name string, sealed int64) (int64, error) {
	body := sealed - HeaderSize
	n := body - (body+SegmentSize+TagSize-1)/(SegmentSize+TagSize)*TagSize
	if n < 0 || SealedSize(n) != sealed {
		return 0, fmt.Errorf("%s: %w: no object has %d bytes", name, ErrDamaged, sealed)
	}
	return n, nil
}

// Range returns which bytes of an object hold the segments in which the n bytes of
// content at off stand, and where the first of those segments begins in the content.
// Size is that of all content.
func Range(off, n, size int64) (from, to, first int64) {
	segment, end := off/SegmentSize, min(off+n, size)
	first = segment * SegmentSize
	from = HeaderSize + segment*(SegmentSize+TagSize)
	return from, min(HeaderSize+(end+SegmentSize-1)/SegmentSize*(SegmentSize+TagSize), SealedSize(size)), first
}

// Opener opens segments of one object.
type Opener struct {
	object object
	name   string
}

// Opener returns what opens the object of that name, which begins with header.
func (s Seals) Opener(name string, header []byte) (*Opener, error) {
	if err := s.checkHeader(name, header); err != nil {
		return nil, err
	}
	o, err := s.object(name, header[:HeaderSize])
	if err != nil {
		return nil, err
	}
	return &Opener{o, name}, nil
}

// Open appends to dst the content of whole segments, of which the first one begins at
// off in the content, whose size is that of all.
func (o *Opener) Open(dst, sealed []byte, off, size int64) ([]byte, error) {
	if off < 0 || off > max(0, size-1) {
		return nil, fmt.Errorf("%s: %w: it ends before byte %d of its content", o.name, ErrDamaged, off)
	}
	for number := off / SegmentSize; ; number++ {
		end := (number + 1) * SegmentSize
		n := min(len(sealed), int(min(SegmentSize, size-number*SegmentSize))+TagSize)
		var err error
		if dst, err = o.object.aead.Open(dst, nonce(number, end >= size), sealed[:n], o.object.with); err != nil {
			return nil, fmt.Errorf("%s: %w: at byte %d of its content", o.name, ErrDamaged, number*SegmentSize)
		}
		if sealed = sealed[n:]; len(sealed) == 0 {
			return dst, nil
		}
		if end >= size {
			return nil, fmt.Errorf("%s: %w: there is something after its end", o.name, ErrDamaged)
		}
	}
}
