// SPDX-License-Identifier: Apache-2.0

package nvramsim

import (
	"fmt"
	"sync"
	"time"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
)

// Stats is what a model was asked and what it did. Counts are exact; durations
// are virtual.
type Stats struct {
	Reads, Writes, Flushes, Discards, Zeroings int64 // commands; each op of a vectored submission is one
	BytesRead, BytesWritten                    int64
	BytesDiscarded, BytesZeroed                int64

	CacheHits int64 // reads served from a drive's memory
	Seeks     int64 // an arm moved, other than on to the next track
	// MediaReads and MediaWrites are bytes that moved between a drive's memory
	// and its platters or flash.
	MediaReads, MediaWrites int64
	// SeekTime, RotationTime and TransferTime are what an arm spent; reading ahead
	// is in none of them.
	SeekTime, RotationTime, TransferTime time.Duration
}

// request is one command; all that a mechanism needs to know of it.
type request struct {
	kind device.OpKind
	off  int64
	n    int64
}

func (r request) end() int64 { return r.off + r.n }

// mechanism is what differs among drives. Times are nanoseconds; each method
// takes the time of issue and returns that of completion. Calls come one at a
// time, in the order of time.
type mechanism interface {
	do(now int64, reqs []request) int64
	flush(now int64) int64
	zero(now int64, off, n int64) int64
	discard(now int64, off, n int64) int64
}

// Model is one drive: a mechanism, its clock and its statistics. Partitions
// share it.
type Model struct {
	clock *Clock
	size  int64

	mu    sync.Mutex
	mech  mechanism
	stats *Stats
	reqs  []request // reused
}

// Partition returns the piece of the drive at off that is as large as backing,
// which holds its data. Partitions of one drive share its arm, cache and queue.
// They should not overlap.
func (m *Model) Partition(off int64, backing device.Device) (*Partition, error) {
	if err := device.CheckIO(off, backing.Size(), m.size); err != nil {
		return nil, fmt.Errorf("partition of a modelled drive: %w", err)
	}
	return &Partition{model: m, off: off, backing: backing}, nil
}

// Size returns the size of the drive in bytes.
func (m *Model) Size() int64 { return m.size }

// Clock returns the clock that the model advances.
func (m *Model) Clock() *Clock { return m.clock }

// Elapsed returns the virtual time, see [Clock.Now].
func (m *Model) Elapsed() time.Duration { return m.clock.Now() }

// Advance lets d pass, see [Clock.Advance].
func (m *Model) Advance(d time.Duration) { m.clock.Advance(d) }

// Stats returns what was counted since the model was made.
func (m *Model) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return *m.stats
}

// issue runs one command or submission on the mechanism.
func (m *Model) issue(f func(now int64) int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clock.reach(f(int64(m.clock.Now())))
}

// Partition is a [device.Device] that takes modelled time. It is a Zeroer and a
// Doer too.
type Partition struct {
	model   *Model
	off     int64
	backing device.Device
}

// Model returns the drive.
func (p *Partition) Model() *Model { return p.model }

// Size implements [device.Device].
func (p *Partition) Size() int64 { return p.backing.Size() }

// ReadAt implements [device.Device].
func (p *Partition) ReadAt(b []byte, off int64) (int, error) {
	n, err := p.backing.ReadAt(b, off)
	if err == nil {
		p.single(device.Read, off, int64(n))
	}
	return n, err
}

// WriteAt implements [device.Device].
func (p *Partition) WriteAt(b []byte, off int64) (int, error) {
	n, err := p.backing.WriteAt(b, off)
	if err == nil {
		p.single(device.Write, off, int64(n))
	}
	return n, err
}

func (p *Partition) single(kind device.OpKind, off, n int64) {
	p.model.issue(func(now int64) int64 {
		p.model.reqs = p.add(p.model.reqs[:0], kind, off, n)
		return p.model.mech.do(now, p.model.reqs)
	})
}

// add counts a command and appends it to reqs; empty ones take no time.
func (p *Partition) add(reqs []request, kind device.OpKind, off, n int64) []request {
	st := p.model.stats
	if kind == device.Read {
		st.Reads++
		st.BytesRead += n
	} else {
		st.Writes++
		st.BytesWritten += n
	}
	if n == 0 {
		return reqs
	}
	return append(reqs, request{kind, p.off + off, n})
}

// Do implements [device.Doer]: all ops are queued in the drive at one instant.
func (p *Partition) Do(ops []device.Op) error {
	if err := device.Do(p.backing, ops); err != nil {
		return err
	}
	p.model.issue(func(now int64) int64 {
		reqs := p.model.reqs[:0]
		for _, op := range ops {
			reqs = p.add(reqs, op.Kind, op.Off, int64(len(op.Data)))
		}
		p.model.reqs = reqs
		return p.model.mech.do(now, reqs)
	})
	return nil
}

// Flush implements [device.Device]. It empties the cache of the whole drive, as
// the command does.
func (p *Partition) Flush() error {
	if err := p.backing.Flush(); err != nil {
		return err
	}
	p.model.issue(func(now int64) int64 {
		p.model.stats.Flushes++
		return p.model.mech.flush(now)
	})
	return nil
}

// Discard implements [device.Device].
func (p *Partition) Discard(off, n int64) error {
	if err := p.backing.Discard(off, n); err != nil {
		return err
	}
	p.model.issue(func(now int64) int64 {
		p.model.stats.Discards++
		p.model.stats.BytesDiscarded += n
		return p.model.mech.discard(now, p.off+off, n)
	})
	return nil
}

// WriteZeroes implements [device.Zeroer].
func (p *Partition) WriteZeroes(off, n int64) error {
	if err := device.WriteZeroes(p.backing, off, n); err != nil {
		return err
	}
	p.model.issue(func(now int64) int64 {
		p.model.stats.Zeroings++
		p.model.stats.BytesZeroed += n
		return p.model.mech.zero(now, p.off+off, n)
	})
	return nil
}

// Close closes the backing device if it can be closed.
func (p *Partition) Close() error {
	if c, ok := p.backing.(interface{ Close() error }); ok {
		return c.Close()
	}
	return nil
}

// checkSize panics unless a drive's size can be modelled.
func checkSize(what string, size int64) {
	if size <= 0 || size%block.SectorSize != 0 {
		panic(fmt.Sprintf("nvramsim: %s size %d is not a positive multiple of %d", what, size, block.SectorSize))
	}
}

// atRate returns the nanoseconds in which n bytes move at rate bytes a second.
func atRate(n, rate int64) int64 {
	const second = int64(time.Second)
	return n/rate*second + n%rate*second/rate
}
