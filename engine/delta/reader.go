// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Reader reads a delta from its begin, as it comes from a file or a pipe. It holds one
// record: no more than four times the header's bound of an extent, which is at most
// 16 MiB, and grows only with bytes that did come. For one goroutine.
type Reader struct {
	from   io.Reader
	header Header
	sum    Summary
	digest running
	next   int64
	tail   int64
	index  index
	buf    bytes.Buffer
	err    error
}

// NewReader reads the header of a delta.
func NewReader(r io.Reader) (*Reader, error) {
	h, p, err := readHeader(r)
	if err != nil {
		return nil, err
	}
	x := &Reader{from: r, header: *h, digest: newRunning(), tail: h.baseSize()}
	x.digest.take(p)
	x.sum.Bytes += int64(len(p))
	return x, nil
}

// NewRestReader reads the header of the rest of a delta, which [Encode] made from the
// offset start on. What comes before that is not in it, and no record may be there.
func NewRestReader(r io.Reader, start int64) (*Reader, error) {
	x, err := NewReader(r)
	if err != nil {
		return nil, err
	}
	if err := x.header.startsAt(start); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	x.next, x.tail = start, max(start, x.tail)
	return x, nil
}

// Header returns the delta's header.
func (r *Reader) Header() Header { return r.header }

// Summary returns what was read so far. Once Next has returned io.EOF, it is of the
// whole delta.
func (r *Reader) Summary() Summary { return r.sum }

// Next returns the next record, valid until the call after, or io.EOF when the end was
// read and the whole delta is known to be what was written. Any other error is final.
// Until io.EOF, what was read may be followed by damage.
func (r *Reader) Next() (*Record, error) {
	rec, err := r.nextIn(&r.buf)
	switch {
	case err != nil:
	case rec.Quick:
		r.err = r.header.verifyQuick(rec)
	case rec.bare() && SumOf(rec.Payload) != rec.Sum:
		r.err = wrongContent(rec)
	}
	if r.err != nil {
		return nil, r.err
	}
	return rec, nil
}

// nextIn is Next for who makes content of all records, and so verifies that what is bare is
// what it is to be. The record is in the buffer, which is read until the call after.
func (r *Reader) nextIn(buf *bytes.Buffer) (*Record, error) {
	if r.err != nil {
		return nil, r.err
	}
	rec, err := r.read(buf)
	r.err = err
	return rec, err
}

func (r *Reader) read(buf *bytes.Buffer) (*Record, error) {
	c, err := r.readCoded(buf)
	if err != nil {
		return nil, err
	}
	p := buf.Bytes()
	if c.Kind == KindEnd {
		return nil, r.readEnd(&c, p)
	}
	if err := c.decodePayload(p[recordSize:], &r.header); err != nil {
		return nil, err
	}
	if err := c.check(&r.header); err != nil {
		return nil, err
	}
	if err := follows(&c.Record, r.next); err != nil {
		return nil, err
	}
	r.index.add(c.Offset, r.sum.Bytes)
	r.digest.record(&c.Record, p)
	r.sum.Bytes += int64(len(p))
	r.sum.take(&c.Record, c.payload)
	r.next = c.end()
	r.tail = covered(r.tail, &c.Record)
	return &c.Record, nil
}

// readCoded reads the bytes of a record into the buffer, and verifies their checksum.
func (r *Reader) readCoded(buf *bytes.Buffer) (coded, error) {
	what := fmt.Sprintf("record %d", r.sum.Records)
	r.digest.wait() // it may still take in what the buffer holds
	buf.Reset()
	if err := r.fill(buf, recordSize); err != nil {
		return coded{}, cut(what, err)
	}
	c, err := decodeFixed(buf.Bytes(), r.header.Extent)
	if err != nil {
		return c, err
	}
	if err := r.fill(buf, c.payload); err != nil {
		return c, cut(what, err)
	}
	p := buf.Bytes()
	switch {
	case !intact(p):
		return c, fmt.Errorf("%w: checksum of %s", ErrCorrupt, what)
	case c.seq != uint32(r.sum.Records):
		return c, fmt.Errorf("%w: %s has the number %d", ErrCorrupt, what, c.seq)
	}
	return c, nil
}

// fill reads n bytes more.
func (r *Reader) fill(buf *bytes.Buffer, n int) error {
	got, err := io.CopyN(buf, r.from, int64(n))
	if err == nil || errors.Is(err, io.EOF) && got == int64(n) {
		return nil
	}
	return err
}

// readEnd reads what follows the end record, which p is.
func (r *Reader) readEnd(c *coded, p []byte) error {
	if err := r.header.complete(r.tail); err != nil {
		return err
	}
	last := Record{Kind: KindEnd, Offset: r.header.To.Size, Payload: r.index.append(nil)}
	if !bytes.Equal(last.append(nil, c.seq), p) {
		return fmt.Errorf("%w: its index is not of its records", ErrCorrupt)
	}
	end := r.sum.Bytes
	r.digest.take(p)
	r.sum.Bytes += int64(len(p))
	r.sum.Digest = r.digest.sum()
	trailer := make([]byte, trailerSize)
	if _, err := io.ReadFull(r.from, trailer); err != nil {
		return cut("its trailer", err)
	}
	if err := r.sum.checkTrailer(trailer, end); err != nil {
		return err
	}
	r.sum.Bytes += trailerSize
	return io.EOF
}
