// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"slices"

	"zumastor.org/zumastor/engine/delta/codec"
)

// coarse is how many entries of the index there are for each one that is kept in memory.
const coarse = 64

// Indexed is a whole delta that can be read at any place, whose records are found by its
// index. It keeps at most 16 KiB in memory. What it returns is verified record by record;
// that no record is missing between two is for the reader of the whole to know. Safe for
// concurrent use if what it reads from is.
type Indexed struct {
	from    io.ReaderAt
	header  Header
	sum     Summary
	first   int64 // position of the first record
	end     int64 // position of the end record
	entries int
	kept    []indexed // every coarse-th
}

// OpenIndexed reads the header, the index and the trailer of a delta of size bytes.
func OpenIndexed(from io.ReaderAt, size int64) (*Indexed, error) {
	h, p, err := readHeader(io.NewSectionReader(from, 0, size))
	if err != nil {
		return nil, err
	}
	x := &Indexed{from: from, header: *h, first: int64(len(p))}
	if size < x.first+recordSize+trailerSize {
		return nil, fmt.Errorf("%w: it has %d bytes", ErrCut, size)
	}
	trailer := make([]byte, trailerSize)
	if err := readFull(from, trailer, size-trailerSize); err != nil {
		return nil, err
	}
	if err := x.decodeTrailer(trailer); err != nil {
		return nil, err
	}
	x.sum.Bytes = size
	n := size - trailerSize - x.end
	if x.end < x.first || n < recordSize || n > recordSize+maxIndex*indexEntry || (n-recordSize)%indexEntry != 0 {
		return nil, fmt.Errorf("%w: its index is not before its trailer", ErrCorrupt)
	}
	return x, x.readIndex(n)
}

func (x *Indexed) decodeTrailer(p []byte) error {
	if string(p[:8]) != TrailerMagic || crc32.Checksum(p[:trailerSize-4], castagnoli) != binary.LittleEndian.Uint32(p[trailerSize-4:]) {
		return fmt.Errorf("%w: checksum of the trailer", ErrCorrupt)
	}
	number := func(at int) int64 { return int64(binary.LittleEndian.Uint64(p[at:])) }
	x.sum = Summary{Records: uint64(number(8)), Content: number(16), Zeroes: number(24), Coded: number(32), Digest: [32]byte(p[48:80])}
	x.end = number(40)
	return nil
}

// readIndex reads the end record, of n bytes, and keeps some of the index.
func (x *Indexed) readIndex(n int64) error {
	p := make([]byte, n)
	if err := readFull(x.from, p, x.end); err != nil {
		return err
	}
	c, err := decodeFixed(p, x.header.Extent)
	if err != nil {
		return err
	}
	if c.Kind != KindEnd || int64(c.payload) != n-recordSize || !intact(p) {
		return fmt.Errorf("%w: checksum of the index", ErrCorrupt)
	}
	x.entries = c.payload / indexEntry
	last := indexed{-1, x.first - 1}
	for i := range x.entries {
		e := decodeEntry(p[recordSize+i*indexEntry:])
		if e.offset <= last.offset || e.position <= last.position || e.position >= x.end || i == 0 && e.position != x.first {
			return fmt.Errorf("%w: its index does not ascend", ErrCorrupt)
		}
		if last = e; i%coarse == 0 {
			x.kept = append(x.kept, e)
		}
	}
	if x.entries == 0 && x.end != x.first {
		return fmt.Errorf("%w: it has records and no index", ErrCorrupt)
	}
	return nil
}

func decodeEntry(p []byte) indexed {
	return indexed{int64(binary.LittleEndian.Uint64(p)), int64(binary.LittleEndian.Uint64(p[8:]))}
}

// Header returns the delta's header.
func (x *Indexed) Header() Header { return x.header }

// Summary returns what the trailer counts. Its digest is what the whole delta is to have.
func (x *Indexed) Summary() Summary { return x.sum }

