// SPDX-License-Identifier: Apache-2.0

// Package journal is a ring of log records in a fixed region of a device or of
// persistent memory.
//
// It owns where the next record goes and when an old one may be overwritten. It
// does not own what records mean. The store keeps its snapshot records in one;
// the placements disk, nvram and pmem keep the records of batches in one. A Ring
// belongs to one goroutine at a time. When Append fails, the record may or may
// not be found by a later Replay, and the ring must not be appended to again.
package journal

import (
	"errors"
	"fmt"

	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
)

// ErrFull is returned when a record does not fit before the oldest one that is
// still needed: a checkpoint must come first.
var ErrFull = errors.New("journal is full")

// Medium is what a ring lies on. What Persist has covered survives a crash;
// before, any of it may be lost or torn.
type Medium interface {
	ReadAt(p []byte, off int64) (int, error)
	WriteAt(p []byte, off int64) (int, error)
	Persist(off, n int64) error
}

// OnDevice is the Medium that a block device is: Persist is its Flush.
type OnDevice struct{ device.Device }

// Persist makes all writes durable.
func (d OnDevice) Persist(_, _ int64) error { return d.Flush() }

// Ring is a journal. Records begin at multiples of the grain and never wrap: one
// that does not fit before the end goes to the beginning.
type Ring struct {
	medium Medium
	start  int64 // of the region, in bytes
	size   int64
	grain  int64
	id     layout.Identity // of the next record
	next   int64           // where it goes, from the region's start
	oldest int64           // first byte that is still needed; equal to next when nothing is
	buf    []byte
}

// New returns a ring in size bytes at start. Records take multiples of grain
// bytes, a power of two. Before the first Append, Replay or Reset must say where
// the log goes on.
func New(m Medium, start, size, grain int64, uuid layout.UUID) *Ring {
	return &Ring{medium: m, start: start, size: size / grain * grain, grain: grain, id: layout.Identity{UUID: uuid}}
}

// Reset makes the ring empty: its next record is number seq, from 1 on, of the
// epoch.
func (r *Ring) Reset(epoch, seq uint64) {
	r.id.Epoch, r.id.Seq = epoch, seq
	r.next, r.oldest = 0, 0
}

// Position returns the place and sequence number of the next record.
func (r *Ring) Position() layout.Position {
	return layout.Position{Place: uint64(r.next), Seq: r.id.Seq}
}

// Used returns how many bytes hold records that are still needed.
func (r *Ring) Used() int64 { return (r.next - r.oldest + r.size) % r.size }

// Size returns the size of the ring in bytes.
func (r *Ring) Size() int64 { return r.size }

// Release says that records before p are no longer needed.
func (r *Ring) Release(p layout.Position) { r.oldest = int64(p.Place) }

// Append adds a record with a body and makes it durable. It returns [ErrFull]
// without having written anything if there is no room. A record that takes at most
// half of the ring always has room when nothing is needed any more.
func (r *Ring) Append(kind layout.RecordKind, body []byte) error {
	n := r.recordSize(len(body))
	at, ok := r.place(n)
	if !ok {
		return ErrFull
	}
	if int64(len(r.buf)) < n {
		r.buf = device.Buffer(int(n))
	}
	rec := r.buf[:n]
	clear(rec[copy(rec[layout.RecordHeaderSize:], body)+layout.RecordHeaderSize:])
	layout.SealRecord(layout.RecordHeader{Identity: r.id, Kind: kind, Durable: r.id.Seq - 1}, rec[:layout.RecordHeaderSize+len(body)])
	if _, err := r.medium.WriteAt(rec, r.start+at); err != nil {
		return fmt.Errorf("writing journal record %d: %w", r.id.Seq, err)
	}
	if err := r.medium.Persist(r.start+at, n); err != nil {
		return fmt.Errorf("persisting journal record %d: %w", r.id.Seq, err)
	}
	r.next = (at + n) % r.size
	r.id.Seq++
	return nil
}

// Fits reports whether Append has room for a body of n bytes.
func (r *Ring) Fits(n int) bool {
	_, ok := r.place(r.recordSize(n))
	return ok
}

// recordSize returns how many bytes a record with a body of n bytes takes.
func (r *Ring) recordSize(n int) int64 {
	return (layout.RecordHeaderSize + int64(n) + r.grain - 1) / r.grain * r.grain
}

// place returns where a record of n bytes goes. One grain always stays free, so
// that a full ring and an empty one differ.
func (r *Ring) place(n int64) (int64, bool) {
	switch {
	case r.next < r.oldest:
		return r.next, r.next+n < r.oldest
	case r.next+n < r.size || r.next+n == r.size && r.oldest > 0:
		return r.next, true
	default:
		return 0, n < r.oldest
	}
}

// Replay calls fn for each record from pos on, in order, with the ring's position
// after it, and leaves the ring ready to append after the last. The log ends at the first place that does not
// hold the exact next record.
func (r *Ring) Replay(epoch uint64, pos layout.Position, fn func(layout.RecordHeader, []byte) error) error {
	if pos.Place >= uint64(r.size) || int64(pos.Place)%r.grain != 0 {
		return fmt.Errorf("%w: journal position %d of %d", layout.ErrCorrupt, pos.Place, r.size)
	}
	r.id.Epoch, r.id.Seq = epoch, pos.Seq
	r.next, r.oldest = int64(pos.Place), int64(pos.Place)
	for {
		h, body, at, err := r.read()
		if absent(err) {
			return nil
		}
		if err != nil {
			return err
		}
		n := r.recordSize(len(body))
		r.next = (at + n) % r.size
		r.id.Seq++
		if err := fn(h, body); err != nil {
			return err
		}
	}
}

// read returns the next record and where it was: at the ring's next place or,
// where it did not fit before the end, at the beginning.
func (r *Ring) read() (layout.RecordHeader, []byte, int64, error) {
	h, body, err := r.readAt(r.next)
	if absent(err) && r.next != 0 {
		h, body, err = r.readAt(0)
		return h, body, 0, err
	}
	return h, body, r.next, err
}

// absent reports whether an error says that a place does not hold the next record.
// A record of another format does not: it is a leftover of another store.
func absent(err error) bool {
	return errors.Is(err, layout.ErrCorrupt) || errors.Is(err, layout.ErrVersion)
}

func (r *Ring) readAt(at int64) (layout.RecordHeader, []byte, error) {
	head := device.Buffer(int(max(r.grain, layout.RecordHeaderSize)))
	if at+int64(len(head)) > r.size {
		return layout.RecordHeader{}, nil, fmt.Errorf("%w: journal ends", layout.ErrCorrupt)
	}
	if _, err := r.medium.ReadAt(head, r.start+at); err != nil {
		return layout.RecordHeader{}, nil, fmt.Errorf("reading the journal: %w", err)
	}
	h, err := layout.DecodeRecordHeader(head, r.id)
	if err != nil {
		return h, nil, err
	}
	n := layout.RecordHeaderSize + int64(h.Body)
	if at+n > r.size {
		return h, nil, fmt.Errorf("%w: journal record of %d bytes", layout.ErrCorrupt, h.Body)
	}
	rec := device.Buffer(int((n + r.grain - 1) / r.grain * r.grain))
	if _, err := r.medium.ReadAt(rec, r.start+at); err != nil {
		return h, nil, fmt.Errorf("reading the journal: %w", err)
	}
	if err := layout.VerifyRecord(rec[:n]); err != nil {
		return h, nil, err
	}
	return h, rec[layout.RecordHeaderSize:n], nil
}
