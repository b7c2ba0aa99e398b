// SPDX-License-Identifier: Apache-2.0

package pattern

import (
	"errors"
	"fmt"
	"slices"
	"sync"
)

// Ledger is the account of what each sector of a device may hold. Every write of the
// device must be begun and ended here, so that no two overlap, as must every flush.
type Ledger struct {
	stream uint64
	log    *Log

	mu      sync.Mutex
	last    uint64 // write begun
	issued  []uint64
	acked   []uint64
	flushed []uint64
	busy    []bool     // a write is under way
	ended   *sync.Cond // of mu: a write has
	pending []span     // acknowledged, and not flushed
}

// span is a write.
type span struct {
	first, n int // sectors
	seq      uint64
}

// NewLedger begins an account with a device that holds exactly what b says: that
// never fails to be there again. Of a device that nothing was written to, that is
// Bounds of zeroes; else what [Bounds.Check] has found. A log that is not nil is told
// of every write before it begins and after it has ended.
func NewLedger(b Bounds, log *Log) *Ledger {
	l := &Ledger{
		stream: b.Stream, log: log, busy: make([]bool, len(b.Least)),
		issued: slices.Clone(b.Most), acked: slices.Clone(b.Least), flushed: slices.Clone(b.Least),
	}
	l.ended = sync.NewCond(&l.mu)
	if len(b.Most) > 0 {
		l.last = slices.Max(b.Most)
	}
	return l
}

// Zeroes returns the bounds of a device of so many bytes that nothing was written to.
func Zeroes(stream uint64, size int64) Bounds {
	n := size / SectorSize
	return Bounds{Stream: stream, Least: make([]uint64, n), Most: make([]uint64, n)}
}

// Begin returns the stamp of a write of n sectors that is about to begin, unless one
// is under way there.
func (l *Ledger) Begin(first, n int) (Stamp, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if slices.Contains(l.busy[first:first+n], true) {
		return Stamp{}, false, nil
	}
	w := span{first, n, l.last + 1}
	if err := l.log.add(entryBegin, w); err != nil {
		return Stamp{}, false, err
	}
	l.begin(w)
	return Stamp{l.stream, w.seq}, true, nil
}

func (l *Ledger) begin(w span) {
	l.last = max(l.last, w.seq)
	for i := w.first; i < w.first+w.n; i++ {
		l.issued[i], l.busy[i] = w.seq, true
	}
}

// End ends the write of n sectors that began with the stamp. One that was not
// acknowledged may have happened, and may not.
func (l *Ledger) End(first, n int, s Stamp, acknowledged bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := span{first, n, s.Seq}
	for i := first; i < first+n; i++ {
		l.busy[i] = false
	}
	l.ended.Broadcast()
	if !acknowledged {
		return nil
	}
	l.end(w)
	return l.log.add(entryEnd, w)
}

func (l *Ledger) end(w span) {
	for i := w.first; i < w.first+w.n; i++ {
		l.acked[i], l.busy[i] = w.seq, false
	}
	l.pending = append(l.pending, w)
}

// Flush flushes, and notes that all writes are durable then that were acknowledged
// before.
func (l *Ledger) Flush(flush func() error) error {
	l.mu.Lock()
	before := l.pending
	l.pending = nil
	l.mu.Unlock()
	err := flush()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.pending = append(before, l.pending...)
		return err
	}
	l.flush(before)
	return l.log.flushed(before)
}

func (l *Ledger) flush(list []span) {
	for _, w := range list {
		for i := w.first; i < w.first+w.n; i++ {
			l.flushed[i] = max(l.flushed[i], w.seq)
		}
	}
}

// Durable returns what a device may hold that has lost what was not flushed, as after
// a power cut.
func (l *Ledger) Durable() Bounds { return l.bounds(&l.flushed) }

// Present returns what a device may hold that has lost nothing but, perhaps, writes
// that were not acknowledged.
func (l *Ledger) Present() Bounds { return l.bounds(&l.acked) }

func (l *Ledger) bounds(least *[]uint64) Bounds {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Bounds{Stream: l.stream, Least: slices.Clone(*least), Most: slices.Clone(l.issued)}
}

// During runs do, which makes a snapshot, and returns what that may hold: all that was
// acknowledged before, and perhaps what began before do has returned.
func (l *Ledger) During(do func() error) (Bounds, error) {
	before := l.Present()
	err := do()
	before.Most = l.Present().Most
	return before, err
}

// Recover goes on, after a crash, with what [Bounds.Check] has found. No write may be
// under way.
func (l *Ledger) Recover(found Bounds) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(found.Least) != len(l.issued) || found.Stream != l.stream {
		return fmt.Errorf("recovering %d sectors of stream %x with %d of %x", len(l.issued), l.stream, len(found.Least), found.Stream)
	}
	copy(l.issued, found.Most) // numbers are not used again all the same
	copy(l.acked, found.Least)
	clear(l.busy)
	l.pending = nil // what is there, and was not flushed, is once it is now
	for i, seq := range found.Least {
		if seq > l.flushed[i] {
			l.pending = append(l.pending, span{i, 1, seq})
		}
	}
	return nil
}

// read checks what do reads into p at off. A sector that is torn while it is being
// written is read again, once that write has ended.
func (l *Ledger) read(p []byte, off int64, do func() error) error {
	first, n := int(off/SectorSize), len(p)/SectorSize
	for {
		l.mu.Lock()
		least, began := slices.Clone(l.acked[first:first+n]), slices.Clone(l.issued[first:first+n])
		amid := slices.Clone(l.busy[first : first+n])
		l.mu.Unlock()
		if err := do(); err != nil {
			return err
		}
		l.mu.Lock()
		most := slices.Clone(l.issued[first : first+n])
		l.mu.Unlock()
		i, err := Bounds{Stream: l.stream}.all(p, off, least, most)
		if !errors.As(err, new(torn)) || !amid[i] && most[i] == began[i] {
			return err
		}
		l.await(first + i)
	}
}

// await returns when no write of the sector is under way.
func (l *Ledger) await(sector int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.busy[sector] {
		l.ended.Wait()
	}
}
