// SPDX-License-Identifier: Apache-2.0

// Package placement makes batches of copy-outs durable, each way its own: the
// record of a batch goes into the store before its chunks (inline), into a
// journal region of the store (disk), or into a journal in battery-backed or
// persistent memory (nvram, pmem).
//
// It owns the order of writes and flushes that makes a batch durable, and finding
// the durable batches again after a crash. It does not own which chunks are
// copied where (package volume) or what a durable batch means (package store). A
// Log belongs to one goroutine at a time. When Commit fails, the batch may or may
// not be found by a later Replay; its chunks must then not be overwritten in the
// origin, and the Log must not be committed to again.
package placement

import (
	"errors"
	"fmt"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/copylog"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/journal"
	"zumastor.org/zumastor/engine/layout"
)

// maxFill is the part of a log's room that may be in use before a Commit.
const maxFill = 0.7

// Log is the sequence of a store's batches.
type Log interface {
	// Commit writes the batch's chunks to their slots, and its record. When it
	// returns nil, the batch and all before it are durable. It returns
	// [journal.ErrFull], having written nothing, when a checkpoint must come
	// first.
	Commit(b *copylog.Batch) error
	// HeadSlots returns how many slots of the data area a batch's record takes.
	HeadSlots() int
	// MaxBody returns the longest body that a record can have, in bytes.
	MaxBody() int
	// Position returns where the next batch's record goes.
	Position() layout.Position
	// Fill returns the part of the log's room that is in use, 0 to 1.
	Fill() float64
	// HasRoom reports whether there is room for a batch of so many chunks: whether
	// Commit does not return [journal.ErrFull].
	HasRoom(chunks int) bool
	// Release says that the records before p are in a durable checkpoint.
	Release(p layout.Position)
	// Start begins an epoch: the log is empty and goes on at p.
	Start(epoch uint64, p layout.Position)
	// Replay calls fn for each durable batch of an epoch from p on, in order.
	// The log ends before the first batch that is torn.
	Replay(epoch uint64, p layout.Position, fn func(Replayed) error) error
}

// Replayed is a batch that Replay found.
type Replayed struct {
	Seq   uint64
	Head  block.Slot // whose end the descriptor fills, of placement inline
	Batch *layout.Batch
	After layout.Position // of the batch after it
}

// replayer passes on the batches that are known to be durable, because a later
// one says so, and checks the chunks of those at the end of the log that are not.
type replayer struct {
	area    *copylog.Area
	fn      func(Replayed) error
	pending []Replayed
}

// add takes the next record of the log.
func (r *replayer) add(next Replayed, durable uint64) error {
	for len(r.pending) > 0 && r.pending[0].Seq <= durable {
		if err := r.fn(r.pending[0]); err != nil {
			return err
		}
		r.pending = r.pending[1:]
	}
	r.pending = append(r.pending, next)
	return nil
}

// finish verifies what is pending at the end of the log, up to the first batch
// that is torn.
func (r *replayer) finish() error {
	for _, p := range r.pending {
		ok, err := copylog.VerifyChunks(r.area, p.Batch)
		if err != nil {
			return err
		}
		if !ok {
			return nil
		}
		if err := r.fn(p); err != nil {
			return err
		}
	}
	return nil
}

// Inline is the placement inline: one write and one flush a batch.
type Inline struct {
	area *copylog.Area
	id   layout.Identity // of the next batch
	head block.Slot      // of its descriptor
}

// NewInline returns the log of an area.
func NewInline(area *copylog.Area, uuid layout.UUID) *Inline {
	return &Inline{area: area, id: layout.Identity{UUID: uuid}}
}

// HeadSlots is one: the descriptor's.
func (l *Inline) HeadSlots() int { return 1 }

// MaxBody returns what a descriptor that fills a slot holds.
func (l *Inline) MaxBody() int { return l.area.ChunkSize() - layout.RecordHeaderSize }

// Position returns the slot of the next descriptor.
func (l *Inline) Position() layout.Position {
	return layout.Position{Place: uint64(l.head), Seq: l.id.Seq}
}

// Fill is zero: the store's slots are the log's room.
func (l *Inline) Fill() float64 { return 0 }

// HasRoom is always true.
func (l *Inline) HasRoom(int) bool { return true }

// Release does nothing: the store frees the descriptors' slots.
func (l *Inline) Release(layout.Position) {}

// Start begins an epoch with the descriptor slot p.Place.
func (l *Inline) Start(epoch uint64, p layout.Position) {
	l.id.Epoch, l.id.Seq, l.head = epoch, p.Seq, block.Slot(p.Place)
}

// Commit writes descriptor and chunks, as one write where their slots are
// neighbours, and flushes.
func (l *Inline) Commit(b *copylog.Batch) error {
	b.Head = l.head
	desc := b.SealDescriptor(layout.RecordHeader{Identity: l.id, Kind: layout.RecordBatch, Durable: l.id.Seq - 1, Next: b.Next})
	if err := device.Do(l.area.Device, l.writes(b, desc)); err != nil {
		return fmt.Errorf("writing batch %d: %w", l.id.Seq, err)
	}
	if err := l.area.Device.Flush(); err != nil {
		return fmt.Errorf("flushing batch %d: %w", l.id.Seq, err)
	}
	l.id.Seq++
	l.head = b.Next
	return nil
}

