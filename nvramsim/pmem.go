// SPDX-License-Identifier: Apache-2.0

package nvramsim

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/memdev"
)

// Grains of persistent memory: what the processor writes back at a time, and
// what a power cut keeps or loses whole.
const (
	LineSize = 64
	WordSize = 8
)

// PMemParams is what persistent memory costs. Zero values cost nothing.
type PMemParams struct {
	ReadRate  int64         // bytes a second; zero is infinite
	WriteBack time.Duration // of a line, issued without waiting
	Fence     time.Duration // waiting for what was written back
}

// TypicalPMem returns the figures that published studies of Intel Optane DC
// persistent memory give for one thread on interleaved modules: reads at 6 GB/s,
// write-backs at about 2 GB/s (32 ns a line), a fence after them some 100 ns.
func TypicalPMem() PMemParams {
	return PMemParams{ReadRate: 6e9, WriteBack: 32 * time.Nanosecond, Fence: 100 * time.Nanosecond}
}

// PMem is a mapped region of persistent memory: a [device.Region] whose stores
// are in the processor's cache until they are written back and fenced. At a
// power cut a line that was not is as some of the stores to it left it, word by
// word: the cache may have evicted it at any time. It is a [memdev.Part]. It
// is safe for concurrent use.
type PMem struct {
	clock *Clock
	p     PMemParams
	gate  *sync.RWMutex

	mu      sync.Mutex
	durable []byte
	lines   map[int64]*line // by number: those whose stores may be lost
	written []int64         // numbers of the lines written back since the last fence
	stats   PMemStats
}

// PMemStats counts what was asked of a PMem.
type PMemStats struct {
	BytesRead, BytesWritten int64
	WriteBacks              int64 // lines
	Fences                  int64
}

// line is the content of a cache line as seen by loads, and what each unfenced
// store to it left before, oldest first.
type line struct {
	now    [LineSize]byte
	stages [][LineSize]byte
	back   int // how many of the stages, and now, were written back: those before it are over
}

// NewPMem adds to m, under the given name, a zeroed region of size bytes, a
// positive multiple of 64.
func NewPMem(m *memdev.Machine, name string, clock *Clock, size int64, p PMemParams) *PMem {
	if size <= 0 || size%LineSize != 0 {
		panic(fmt.Sprintf("nvramsim: pmem size %d is not a positive multiple of %d", size, LineSize))
	}
	r := newPMem(m.Gate(), clock, make([]byte, size), p)
	m.Attach(name, r)
	return r
}

func newPMem(gate *sync.RWMutex, clock *Clock, durable []byte, p PMemParams) *PMem {
	return &PMem{clock: clock, p: p, gate: gate, durable: durable, lines: make(map[int64]*line)}
}

// Size implements [device.Region].
func (r *PMem) Size() int64 { return int64(len(r.durable)) }

// Stats returns the counts so far.
func (r *PMem) Stats() PMemStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stats
}

// enter checks a range and locks; leave unlocks.
func (r *PMem) enter(what string, off, n int64) error {
	if err := device.CheckRange(off, n, r.Size()); err != nil {
		return fmt.Errorf("persistent memory: %s: %w", what, err)
	}
	r.gate.RLock()
	r.mu.Lock()
	return nil
}

func (r *PMem) leave() {
	r.mu.Unlock()
	r.gate.RUnlock()
}

// ReadAt implements [device.Region]: it loads what the newest stores left.
func (r *PMem) ReadAt(p []byte, off int64) (int, error) {
	if err := r.enter("load", off, int64(len(p))); err != nil {
		return 0, err
	}
	defer r.leave()
	copy(p, r.durable[off:])
	eachLine(off, int64(len(p)), func(no, at, n, done int64) {
		if l := r.lines[no]; l != nil {
			copy(p[done:done+n], l.now[at:])
		}
	})
	r.stats.BytesRead += int64(len(p))
	if r.p.ReadRate > 0 {
		r.clock.Advance(time.Duration(atRate(int64(len(p)), r.p.ReadRate)))
	}
	return len(p), nil
}

// WriteAt implements [device.Region]: it stores into the processor's cache,
// which takes no modelled time.
func (r *PMem) WriteAt(p []byte, off int64) (int, error) {
	if err := r.enter("store", off, int64(len(p))); err != nil {
		return 0, err
	}
	defer r.leave()
	eachLine(off, int64(len(p)), func(no, at, n, done int64) {
		l := r.lines[no]
		if l == nil {
			l = new(line)
			copy(l.now[:], r.durable[no*LineSize:])
			r.lines[no] = l
		}
		l.stages = append(l.stages, l.now)
		copy(l.now[at:], p[done:done+n])
	})
	r.stats.BytesWritten += int64(len(p))
	return len(p), nil
}

// WriteBack begins to write back the lines of the range, as CLWB does: they are
// durable after the next [PMem.Fence], as they are now.
func (r *PMem) WriteBack(off, n int64) error {
	if err := r.enter("write-back", off, n); err != nil {
		return err
	}
	defer r.leave()
	eachLine(off, n, func(no, _, _, _ int64) {
		r.stats.WriteBacks++
		r.clock.Advance(r.p.WriteBack)
		if l := r.lines[no]; l != nil {
			l.back = len(l.stages)
			r.written = append(r.written, no)
		}
	})
	return nil
}

// Fence makes durable what was written back before, as SFENCE does.
func (r *PMem) Fence() {
	r.gate.RLock()
	r.mu.Lock()
	defer r.leave()
	r.stats.Fences++
	r.clock.Advance(r.p.Fence)
	for _, no := range r.written {
		l := r.lines[no]
		if l == nil || l.back == 0 {
			continue // seen twice
		}
		done := l.now
		if l.back < len(l.stages) { // stored to since
			done = l.stages[l.back]
		}
		copy(r.durable[no*LineSize:], done[:])
		l.stages = l.stages[l.back:]
		if l.back = 0; len(l.stages) == 0 {
			delete(r.lines, no)
		}
	}
	r.written = r.written[:0]
}

// Persist implements [device.Region]: it writes back the range and fences.
func (r *PMem) Persist(off, n int64) error {
	if err := r.WriteBack(off, n); err != nil {
		return err
	}
	r.Fence()
	return nil
}

// Close implements [device.Region]; it does nothing.
func (r *PMem) Close() error { return nil }

// PowerCut implements [memdev.Part]. Each unfenced store to a line survives by
// fate, in words of 8 bytes; an older store's word survives if no newer one's
// does.
func (r *PMem) PowerCut(to *memdev.Machine, rng *rand.Rand, fate memdev.Fate) memdev.Part {
	r.mu.Lock()
	defer r.mu.Unlock()
	left := slices.Clone(r.durable)
	for _, no := range slices.Sorted(maps.Keys(r.lines)) {
		l := r.lines[no]
		states := append(slices.Clone(l.stages[1:]), l.now)
		for _, s := range states {
			q := fate.Draw(rng)
			for at := int64(0); at < LineSize; at += WordSize {
				if q == 1 || q > 0 && rng.Float64() < q {
					copy(left[no*LineSize+at:], s[at:at+WordSize])
				}
			}
		}
	}
	return newPMem(to.Gate(), r.clock, left, r.p)
}

// eachLine calls f for each line that the n bytes at off touch, with its number,
// the part of it that is touched, and how many bytes came before.
func eachLine(off, n int64, f func(no, at, n, done int64)) {
	for done := int64(0); done < n; {
		at := (off + done) % LineSize
		part := min(n-done, LineSize-at)
		f((off+done)/LineSize, at, part, done)
		done += part
	}
}
