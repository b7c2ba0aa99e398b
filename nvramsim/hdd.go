// SPDX-License-Identifier: Apache-2.0

package nvramsim

import (
	"slices"
	"time"

	"zumastor.org/zumastor/engine/device"
)

// HDDParams describes a rotating disk. The defaults of [TypicalHDD] are those of
// a 7200 rpm SATA desktop drive of 1 TB as data sheets of about 2010 to 2020 give
// them; where sheets say nothing the comment does.
type HDDParams struct {
	Size         int64         // 1 TB
	RPM          int           // 7200
	Heads        int           // 4; sheets: 2 to 4 for 1 TB
	TrackToTrack time.Duration // 1.0 ms; sheets: 1.0 read, 1.2 write. Also the head switch and the track skew
	FullStroke   time.Duration // 15.06 ms, so that the average over random pairs, TrackToTrack + 8/15 of the difference, is the sheets' 8.5
	WriteSettle  time.Duration // 1.0 ms more before a write after moving; sheets: average write seek 9.5 ms against 8.5
	OuterRate    int64         // 210 MB/s sustained at the rim, track switches included
	InnerRate    int64         // 100 MB/s at the hub; sheets give only the rim, reviews show about half there
	BusRate      int64         // 550 MB/s: SATA 6 Gb/s less its coding and framing
	Overhead     time.Duration // 50 µs a command: typical of measured cached commands, not on sheets
	QueueDepth   int           // 32: NCQ
	WriteCache   int64         // 32 MiB of dirty data, about half of the usual 64 MiB; zero turns it off
	ReadAhead    int64         // 512 KiB behind a read: an assumption
	Segments     int           // 16 places that read data is kept for: an assumption
}

// TypicalHDD returns the documented defaults.
func TypicalHDD() HDDParams {
	return HDDParams{
		Size: 1e12 / 4096 * 4096, RPM: 7200, Heads: 4,
		TrackToTrack: time.Millisecond, FullStroke: 15060 * time.Microsecond, WriteSettle: time.Millisecond,
		OuterRate: 210e6, InnerRate: 100e6, BusRate: 550e6, Overhead: 50 * time.Microsecond,
		QueueDepth: 32, WriteCache: 32 << 20, ReadAhead: 512 << 10, Segments: 16,
	}
}

// NewHDD returns a rotating disk. The platter's angle follows from the clock,
// sectors are skewed so that a sequential transfer loses only the track switch.
//
// Writes go to the write cache at bus speed, and the arm empties it whenever it
// has nothing else to do, nearest in positioning time first among the QueueDepth
// extents nearest by address; Flush waits until it is empty, a write waits while
// it is full. Reads go before that; of the queued ones that of shortest
// positioning time is next. After a read the drive reads on until ReadAhead, or
// another command, so a sequential reader loses no revolution. A transfer
// that has begun is not interrupted. Sequential writes that find the cache empty
// miss their sector and wait for it to come around, as on a real drive. Zeroing
// costs what writing costs; discards cost a command.
func NewHDD(clock *Clock, p HDDParams) *Model {
	checkSize("disk", p.Size)
	st := new(Stats)
	return &Model{clock: clock, size: p.Size, stats: st, mech: &hdd{p: p, geo: newGeometry(p), stats: st}}
}

// maxTransfer is the most that the arm moves before it looks what is next. More
// in sequence costs nothing, so it only bounds how long a read waits.
const maxTransfer = 1 << 20

// hdd is the state of a drive: what the arm does, and what its memory holds.
type hdd struct {
	p     HDDParams
	geo   geometry
	stats *Stats

	free  int64 // when the arm ends what it does
	head  int64 // the byte behind the last one that passed
	track int64
	dirty extents
	segs  []extent                 // read data in memory, newest last
	ahead int64                    // the arm reads on from head to here, into the newest segment; zero if not
	wait  struct{ from, to int64 } // while the arm waits to read on again
}

// background lets the arm work by itself until now: read ahead, then empty the
// cache. A transfer that begins before now may end later.
func (h *hdd) background(now int64) {
	if h.ahead > h.head && h.free < now {
		n := h.geo.within(h.head, h.ahead-h.head, now-h.free)
		h.stream(n)
		if h.head < h.ahead {
			return
		}
	}
	for h.free < now && len(h.dirty.list) > 0 {
		h.destage()
	}
}

