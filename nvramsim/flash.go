// SPDX-License-Identifier: Apache-2.0

package nvramsim

import (
	"time"

	"zumastor.org/zumastor/engine/device"
)

// FlashParams describes a solid-state drive. The figures are typical of their
// class; those of flash chips are from vendors' and conference papers' TLC
// figures, since drives' data sheets don't give them.
type FlashParams struct {
	Size        int64
	Units       int           // dies that work in parallel
	PageSize    int64         // what one read of a die gives, bytes
	ReadTime    time.Duration // of a page, die to controller
	ProgramSize int64         // what one program operation of a die writes: a page on each plane
	ProgramTime time.Duration
	SuspendTime time.Duration // the most that a read waits for a program on its die
	BusRate     int64         // host interface, bytes a second
	Overhead    time.Duration // of a command, not shared with others in the queue
	CommandTime time.Duration // of a command in the controller, which takes one after another
	QueueDepth  int           // commands under way at once
	WriteCache  int64         // bytes taken before their program has ended
	Protected   bool          // power-loss protection: a flush need not wait for programs
	FlushTime   time.Duration // protected: of the command; else: writing the mapping after the data
	MappingTime time.Duration // of a discard or zeroing, which only change the mapping
}

// TypicalSATASSD returns a consumer SATA drive of 1 TB without power-loss
// protection. Its flush takes 2 to 3 ms with little dirty data: published
// fsync tests of such drives show 1 to 5.
func TypicalSATASSD() FlashParams {
	return FlashParams{
		Size: 1e12 / 4096 * 4096, Units: 16, PageSize: 16 << 10, ReadTime: 70 * time.Microsecond,
		ProgramSize: 64 << 10, ProgramTime: 700 * time.Microsecond, SuspendTime: 100 * time.Microsecond,
		BusRate: 550e6, Overhead: 20 * time.Microsecond, CommandTime: 10 * time.Microsecond, // up to 100k commands a second
		QueueDepth: 32, WriteCache: 16 << 20,
		FlushTime:   1500 * time.Microsecond, // two dependent programs and their bookkeeping
		MappingTime: 50 * time.Microsecond,
	}
}

// TypicalNVMe returns a data-centre NVMe drive of 1 TB on four PCIe 3.0 lanes,
// with power-loss protection: capacitors save the cache, so a flush costs little
// more than its command.
func TypicalNVMe() FlashParams {
	return FlashParams{
		Size: 1e12 / 4096 * 4096, Units: 32, PageSize: 16 << 10, ReadTime: 70 * time.Microsecond,
		ProgramSize: 64 << 10, ProgramTime: 1100 * time.Microsecond, // 1.9 GB/s in all; sheets: 1.4 to 3
		SuspendTime: 100 * time.Microsecond,
		BusRate:     3200e6, Overhead: 8 * time.Microsecond, CommandTime: 2 * time.Microsecond, // up to 500k commands a second
		QueueDepth: 256, WriteCache: 64 << 20, Protected: true,
		FlushTime: 20 * time.Microsecond, MappingTime: 20 * time.Microsecond,
	}
}

// NewFlash returns a solid-state drive.
//
// A read waits for each of its pages' dies, which pages are spread over by
// address. A write is done when the cache has it; from there, full program units
// go to the dies in turn, wherever they are addressed to, as in a log-structured
// translation layer, and a write waits while the cache is full. A flush of a
// drive without protection programs what is left, waits for all dies and writes
// the mapping. Garbage collection is not modelled (a fresh or mostly empty
// drive), nor that reads of fresh data may come from the cache.
func NewFlash(clock *Clock, p FlashParams) *Model {
	checkSize("flash drive", p.Size)
	st := new(Stats)
	f := &flash{p: p, stats: st, reading: make([]int64, p.Units), programming: make([]int64, p.Units)}
	return &Model{clock: clock, size: p.Size, stats: st, mech: f}
}