// Place is where a record stands: enough to know whether to read it.
type Place struct {
	Kind           Kind
	Codec          codec.ID // of an extent
	Offset, Length int64    // of the content
	position, size int64
}

// Places returns where the records are that have content at or after off and before end,
// in order.
func (x *Indexed) Places(off, end int64) (list []Place, err error) {
	at, err := x.find(off)
	if err != nil {
		return nil, err
	}
	fixed := make([]byte, recordSize)
	for at < x.end {
		if err := readFull(x.from, fixed, at); err != nil {
			return nil, err
		}
		c, err := decodeFixed(fixed, x.header.Extent)
		switch {
		case err != nil:
			return nil, err
		case c.Offset >= end:
			return list, nil
		case c.Kind == KindEnd || c.Length <= 0 || c.Offset < 0 || c.Length > math.MaxInt64-c.Offset:
			return nil, fmt.Errorf("%w: record at position %d", ErrCorrupt, at)
		}
		size := recordSize + int64(c.payload)
		if size > x.end-at {
			return nil, fmt.Errorf("%w: the record at position %d goes on after the end", ErrCorrupt, at)
		}
		if c.end() > off {
			list = append(list, Place{c.Kind, c.Codec, c.Offset, c.Length, at, size})
		}
		at += size
	}
	return list, nil
}

// Read reads the record at a place, and verifies it.
func (x *Indexed) Read(p Place) (*Record, error) { return x.read(p.position, p.size) }

// read reads the record of size bytes at a position.
func (x *Indexed) read(at, size int64) (*Record, error) {
	p := make([]byte, size)
	if err := readFull(x.from, p, at); err != nil {
		return nil, err
	}
	c, err := decodeFixed(p, x.header.Extent)
	if err != nil {
		return nil, err
	}
	if recordSize+int64(c.payload) != size || !intact(p) {
		return nil, fmt.Errorf("%w: checksum of the record at position %d", ErrCorrupt, at)
	}
	if err := c.decodePayload(p[recordSize:], &x.header); err != nil {
		return nil, err
	}
	if err := c.check(&x.header); err != nil {
		return nil, err
	}
	return &c.Record, x.header.verifyQuick(&c.Record)
}

// find returns the position of a record at or before off, or of the first one.
func (x *Indexed) find(off int64) (int64, error) {
	i, found := slices.BinarySearchFunc(x.kept, off, func(e indexed, off int64) int { return cmp.Compare(e.offset, off) })
	if found {
		return x.kept[i].position, nil
	}
	if i == 0 {
		return x.first, nil
	}
	from := (i - 1) * coarse
	p := make([]byte, min(coarse, x.entries-from)*indexEntry)
	if err := readFull(x.from, p, x.end+recordSize+int64(from)*indexEntry); err != nil {
		return 0, err
	}
	at := x.kept[i-1].position
	for ; len(p) > 0; p = p[indexEntry:] {
		e := decodeEntry(p)
		if e.offset > off {
			break
		}
		at = e.position
	}
	if at < x.first || at >= x.end {
		return 0, fmt.Errorf("%w: its index is not what it was", ErrCorrupt)
	}
	return at, nil
}

// Decoder makes content of records, whatever their order and whichever their deltas. It
// holds what the codecs do: see [codec.Limits]. For one goroutine.
type Decoder struct {
	d *decoder
}

// NewDecoder returns a decoder for deltas whose bound of extents is at most extent bytes.
func NewDecoder(extent int) *Decoder { return &Decoder{newDecoder(Header{Extent: extent})} }

// Content fills dst with the content of a record of a delta with that header, and
// verifies it, and the base at its place. Base is the older state, nil where there is
// none; target is read where the newer state is repeated.
func (x *Decoder) Content(dst []byte, h *Header, r *Record, base Content, target io.ReaderAt) error {
	x.d.header.To.Size = h.To.Size
	if base != nil {
		if err := x.d.checkBase(r, base); err != nil {
			return err
		}
	}
	return x.d.content(dst, r, base, target)
}