// stream passes the n bytes behind the head into the newest segment.
func (h *hdd) stream(n int64) {
	if n == 0 {
		return
	}
	ns, track := h.geo.pass(h.head, n)
	h.free += ns
	h.track = track
	h.head += n
	h.segs[len(h.segs)-1].end = h.head
	h.stats.MediaReads += n
}

// position returns how long the arm takes from h.free on until off is under its
// head: seek and rotation.
func (h *hdd) position(off int64, kind device.OpKind) (seek, rotation int64) {
	to := h.geo.at(off)
	seek = h.geo.seek(h.track, to.track)
	sequential := off == h.head
	if kind == device.Write && to.track != h.track && !sequential {
		seek += int64(h.p.WriteSettle)
	}
	rotation = (h.geo.angle(to) - (h.free+seek)%h.geo.rev + h.geo.rev) % h.geo.rev
	return seek, rotation
}

// move positions and transfers.
func (h *hdd) move(kind device.OpKind, off, n int64) {
	seek, rotation := h.position(off, kind)
	ns, track := h.geo.pass(off, n)
	if seek > 0 && off != h.head {
		h.stats.Seeks++
	}
	h.stats.SeekTime += time.Duration(seek)
	h.stats.RotationTime += time.Duration(rotation)
	h.stats.TransferTime += time.Duration(ns)
	if kind == device.Read {
		h.stats.MediaReads += n
	} else {
		h.stats.MediaWrites += n
	}
	h.free += seek + rotation + ns
	h.head, h.track = off+n, track
	h.ahead, h.wait.to = 0, -1
}

// resume lets an arm that has read as far ahead as it may, and has not moved
// since, read on behind r, once half of what it read is consumed.
func (h *hdd) resume(begin int64, r request) {
	n := len(h.segs)
	stopped := n > 0 && h.ahead == h.head && h.segs[n-1].end == h.head && h.segs[n-1].off <= r.off
	if !stopped || len(h.dirty.list) > 0 || h.head-r.end() > h.p.ReadAhead/2 {
		return
	}
	h.free = max(h.free, begin)
	h.wait.from = h.free
	seek, rotation := h.position(h.head, device.Read)
	h.free += seek + rotation
	h.wait.to = h.free
	h.ahead = min(r.end()+h.p.ReadAhead, h.p.Size)
}

// ready makes the arm available at t or when it ends what it does, whichever is
// later. Waiting to read on is given up at once.
func (h *hdd) ready(t int64) {
	if h.ahead > h.head && h.free == h.wait.to {
		h.free = h.wait.from
	}
	h.free = max(h.free, t)
}

// destage writes to the platters what is nearest of the cache.
func (h *hdd) destage() {
	around := h.dirty.from(h.head)
	lo := max(0, around-h.p.QueueDepth/2)
	hi := min(len(h.dirty.list), lo+max(1, h.p.QueueDepth))
	best, least := lo, int64(-1)
	for i := lo; i < hi; i++ {
		seek, rotation := h.position(h.dirty.list[i].off, device.Write)
		if cost := seek + rotation; least < 0 || cost < least {
			best, least = i, cost
		}
	}
	e := h.dirty.list[best]
	n := min(e.end-e.off, maxTransfer)
	h.move(device.Write, e.off, n)
	h.dirty.trim(best, n)
}

func (h *hdd) flush(now int64) int64 {
	h.background(now)
	for len(h.dirty.list) > 0 {
		h.ready(now)
		h.destage()
	}
	return max(h.free, now) + int64(h.p.Overhead)
}

func (h *hdd) discard(now int64, _, _ int64) int64 { return now + int64(h.p.Overhead) }

func (h *hdd) zero(now int64, off, n int64) int64 {
	if n == 0 {
		return now
	}
	return h.do(now, []request{{device.Write, off, n}})
}

// do serves the reads, and writes without a cache, by the arm, and meanwhile
// takes the other writes into the cache.
func (h *hdd) do(now int64, reqs []request) int64 {
	h.background(now)
	end := now
	var arm []request
	for _, r := range reqs {
		if r.kind == device.Read || h.p.WriteCache == 0 {
			arm = append(arm, r)
		}
	}
	if len(arm) > 0 {
		end = h.serve(now, arm)
	}
	t := now
	for _, r := range reqs {
		if r.kind == device.Write && h.p.WriteCache > 0 {
			t = h.absorb(t, r)
		}
	}
	return max(end, t)
}

