// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"context"
	"sync"
	"time"

	"zumastor.org/zumastor/workloads"
)

// dispenser hands the ops of one stream to the workers in order, each as soon as
// nothing under way stands against it, and gathers what they measured.
type dispenser struct {
	ctx    context.Context
	stream workloads.Stream
	size   int64 // of the device
	opts   Options

	progress progress

	mu       sync.Mutex
	changed  sync.Cond      // something below has changed
	held     bool           // a worker holds the next op until it may start, or a barrier is under way
	active   []workloads.Op // by worker; meaningful where busy
	busy     []bool         // by worker
	underWay int
	ended    bool // no more ops: end of stream, error or cancellation
	lastOp   time.Time
	result   Result
	err      error
}

func newDispenser(ctx context.Context, s workloads.Stream, size int64, o Options) *dispenser {
	d := &dispenser{
		ctx: ctx, stream: s, size: size, opts: o,
		active: make([]workloads.Op, o.Depth),
		busy:   make([]bool, o.Depth),
		lastOp: time.Now(),
	}
	d.changed.L = &d.mu
	return d
}

// next returns the op that the worker is to issue now; it blocks while that op
// must wait. It returns false when the run is over.
func (d *dispenser) next(worker int) (workloads.Op, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.held && !d.ended {
		d.changed.Wait()
	}
	if d.ended {
		return workloads.Op{}, false
	}
	op, ok := d.stream.Next()
	if !ok {
		d.end(nil)
		return op, false
	}
	if err := op.Check(d.size); err != nil {
		d.end(err)
		return op, false
	}
	d.held = true
	if d.opts.Gaps {
		d.pace(op.Gap)
	}
	for !d.ended && !d.mayStart(op) {
		d.changed.Wait()
	}
	if d.ended {
		return op, false
	}
	d.active[worker], d.busy[worker] = op, true
	d.underWay++
	if !d.isBarrier(op) {
		d.release()
	}
	return op, true
}

func (d *dispenser) isBarrier(op workloads.Op) bool {
	return op.Kind == workloads.Flush && !d.opts.LooseFlush
}

func (d *dispenser) mayStart(op workloads.Op) bool {
	if d.isBarrier(op) {
		return d.underWay == 0
	}
	for i, busy := range d.busy {
		if a := d.active[i]; busy && (op.Mutates() || a.Mutates()) && op.Overlaps(a) {
			return false
		}
	}
	return true
}

// pace waits, without the lock, until gap has passed since the last op began.
func (d *dispenser) pace(gap time.Duration) {
	wait := time.Until(d.lastOp.Add(gap))
	if wait > 0 {
		d.mu.Unlock()
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-d.ctx.Done():
			t.Stop()
		}
		d.mu.Lock()
		if d.ctx.Err() != nil {
			d.end(context.Cause(d.ctx))
		}
	}
	d.lastOp = time.Now()
}

// done takes the outcome of an op that next returned to the worker.
func (d *dispenser) done(worker int, op workloads.Op, latency time.Duration, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.busy[worker] = false
	d.underWay--
	if err != nil {
		d.end(err)
	} else {
		d.result.add(op)
		d.result.record(op.Kind, latency)
		d.progress.ops.Add(1)
		d.progress.bytes.Add(op.Len)
	}
	if d.isBarrier(op) {
		d.release()
		return
	}
	if d.held {
		d.changed.Broadcast()
	}
}

func (d *dispenser) release() {
	d.held = false
	d.changed.Broadcast()
}

// end lets no further op start; the first error is kept.
func (d *dispenser) end(err error) {
	if d.err == nil {
		d.err = err
	}
	d.ended = true
	d.changed.Broadcast()
}

// cancel ends the run because its context has ended.
func (d *dispenser) cancel() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.ended {
		d.end(context.Cause(d.ctx))
	}
}
