// SPDX-License-Identifier: Apache-2.0

package stages

import (
	"cmp"
	"slices"
	"time"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/results"
)

// The classes of requests.
const (
	firstWrite    = "first write"
	settledWrite  = "settled write"
	originRead    = "origin read"
	unchangedRead = "snapshot read, unchanged"
	changedRead   = "snapshot read, changed"
	snapshotWrite = "snapshot write"
	flush         = "flush"
	between       = "between requests"
)

// classNames are all classes in the order of reports.
var classNames = []string{firstWrite, settledWrite, originRead, unchangedRead, changedRead, snapshotWrite, flush, between}

// The stages of requests, in their order.
const (
	stageQueue   = "queue"        // another batch is under way
	stageSlots   = "plan"         // which chunks, and slots for them
	stageLease   = "lease"        // the server gives out slots
	stageOld     = "read old"     // chunks, from the origin
	stageTurn    = "checksum"     // and the commit of the batch before
	stageCopies  = "write copies" // to the store
	stageDurable = "make durable" // the flush, and the record in a journal
	stageReport  = "report"       // to the server
	stageRelease = "wake"         // until the write goes on
	stageOrigin  = "write origin" // what was asked for
	stageRead    = "read origin"
	stageStored  = "read store"
	stageWrite   = "write store"
	stageFlush   = "flush origin"
	stageFind    = "find"        // where a chunk of a snapshot is
	stageAgain   = "ask again"   // whether the chunk is still shared
	stageFill    = "slots"       // and the rest of a chunk that is written to in a snapshot
	stageNote    = "note"        // that the chunk has a slot of its own
	stageBehind  = "checkpoints" // what is done between requests
	stageEngine  = "engine"      // all else, between the caller and the device
)

// order is that of all stages.
var order = []string{
	stageQueue, stageSlots, stageLease, stageOld, stageTurn, stageCopies, stageDurable, stageReport, stageRelease, stageFind, stageFill,
	stageOrigin, stageRead, stageStored, stageWrite, stageAgain, stageNote, stageFlush, stageBehind, stageEngine,
}

// waits says in which stages nothing is done for the request itself.
var waits = map[string]bool{stageQueue: true, stageRelease: true}

// class adds up the requests of a class, each as often as it stands for.
type class struct {
	looked           int64
	groups, requests int64
	spent            time.Duration
	times            *results.Times
	stages           []*stage
}

type stage struct {
	name  string
	spent time.Duration
	times *results.Times
	now   time.Duration // in the request that is being added
}

// at returns the stage of a name, a new one behind those there are.
func (c *class) at(name string) *stage {
	for _, s := range c.stages {
		if s.name == name {
			return s
		}
	}
	s := &stage{name: name, times: results.NewTimes()}
	s.times.Add(0, c.groups) // in which it took no time
	c.stages = append(c.stages, s)
	return s
}

func (c *class) result(name string) results.Class {
	out := results.Class{Name: name, Looked: c.looked, Groups: c.groups, Requests: c.requests, Nanoseconds: int64(c.spent), Times: c.times}
	rank := func(s *stage) int { return slices.Index(order, s.name) }
	slices.SortFunc(c.stages, func(a, b *stage) int { return cmp.Compare(rank(a), rank(b)) })
	for _, s := range c.stages {
		out.Stages = append(out.Stages, results.Stage{Name: s.name, Waits: waits[s.name], Nanoseconds: int64(s.spent), Times: s.times})
	}
	return out
}

// path is a request on its way through its stages: each ends where the next begins.
type path struct {
	class *class
	at    time.Duration
}

// to ends a stage, unless it has ended before.
func (p *path) to(stage string, until time.Duration) {
	if until > p.at {
		p.class.at(stage).now += until - p.at
		p.at = until
	}
}

// begin begins to add a request of a class. The lock is held.
func (r *Recorder) begin(name string, began time.Duration) path {
	c := r.classes[name]
	if c == nil {
		c = &class{times: results.NewTimes()}
		r.classes[name] = c
	}
	return path{c, began}
}

// end ends a group of requests that stands for others: what is left is the engine's.
func (r *Recorder) end(p path, requests int, stands int64, began, ended time.Duration) {
	p.to(stageEngine, ended)
	c := p.class
	c.looked++
	c.groups += stands
	c.requests += stands * int64(requests)
	c.spent += time.Duration(stands) * (ended - began)
	c.times.Add(int64(ended-began), stands)
	for _, s := range c.stages {
		s.spent += time.Duration(stands) * s.now
		s.times.Add(int64(s.now), stands)
		s.now = 0
	}
	r.adapt(ended - began)
}

// write ends a write of a volume, or a group of them, that was looked at.
func (r *Recorder) write(s *slot, ops []device.Op, began time.Duration) {
	ended := r.o.Now()
	own, stands, ok := s.times()
	if !ok {
		return // it failed
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	batches := r.of(began, func(b *batch) bool {
		for _, op := range ops {
			if first, end := r.span(op); op.Kind == device.Write && b.covers(first, end) {
				return true
			}
		}
		return false
	})
	name, wait, last := settledWrite, stageEngine, stageOrigin
	if len(batches) > 0 {
		name, wait = firstWrite, stageRelease
	} else if ops[0].Kind == device.Read {
		name, last = originRead, stageRead
	}
	p := r.begin(name, began)
	for _, b := range batches {
		p.to(stageQueue, b.gather.begin)
		if b.lease.end > 0 {
			p.to(stageSlots, b.lease.begin)
			p.to(stageLease, b.lease.end)
		}
		p.to(stageSlots, b.read.begin)
		p.to(stageOld, b.read.end)
		p.to(stageTurn, b.write.begin)
		p.to(stageCopies, b.write.end)
		p.to(stageDurable, b.report.begin)
		p.to(stageReport, b.report.end)
	}
	p.to(wait, own.begin)
	p.to(last, own.end)
	r.end(p, len(ops), stands, began, ended)
}

// span returns the chunks of an op.
func (r *Recorder) span(op device.Op) (first, end block.Chunk) {
	if r.o.Chunk == 0 {
		return 0, 0
	}
	return block.Chunk(op.Off / r.o.Chunk), block.Chunk((op.Off + int64(len(op.Data)) + r.o.Chunk - 1) / r.o.Chunk)
}

// simple ends a request that has one operation on a device.
func (r *Recorder) simple(s *slot, began time.Duration, name func(stored bool) (class, before, own, after string)) {
	ended := r.o.Now()
	stored := s.stored.Load()
	op, stands, ok := s.times()
	if !ok {
		return // it failed
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	class, before, own, after := name(stored)
	p := r.begin(class, began)
	p.to(before, op.begin)
	p.to(own, op.end)
	p.to(after, ended)
	r.end(p, 1, stands, began, ended)
}

// aside adds time that a device took between requests, and flushes of the caller.
func (r *Recorder) aside(class, stage string, s span) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.begin(class, s.begin)
	p.to(stage, s.end)
	r.end(p, 1, 1, s.begin, s.end)
}