// absorb takes a write into the cache, and returns when it is there.
func (h *hdd) absorb(t int64, r request) int64 {
	t += int64(h.p.Overhead)
	h.forget(extent{r.off, r.end()})
	piece := min(maxTransfer, h.p.WriteCache)
	for off := r.off; off < r.end(); off += piece {
		e := extent{off, min(off+piece, r.end())}
		h.background(t)
		for len(h.dirty.list) > 0 && h.dirty.bytes+h.dirty.added(e) > h.p.WriteCache {
			h.ready(t)
			h.destage()
			t = max(t, h.free)
		}
		h.rest(t)
		h.dirty.add(e)
		t += atRate(e.end-e.off, h.p.BusRate)
	}
	return t
}

// rest says that an arm without work has had none until t, so that what comes at
// t does not begin earlier.
func (h *hdd) rest(t int64) {
	if len(h.dirty.list) == 0 && h.ahead <= h.head {
		h.free = max(h.free, t)
	}
}

// forget drops read data that a write makes old.
func (h *hdd) forget(w extent) {
	reading := h.ahead > h.head
	if n := len(h.segs); reading && h.segs[n-1].off < w.end && w.off < h.ahead {
		h.ready(0)
		h.ahead = 0
	}
	h.segs = slices.DeleteFunc(h.segs, func(s extent) bool { return s.off < w.end && w.off < s.end })
}

// serve runs commands by the arm, all queued at now, and returns when the last
// has ended. Those beyond the queue's depth enter as others leave.
func (h *hdd) serve(now int64, reqs []request) int64 {
	begin := now + int64(h.p.Overhead)
	end := begin
	for len(reqs) > 0 {
		i := h.nearest(begin, reqs[:min(len(reqs), max(1, h.p.QueueDepth))])
		end = max(end, h.one(begin, reqs[i]))
		reqs = slices.Delete(reqs, i, i+1)
	}
	return end
}

// nearest returns the index of the command that can begin its transfer first;
// what is in memory needs none.
func (h *hdd) nearest(begin int64, reqs []request) int {
	best, least := 0, int64(-1)
	if len(reqs) == 1 {
		return 0
	}
	for i, r := range reqs {
		if r.kind == device.Read && (h.cached(r) || h.streaming(r)) {
			return i
		}
		save := h.free
		h.free = max(h.free, begin)
		seek, rotation := h.position(r.off, r.kind)
		h.free = save
		if cost := seek + rotation; least < 0 || cost < least {
			best, least = i, cost
		}
	}
	return best
}

// cached reports whether a read is in the drive's memory.
func (h *hdd) cached(r request) bool {
	e := extent{r.off, r.end()}
	return h.segment(e) >= 0 || h.dirty.covers(e)
}

func (h *hdd) segment(e extent) int {
	return slices.IndexFunc(h.segs, func(s extent) bool { return s.off <= e.off && e.end <= s.end })
}

// streaming reports whether a read continues what the arm is reading ahead.
func (h *hdd) streaming(r request) bool {
	return h.ahead > h.head && h.segs[len(h.segs)-1].off <= r.off && r.off <= h.head
}

// one serves a command that was issued so that it can begin at begin.
func (h *hdd) one(begin int64, r request) int64 {
	switch {
	case r.kind == device.Write:
		h.ready(begin + atRate(r.n, h.p.BusRate))
		h.forget(extent{r.off, r.end()})
		h.move(r.kind, r.off, r.n)
		return h.free
	case h.cached(r):
		h.stats.CacheHits++
		if h.streaming(r) {
			h.ahead = max(h.ahead, min(r.end()+h.p.ReadAhead, h.p.Size))
		}
		h.resume(begin, r)
		return begin + atRate(r.n, h.p.BusRate)
	case h.streaming(r):
		h.stream(r.end() - h.head)
	default:
		h.ready(begin)
		h.move(r.kind, r.off, r.n)
		h.keep(extent{r.off, r.end()})
	}
	h.ahead = min(h.head+h.p.ReadAhead, h.p.Size)
	return max(h.free, begin)
}

// keep makes e the newest segment, and drops the oldest for it.
func (h *hdd) keep(e extent) {
	if len(h.segs) >= max(1, h.p.Segments) {
		h.segs = slices.Delete(h.segs, 0, 1)
	}
	h.segs = append(h.segs, e)
}