// writes returns the writes of a batch: the descriptor together with the chunks
// of the slots that follow it, then the chunks elsewhere.
func (l *Inline) writes(b *copylog.Batch, desc []byte) []device.Op {
	first := device.Op{Kind: device.Write, Off: l.area.SlotOffset(b.Head+1) - int64(len(desc)), Data: desc}
	chunks := b.Writes(l.area)
	if len(b.Copies) > 0 && b.Copies[0].Slot == b.Head+1 {
		first.Data = b.WithDescriptor(desc, len(chunks[0].Data)/l.area.ChunkSize())
		chunks = chunks[1:]
	}
	return append([]device.Op{first}, chunks...)
}

// Replay follows the descriptors from one to the next.
func (l *Inline) Replay(epoch uint64, p layout.Position, fn func(Replayed) error) error {
	l.Start(epoch, p)
	r := replayer{area: l.area, fn: fn}
	for {
		h, batch, err := copylog.ReadDescriptor(l.area, l.head, l.id)
		if errors.Is(err, layout.ErrCorrupt) || errors.Is(err, layout.ErrVersion) {
			return r.finish()
		}
		if err != nil {
			return err
		}
		head := l.head
		l.id.Seq++
		l.head = h.Next
		if err := r.add(Replayed{Seq: h.Seq, Head: head, Batch: batch, After: l.Position()}, h.Durable); err != nil {
			return err
		}
	}
}

// Journaled is the placements disk, nvram and pmem: the chunks go to the store,
// their record to a journal.
type Journaled struct {
	area    *copylog.Area
	ring    *journal.Ring
	ordered bool
	body    []byte
}

// NewJournaled returns the log of an area with records in ring. With ordered, the
// chunks are made durable before their record is written: two flushes a batch, as
// a classical journal on the same disk has it. Without, one flush of the store
// ends the batch, and a record without its chunks is found by their checksums.
func NewJournaled(area *copylog.Area, ring *journal.Ring, ordered bool) *Journaled {
	return &Journaled{area: area, ring: ring, ordered: ordered}
}

// HeadSlots is zero.
func (l *Journaled) HeadSlots() int { return 0 }

// MaxBody returns what a quarter of the ring holds.
func (l *Journaled) MaxBody() int {
	return int(min(l.ring.Size()/4, 1<<20)) - layout.RecordHeaderSize
}

// Position returns the place of the next record in the ring.
func (l *Journaled) Position() layout.Position { return l.ring.Position() }

// Fill returns the part of the ring that is in use.
func (l *Journaled) Fill() float64 { return float64(l.ring.Used()) / float64(l.ring.Size()) }

// HasRoom reports whether the ring has room for the record of a batch.
func (l *Journaled) HasRoom(chunks int) bool {
	return l.Fill() <= maxFill && l.ring.Fits(min(layout.MaxBatchBody(chunks), l.MaxBody()))
}

// Release lets records before p be overwritten.
func (l *Journaled) Release(p layout.Position) { l.ring.Release(p) }

// Start begins an epoch with an empty ring.
func (l *Journaled) Start(epoch uint64, p layout.Position) { l.ring.Reset(epoch, p.Seq) }

// Commit writes the chunks and then their record.
func (l *Journaled) Commit(b *copylog.Batch) error {
	if l.Fill() > maxFill {
		return journal.ErrFull // before the chunks are written: a body is a quarter at most
	}
	if err := device.Do(l.area.Device, b.Writes(l.area)); err != nil {
		return fmt.Errorf("writing batch %d: %w", l.ring.Position().Seq, err)
	}
	if l.ordered {
		if err := l.area.Device.Flush(); err != nil {
			return fmt.Errorf("flushing batch %d: %w", l.ring.Position().Seq, err)
		}
	}
	l.body = layout.AppendBatch(l.body[:0], &b.Batch)
	if err := l.ring.Append(layout.RecordBatch, l.body); err != nil {
		return err
	}
	if l.ordered {
		return nil
	}
	if err := l.area.Device.Flush(); err != nil {
		return fmt.Errorf("flushing batch %d: %w", l.ring.Position().Seq-1, err)
	}
	return nil
}

// Replay reads the ring.
func (l *Journaled) Replay(epoch uint64, p layout.Position, fn func(Replayed) error) error {
	r := replayer{area: l.area, fn: fn}
	err := l.ring.Replay(epoch, p, func(h layout.RecordHeader, body []byte) error {
		if h.Kind != layout.RecordBatch {
			return fmt.Errorf("%w: record of kind %d among batches", layout.ErrCorrupt, h.Kind)
		}
		batch, err := layout.DecodeBatch(body)
		if err != nil {
			return err
		}
		return r.add(Replayed{Seq: h.Seq, Batch: batch, After: l.ring.Position()}, h.Durable)
	})
	if err != nil {
		return err
	}
	return r.finish()
}