type flash struct {
	p     FlashParams
	stats *Stats

	bus         int64   // when the host interface is free
	reading     []int64 // by die: when its reads have ended
	programming []int64 // by die: when its programs have ended
	next        int     // die of the next program
	open        int64   // cached bytes that do not fill a program unit yet
	programs    []program
	ends        []int64 // of the commands under way, by slot of the queue
}

// program is one operation whose bytes are in the cache until it ends.
type program struct{ end, bytes int64 }

func (f *flash) do(now int64, reqs []request) int64 {
	f.retire(now)
	depth := max(1, f.p.QueueDepth)
	f.ends = f.ends[:0]
	end, controller := now, now
	for i, r := range reqs {
		begin := controller
		if i >= depth { // a slot of the queue must come free
			begin = max(begin, f.ends[i-depth])
		}
		controller = begin + int64(f.p.CommandTime)
		begin = controller + int64(f.p.Overhead)
		var done int64
		if r.kind == device.Read {
			done = f.read(begin, r)
		} else {
			done = f.write(begin, r)
		}
		f.ends = append(f.ends, done)
		end = max(end, done)
	}
	return end
}

// read returns when the last page of r has crossed the bus.
func (f *flash) read(begin int64, r request) int64 {
	end := begin
	for off := r.off; off < r.end(); {
		n := min(r.end()-off, f.p.PageSize-off%f.p.PageSize)
		die := int(off / f.p.PageSize % int64(f.p.Units))
		start := max(begin, f.reading[die])
		if busy := f.programming[die]; busy > start {
			wait := min(busy-start, int64(f.p.SuspendTime))
			start += wait
			f.programming[die] += int64(f.p.ReadTime)
		}
		f.reading[die] = start + int64(f.p.ReadTime)
		f.stats.MediaReads += f.p.PageSize
		end = max(end, f.transfer(f.reading[die], n))
		off += n
	}
	return end
}

// transfer moves n bytes over the bus from t on, after what moves there.
func (f *flash) transfer(t, n int64) int64 {
	f.bus = max(f.bus, t) + atRate(n, f.p.BusRate)
	return f.bus
}

// write returns when the cache has taken r.
func (f *flash) write(begin int64, r request) int64 {
	t := begin
	for left := r.n; left > 0; {
		n := min(left, f.p.ProgramSize-f.open)
		for len(f.programs) > 0 && f.cached()+n > f.p.WriteCache {
			t = max(t, f.programs[0].end)
			f.retire(t)
		}
		t = f.transfer(t, n)
		f.open += n
		if f.open == f.p.ProgramSize {
			f.program(t)
		}
		left -= n
	}
	return t
}

// program starts to write what is open on the next die.
func (f *flash) program(t int64) {
	start := max(t, f.programming[f.next], f.reading[f.next])
	end := start + int64(f.p.ProgramTime)
	f.programming[f.next] = end
	f.programs = append(f.programs, program{end, f.open})
	f.stats.MediaWrites += f.open
	f.open = 0
	f.next = (f.next + 1) % f.p.Units
}

// cached returns how many bytes the cache holds.
func (f *flash) cached() int64 {
	n := f.open
	for _, p := range f.programs {
		n += p.bytes
	}
	return n
}

// retire frees the cache of the programs that have ended at t, in order.
func (f *flash) retire(t int64) {
	i := 0
	for i < len(f.programs) && f.programs[i].end <= t {
		i++
	}
	f.programs = f.programs[:copy(f.programs, f.programs[i:])]
}

func (f *flash) flush(now int64) int64 {
	f.retire(now)
	begin := now + int64(f.p.CommandTime+f.p.Overhead)
	if f.p.Protected {
		return begin + int64(f.p.FlushTime)
	}
	if f.open == 0 && len(f.programs) == 0 {
		return begin
	}
	if f.open > 0 {
		f.program(begin)
	}
	end := begin
	for _, p := range f.programs {
		end = max(end, p.end)
	}
	return end + int64(f.p.FlushTime)
}

func (f *flash) zero(now int64, _, _ int64) int64 {
	return now + int64(f.p.CommandTime+f.p.Overhead+f.p.MappingTime)
}

func (f *flash) discard(now int64, off, n int64) int64 { return f.zero(now, off, n) }
