// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"zumastor.org/zumastor/engine/alloc"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/copylog"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/mark"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/wire"
)

// copier copies chunks out, in batches by group commit. A write that finds nobody
// leading leads: it takes all that waits, itself included, and copies it. What
// arrives meanwhile waits, and one of those leads next. So a lone write waits for
// no company and no goroutine is handed over to, and under load a batch takes
// whatever arrived while the one before it was under way.
//
// With overlap, the lead is passed on when a leader's last batch has been read and
// only its commit is left: the next batch is read meanwhile, and committed after
// it. So a device that does several things at once is kept busy with both.
type copier struct {
	v          *Origin
	log        placement.Log
	uuid       layout.UUID
	epoch      uint64
	batchBytes int64
	leaseSlots uint64
	overlap    bool

	requests sync.Pool // of *request

	mu      sync.Mutex // guards queue and leading
	queue   []*request
	leading bool

	// The leader owns what follows.
	batches      [2]*copylog.Batch // one being read, one being committed
	turn         int               // of batches: the one to be read next
	leases       leases
	ahead        readahead
	needed       []block.Chunk
	unreadable   unreadable
	inflight     *layout.Batch // that may still be being committed, or nil
	breaksBefore uint64        // breaks, when the leader before passed the lead on

	// committing is held through a commit, and taken by leaders in their order. It
	// guards what follows, and log.
	// mending is held by who has a log that was broken off go on. Taken before committing.
	mending    sync.Mutex
	committing sync.Mutex
	failed     error         // nothing can be copied any more
	broken     *wire.Failure // a batch that could not be made durable; the log goes on in another session
	breaks     uint64        // how many there were
	fresh      *wire.Session // that the leader has yet to take over, or nil
	resumed    sync.Cond     // of committing: fresh, failed or closed were set
	closed     bool
	doubtful   bool        // the server was told where the log ends, and has not answered yet
	stale      atomic.Bool // fresh is not nil, or doubtful
}

// request is a wait for chunks to be settled.
type request struct {
	first, end block.Chunk
	last       block.Chunk // the last one of them that is being copied
	alone      bool        // nothing is to be copied ahead of them
	keep       bool        // they are not to be lost: nobody writes there
	err        error
	wake       chan signal
}

// signal is why a request is woken.
type signal uint8

const (
	finished signal = iota // err is set
	promoted               // to lead
)

// newRequest returns one for the chunks [first, end); copyOut uses it up.
func (c *copier) newRequest(first, end block.Chunk) *request {
	r, _ := c.requests.Get().(*request)
	if r == nil {
		r = &request{wake: make(chan signal, 1)}
	}
	r.first, r.end, r.err, r.alone, r.keep = first, end, nil, false, false
	return r
}

func (r *request) finish(err error) {
	r.err = err
	r.wake <- finished
}

func newCopier(v *Origin, log placement.Log, s *wire.Session, o Options) *copier {
	shift := s.Geometry.ChunkShift()
	c := &copier{
		v: v, log: log, uuid: s.UUID, epoch: s.Epoch, overlap: !o.Serial,
		batchBytes: orDefault(o.BatchBytes, DefaultBatchBytes),
		leaseSlots: uint64(max(4, min(orDefault(o.LeaseBytes, DefaultLeaseBytes)>>shift, int64(s.Slots/16)))),
		unreadable: unreadable{policy: o.Unreadable},
		leases:     leases{heads: uint64(log.HeadSlots()), runs: s.Leases},
		ahead:      readahead{limit: uint64(max(0, orDefault(o.AheadBytes, DefaultAheadBytes)>>shift)), chunks: v.geometry().Chunks()},
	}
	c.resumed.L = &c.committing
	return c
}

// copyOut returns when every chunk of all requests is settled, or with the first
// error. The requests are used up.
func (c *copier) copyOut(reqs ...*request) error {
	chunks := block.Chunk(0)
	for _, r := range reqs {
		chunks += r.end - r.first
	}
	mark.CopyBegin(uint64(chunks))
	defer mark.CopyEnd()
	c.mu.Lock()
	lead := !c.leading
	c.leading = true
	c.queue = append(c.queue, reqs...)
	c.mu.Unlock()
	if lead {
		c.lead()
	}
	var first error
	for _, r := range reqs {
		if <-r.wake == promoted {
			c.lead()
			<-r.wake
		}
		if first == nil {
			first = r.err
		}
		c.requests.Put(r)
	}
	return first
}

