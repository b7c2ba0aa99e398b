// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"zumastor.org/zumastor/engine/alloc"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/copylog"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/journal"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/wire"
)

// copier copies chunks out, in batches by group commit. A write that finds nobody
// copying leads: it takes all that waits, itself included, and copies it. What
// arrives meanwhile waits, and one of those leads next. So a lone write waits for
// no company and no goroutine is handed over to, and under load a batch takes
// whatever arrived while the one before it was written.
type copier struct {
	v          *Origin
	log        placement.Log
	epoch      uint64
	batchBytes int64
	leaseSlots uint64

	mu      sync.Mutex // guards queue and leading
	queue   []*request
	leading bool

	// The leader owns what follows.
	batch  *copylog.Batch
	leases leases
	ahead  readahead
	failed error // the log is broken: nothing can be copied any more
	needed []block.Chunk
}

// request is a wait for chunks to be settled.
type request struct {
	first, end block.Chunk
	last       block.Chunk // the last one of them that is being copied
	err        error
	wake       chan signal
}

// signal is why a request is woken.
type signal uint8

const (
	finished signal = iota // err is set
	promoted               // to lead
)

var requests = sync.Pool{New: func() any { return &request{wake: make(chan signal, 1)} }}

func newRequest(first, end block.Chunk) *request {
	r := requests.Get().(*request)
	r.first, r.end, r.err = first, end, nil
	return r
}

func (r *request) finish(err error) {
	r.err = err
	r.wake <- finished
}

func newCopier(v *Origin, log placement.Log, s *wire.Session, o Options) *copier {
	shift := s.Geometry.ChunkShift()
	return &copier{
		v: v, log: log, epoch: s.Epoch,
		batchBytes: orDefault(o.BatchBytes, DefaultBatchBytes),
		leaseSlots: uint64(max(4, min(orDefault(o.LeaseBytes, DefaultLeaseBytes)>>shift, int64(s.Slots/16)))),
		leases:     leases{heads: uint64(log.HeadSlots()), runs: s.Leases},
		ahead:      readahead{limit: uint64(max(0, orDefault(o.AheadBytes, DefaultAheadBytes)>>shift)), chunks: v.geo.Chunks()},
	}
}

// settle returns when the chunks [first, end) are settled, of which that is not
// known.
func (c *copier) settle(first, end block.Chunk) error {
	var few [8]block.Chunk
	unsettled, err := c.v.server.Unsettled(first, end, few[:0])
	if err != nil {
		return err
	}
	if len(unsettled) == 0 {
		c.note(first, end)
		return nil
	}
	return c.copyOut(newRequest(first, end))
}

// note remembers that the chunks [first, end) are settled.
func (c *copier) note(first, end block.Chunk) {
	g := c.v.state.Load().Generation
	for ; first < end; first++ {
		c.v.settled.set(g, first)
	}
}

// copyOut returns when every chunk of all requests is settled, or with the first
// error. The requests are used up.
func (c *copier) copyOut(reqs ...*request) error {
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
		requests.Put(r)
	}
	return first
}

// lead serves all that waits, then passes the lead on.
func (c *copier) lead() {
	c.mu.Lock()
	reqs := c.queue
	c.queue = nil
	c.mu.Unlock()

	c.serve(reqs)

	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) > 0 {
		c.queue[0].wake <- promoted
	} else {
		c.leading = false
	}
}

// serve copies out what the requests need, in order of chunk, and finishes each
// as soon as its last chunk is durable.
func (c *copier) serve(reqs []*request) {
	slices.SortFunc(reqs, func(a, b *request) int { return int(int64(a.first) - int64(b.first)) })
	reqs, err := c.gather(reqs)
	slices.SortFunc(reqs, func(a, b *request) int { return int(int64(a.last) - int64(b.last)) })
	chunks := c.needed
	for err == nil && len(reqs) > 0 {
		var n int
		if n, err = c.copy(chunks); err != nil {
			break
		}
		for len(reqs) > 0 && reqs[0].last <= chunks[n-1] {
			reqs[0].finish(nil)
			reqs = reqs[1:]
		}
		chunks = chunks[n:]
	}
	for _, r := range reqs {
		r.finish(err)
	}
}

// gather puts the chunks to be copied into c.needed, ascending: those of the
// requests, and those ahead of sequential ones. It finishes the requests that
// need none and returns the others.
func (c *copier) gather(reqs []*request) (waiting []*request, err error) {
	c.needed = c.needed[:0]
	for i, r := range reqs {
		first := r.first
		if n := len(c.needed); n > 0 {
			first = max(first, c.needed[n-1]+1)
		}
		before := len(c.needed)
		if first < r.end {
			if c.needed, err = c.v.server.Unsettled(first, r.end, c.needed); err != nil {
				return append(waiting, reqs[i:]...), err
			}
		}
		n := len(c.needed)
		if n > before {
			c.ahead.note(c.needed[before], r.end)
		}
		if n > 0 && c.needed[n-1] >= r.first {
			r.last = min(c.needed[n-1], r.end-1)
			waiting = append(waiting, r)
			continue
		}
		r.finish(nil)
	}
	return waiting, c.gatherAhead()
}

