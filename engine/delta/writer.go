// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Writer writes a delta, record by record. It keeps a sparse index in memory, of at
// most 1 MiB, and one coded record, but for a large payload. For one goroutine. After an error it is of no
// further use.
type Writer struct {
	to     io.Writer
	header Header
	sum    Summary
	digest running
	next   int64 // offset that the next record may have at least
	tail   int64 // up to where, from the base's end on, the records have all
	index  index
	buf    []byte
}

// NewWriter writes the header of a delta to w.
func NewWriter(w io.Writer, h Header) (*Writer, error) { return newWriter(w, h, 0) }

// newWriter writes the header of the rest of a delta.
func newWriter(w io.Writer, h Header, start int64) (*Writer, error) {
	if err := h.check(); err != nil {
		return nil, err
	}
	if err := h.startsAt(start); err != nil {
		return nil, err
	}
	x := &Writer{to: w, header: h, digest: newRunning(), next: start, tail: max(start, h.baseSize())}
	p := h.append(nil)
	x.digest.take(p)
	return x, x.write(p)
}

// startsAt returns an error unless the rest of a delta can begin at an offset.
func (h *Header) startsAt(start int64) error {
	if start < 0 || start > h.To.Size || start%int64(h.ChunkSize) != 0 && start != h.To.Size {
		return fmt.Errorf("the rest of a delta of %d bytes in chunks of %d cannot begin at offset %d", h.To.Size, h.ChunkSize, start)
	}
	return nil
}

// write writes p, which the digest may be taking in.
func (w *Writer) write(p []byte) error {
	_, err := w.to.Write(p)
	w.digest.wait() // before p changes
	if err != nil {
		return fmt.Errorf("writing the delta: %w", err)
	}
	w.sum.Bytes += int64(len(p))
	return nil
}

// Write writes a record. Records come in ascending order and do not overlap.
func (w *Writer) Write(r *Record) error {
	if err := r.check(&w.header); err != nil {
		return err
	}
	if err := follows(r, w.next); err != nil {
		return err
	}
	w.index.add(r.Offset, w.sum.Bytes)
	var large []byte // a payload that is not copied
	if r.Kind == KindExtent && len(r.Payload) >= apart {
		large = r.Payload
		w.buf = r.appendFixed(w.buf[:0], uint32(w.sum.Records))
		seal(w.buf, large)
	} else {
		w.buf = r.append(w.buf[:0], uint32(w.sum.Records))
	}
	payload := len(w.buf) - recordSize + len(large)
	if payload > maxPayload(r.Kind, w.header.Extent) || len(r.Parts) > MaxParts {
		return fmt.Errorf("%v record at offset %d has %d coded bytes in %d parts, which is too much", r.Kind, r.Offset, payload, len(r.Parts))
	}
	w.digest.record(r, w.buf)
	if err := w.write(w.buf); err != nil {
		return err
	}
	if large != nil {
		if !r.bare() {
			w.digest.take(large)
		}
		if err := w.write(large); err != nil {
			return err
		}
	}
	w.sum.take(r, payload)
	w.next = r.end()
	w.tail = covered(w.tail, r)
	return nil
}

// follows returns an error if a record begins before next.
func follows(r *Record, next int64) error {
	if r.Offset < next {
		return fmt.Errorf("%w: the record at offset %d follows one that ends at %d", ErrCorrupt, r.Offset, next)
	}
	return nil
}

// covered returns up to where records have all, from the base's end on.
func covered(tail int64, r *Record) int64 {
	if r.Offset <= tail {
		return max(tail, r.end())
	}
	return tail
}

// complete returns an error unless the records have all that is beyond the base.
func (h *Header) complete(tail int64) error {
	if tail < h.To.Size {
		return fmt.Errorf("%w: nothing says what is at offset %d, beyond the base", ErrCorrupt, tail)
	}
	return nil
}

// Close writes the end of the delta, and returns what is in it. It does not close
// what it was written to.
func (w *Writer) Close() (Summary, error) {
	if err := w.header.complete(w.tail); err != nil {
		return w.sum, err
	}
	end := w.sum.Bytes
	last := Record{Kind: KindEnd, Offset: w.header.To.Size, Payload: w.index.append(nil)}
	p := last.append(nil, uint32(w.sum.Records))
	w.digest.take(p)
	if err := w.write(p); err != nil {
		return w.sum, err
	}
	w.sum.Digest = w.digest.sum()
	err := w.write(w.sum.appendTrailer(nil, end))
	return w.sum, err
}

// index says where some records stand: every stride-th.
type index struct {
	entries []indexed
	stride  int
	skipped int
}

type indexed struct{ offset, position int64 }

// add notes a record. When the index is full, every other entry goes.
func (x *index) add(offset, position int64) {
	if x.stride == 0 {
		x.stride = 1
	}
	if x.skipped > 0 {
		x.skipped = (x.skipped + 1) % x.stride
		return
	}
	x.skipped = 1 % x.stride
	if len(x.entries) == maxIndex {
		for i := range maxIndex / 2 {
			x.entries[i] = x.entries[2*i]
		}
		x.entries = x.entries[:maxIndex/2]
		x.stride *= 2
		x.skipped = 1
	}
	x.entries = append(x.entries, indexed{offset, position})
}

func (x *index) append(dst []byte) []byte {
	for _, e := range x.entries {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(e.offset))
		dst = binary.LittleEndian.AppendUint64(dst, uint64(e.position))
	}
	return dst
}