// lead serves all that waits: it copies out what the requests need, in order of
// chunk, and finishes each as soon as its last chunk is durable. Then, or while it
// commits its last batch, it passes the lead on.
func (c *copier) lead() {
	c.mu.Lock()
	reqs := c.queue
	c.queue = nil
	c.mu.Unlock()

	reqs, err := c.gather(reqs)
	for errors.Is(err, wire.ErrAway) {
		if err = c.hold(); err == nil {
			reqs, err = c.gather(reqs)
		}
	}
	for chunks := c.needed; err == nil && len(chunks) > 0; {
		var b *copylog.Batch
		if b, err = c.prepare(chunks); err == nil {
			err = c.enter(b)
		}
		if errors.Is(err, wire.ErrAway) { // what was prepared has slots of a session that ends
			err = c.hold()
			continue
		}
		if bad, is := errors.AsType[badChunks](err); is {
			reqs, chunks = c.judge(bad, reqs, chunks)
			err = nil
			continue
		}
		if err != nil {
			break
		}
		upTo := b.Copies[len(b.Copies)-1].Chunk
		chunks = chunks[len(b.Copies):]
		last := len(chunks) == 0
		c.leases.passHead()
		if last && c.overlap {
			c.inflight, c.breaksBefore = &b.Batch, c.breaks
			c.pass()
		}
		err = c.commit(b)
		c.committing.Unlock()
		if err == nil {
			reqs = finishUpTo(reqs, upTo)
		}
		if last && c.overlap {
			finishAll(reqs, err)
			return
		}
	}
	// Some may need just what another leader is committing.
	c.committing.Lock()
	if err == nil {
		err = c.usable()
	}
	c.inflight, c.breaksBefore = nil, c.breaks
	c.committing.Unlock()
	c.pass()
	finishAll(reqs, err)
}

// pass passes the lead on to one of those who wait, if there are any.
func (c *copier) pass() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) > 0 {
		c.queue[0].wake <- promoted
	} else {
		c.leading = false
	}
}

// finishUpTo finishes the requests, ascending by their last chunk, whose last
// chunk is not beyond upTo, and returns the others.
func finishUpTo(reqs []*request, upTo block.Chunk) []*request {
	n := 0
	for n < len(reqs) && reqs[n].last <= upTo {
		n++
	}
	finishAll(reqs[:n], nil)
	return reqs[n:]
}

func finishAll(reqs []*request, err error) {
	for _, r := range reqs {
		r.finish(err)
	}
}

// prepare reads as many of the chunks, from the first on, as fit into a batch.
func (c *copier) prepare(chunks []block.Chunk) (*copylog.Batch, error) {
	mark.BatchBegin(uint64(len(chunks)))
	defer mark.BatchEnd()
	b, err := c.fill(chunks)
	if err != nil {
		return nil, err
	}
	if device.Do(c.v.dev, c.reads(b)) != nil {
		if err := c.readAgain(b); err != nil {
			c.leases.putBack()
			return nil, fmt.Errorf("reading chunks to copy out: %w", err)
		}
	}
	b.Seal()
	b.Next = c.leases.nextHead()
	c.turn = 1 - c.turn
	return b, nil
}

// fill begins a batch with the first of the chunks and gives each a slot.
func (c *copier) fill(chunks []block.Chunk) (*copylog.Batch, error) {
	limit := int(max(1, c.batchBytes>>c.v.geometry().ChunkShift()))
	chunks = chunks[:min(len(chunks), limit)]
	if err := c.lease(uint64(len(chunks))); err != nil {
		return nil, err
	}
	b := c.batches[c.turn]
	if b == nil || b.Cap() < len(chunks) {
		b = copylog.NewBatch(len(chunks), c.v.geometry().ChunkSize())
		c.batches[c.turn] = b
	}
	b.Generation = c.v.state.Load().Generation
	b.Copies = b.Copies[:0]
	body := layout.MaxBatchBody(0)
	for _, chunk := range chunks {
		slot, ok := c.leases.peek()
		lost := c.unreadable.lost[chunk]
		if lost {
			slot, ok = layout.LostSlot, true
		}
		if !ok {
			break
		}
		next := layout.Copy{Chunk: chunk, Slot: slot}
		if body += b.Cost(next); body > c.log.MaxBody() {
			break
		}
		b.Copies = append(b.Copies, next)
		if !lost {
			c.leases.take()
		}
	}
	return b, nil
}