// gatherAhead adds the chunks ahead of sequential requests.
func (c *copier) gatherAhead() (err error) {
	for _, s := range c.ahead.take(len(c.needed)) {
		if c.needed, err = c.v.server.Unsettled(s.first, s.end, c.needed); err != nil {
			return err
		}
	}
	slices.Sort(c.needed)
	c.needed = slices.Compact(c.needed)
	return nil
}

// copy copies out as many of the chunks, from the first on, as fit into a batch,
// and returns how many that were.
func (c *copier) copy(chunks []block.Chunk) (int, error) {
	if c.failed != nil {
		return 0, c.failed
	}
	if err := c.fill(chunks); err != nil {
		return 0, err
	}
	b := c.batch
	if err := device.Do(c.v.dev, c.reads()); err != nil {
		c.leases.putBack()
		return 0, fmt.Errorf("reading chunks to copy out: %w", err)
	}
	b.Seal()
	if err := c.commit(b); err != nil {
		return 0, err
	}
	for _, done := range b.Copies {
		c.v.settled.set(b.Generation, done.Chunk)
	}
	return len(b.Copies), nil
}

// fill begins a batch with the first of the chunks and gives each a slot.
func (c *copier) fill(chunks []block.Chunk) error {
	limit := int(max(1, c.batchBytes>>c.v.geo.ChunkShift()))
	chunks = chunks[:min(len(chunks), limit)]
	if err := c.lease(uint64(len(chunks))); err != nil {
		return err
	}
	if c.batch == nil || c.batch.Cap() < len(chunks) {
		c.batch = copylog.NewBatch(len(chunks), c.v.geo.ChunkSize())
	}
	b := c.batch
	b.Generation = c.v.state.Load().Generation
	b.Copies = b.Copies[:0]
	body := layout.MaxBatchBody(0)
	for _, chunk := range chunks {
		slot, ok := c.leases.peek()
		if !ok {
			break
		}
		next := layout.Copy{Chunk: chunk, Slot: slot}
		if body += b.Cost(next); body > c.log.MaxBody() {
			break
		}
		b.Copies = append(b.Copies, next)
		c.leases.take()
	}
	return nil
}

// lease makes sure that there are slots for want chunks, or at least for one.
func (c *copier) lease(want uint64) error {
	if have := c.leases.free(); have >= want && have >= c.leaseSlots/4 {
		return nil
	}
	headless := c.leases.headless()
	runs, err := c.v.server.Lease(max(want, c.leaseSlots))
	c.leases.add(runs)
	if c.leases.free() == 0 {
		if err == nil {
			err = alloc.ErrNoSpace
		}
		return fmt.Errorf("leasing slots: %w", err)
	}
	if headless {
		c.log.Start(c.epoch, layout.Position{Place: uint64(runs[0].First), Seq: c.log.Position().Seq})
	}
	return nil
}

// readBytes bounds one read of neighbouring chunks, so that long runs keep several
// reads under way.
const readBytes = 1 << 20

// reads returns the reads that fill the batch from the origin.
func (c *copier) reads() []device.Op {
	b, geo := c.batch, c.v.geo
	var ops []device.Op
	for i := 0; i < len(b.Copies); {
		first := b.Copies[i].Chunk
		n := 1
		for i+n < len(b.Copies) && b.Copies[i+n].Chunk == first+block.Chunk(n) && (n+1)<<geo.ChunkShift() <= readBytes {
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

// commit makes the batch durable and reports it.
func (c *copier) commit(b *copylog.Batch) error {
	b.Next = c.leases.nextHead()
	err := c.log.Commit(b)
	if errors.Is(err, journal.ErrFull) {
		released, cerr := c.v.server.Checkpoint()
		if cerr != nil {
			c.leases.putBack()
			return cerr
		}
		c.log.Release(released)
		err = c.log.Commit(b)
	}
	if err != nil {
		c.failed = fmt.Errorf("copying out: %w", err)
		return c.failed
	}
	c.leases.passHead()
	released, err := c.v.server.Report(wire.Batch{
		Batch: &b.Batch, Head: b.Head, HasHead: c.log.HeadSlots() > 0, Position: c.log.Position(),
	})
	if err != nil {
		c.failed = fmt.Errorf("reporting a batch: %w", err)
		return c.failed
	}
	c.log.Release(released)
	return nil
}