// lease makes sure that there are slots for want chunks, or at least for one.
func (c *copier) lease(want uint64) error {
	if have := c.leases.free(); have >= want && have >= c.leaseSlots/4 {
		return nil
	}
	if c.stale.Load() {
		return wire.ErrAway
	}
	mark.LeaseBegin(max(want, c.leaseSlots))
	defer mark.LeaseEnd()
	headless := c.leases.headless()
	runs, err := c.v.server.Lease(max(want, c.leaseSlots))
	if errors.Is(err, alloc.ErrLeases) && c.leases.free() == 0 {
		c.awaitCommit() // it uses leases
		runs, err = c.v.server.Lease(max(want, c.leaseSlots))
	}
	c.leases.add(runs)
	if c.leases.free() == 0 {
		if err == nil || errors.Is(err, alloc.ErrNoSpace) {
			return noSlots{alloc.ErrNoSpace}
		}
		return fmt.Errorf("leasing slots: %w", err)
	}
	if headless {
		return c.startAt(runs[0].First)
	}
	return nil
}

// startAt has the log go on at a slot: it had none.
func (c *copier) startAt(head block.Slot) error {
	c.committing.Lock()
	defer c.committing.Unlock()
	if c.stale.Load() {
		return wire.ErrAway
	}
	c.log.Start(c.epoch, layout.Position{Place: uint64(head), Seq: c.log.Position().Seq})
	return nil
}

// noSlots is the error of a write for which there are no slots yet.
type noSlots struct{ error }

// Unwrap returns why.
func (e noSlots) Unwrap() error { return e.error }

// isNoSlots reports whether a write is to wait for space, and then done anew.
func isNoSlots(err error) bool {
	_, is := errors.AsType[noSlots](err)
	return is
}

// awaitCommit returns when the batch before the one being built is reported.
func (c *copier) awaitCommit() {
	c.committing.Lock()
	defer c.committing.Unlock()
}

// readBytes bounds one read of neighbouring chunks, so that long runs keep several
// reads under way.
const readBytes = 1 << 20

// reads returns the reads that fill the batch from the origin, but for what is lost.
func (c *copier) reads(b *copylog.Batch) []device.Op {
	geo := c.v.geometry()
	var ops []device.Op
	for i := 0; i < len(b.Copies); {
		first := b.Copies[i].Chunk
		n := 1
		if b.Copies[i].Slot == layout.LostSlot {
			i++
			continue
		}
		for i+n < len(b.Copies) && b.Copies[i+n].Chunk == first+block.Chunk(n) && b.Copies[i+n].Slot != layout.LostSlot && (n+1)<<geo.ChunkShift() <= readBytes {
			n++
		}
		data := b.Chunks(i, n)
		if tail := geo.ChunkSize() - geo.Len(first+block.Chunk(n-1)); tail > 0 {
			clear(data[len(data)-tail:])
			data = data[:len(data)-tail]
		}
		ops = append(ops, device.Op{Kind: device.Read, Off: geo.Offset(first), Data: data})
		i += n
	}
	return ops
}

// commit makes the batch durable, reports it, and notes its chunks as settled. A
// batch that fails breaks the chain: no later one would be found. The caller
// holds committing, and there is room in the log.
func (c *copier) commit(b *copylog.Batch) error {
	at := c.log.Position()
	mark.CommitBegin(uint64(len(b.Copies)))
	err := c.log.Commit(b)
	mark.CommitEnd()
	if err != nil {
		return c.breakOff(b, at, err)
	}
	mark.ReportBegin(uint64(len(b.Copies)))
	released, err := c.v.server.Report(wire.Batch{
		Batch: &b.Batch, Head: b.Head, HasHead: c.log.HeadSlots() > 0, Position: c.log.Position(),
	})
	mark.ReportEnd()
	if err != nil {
		c.failed = fmt.Errorf("reporting a batch: %w", err)
		return c.failed
	}
	c.log.Release(released)
	for _, done := range b.Copies {
		c.v.settled.set(b.Generation, done.Chunk)
	}
	return nil
}
