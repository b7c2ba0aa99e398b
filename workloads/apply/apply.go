// SPDX-License-Identifier: Apache-2.0

// Package apply issues streams of operations to a device and measures them.
//
// It owns [Run], the closed loop of concurrent workers that is timed by the wall
// clock, and [Replay], the single goroutine whose exact I/O sequence feeds the
// device models. It does not make streams, set up devices or judge figures.
// Experiments call it; other measuring programs' figures come in the same
// [Result]. A run owns its stream and its buffers until it returns, and leaves
// no goroutine behind; the device stays the caller's. The first error ends a
// run: nothing more is issued, what is under way is waited for, and the error
// comes with the Result so far.
package apply

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/workloads"
	"zumastor.org/zumastor/workloads/gen"
)

// Options says how a stream is issued. The zero value issues one op at a time,
// with flushes as barriers, as fast as the device takes them.
type Options struct {
	Depth int // ops under way at once; zero means one
	// LooseFlush issues a Flush like any other op. By default a Flush is a
	// barrier: it waits for all ops before it, and those behind wait for it.
	LooseFlush bool
	// Gaps makes Run start each op no earlier than its Gap after the one
	// before. By default gaps are ignored. Replay always ignores them.
	Gaps bool
	// BufferAlign shifts buffers to be aligned to this many bytes and to no
	// more; zero means 4096. A power of two, at least 512.
	BufferAlign int
	Seed        uint64 // of the content of writes, see gen.Fill
	Version     uint64 // of the content of writes
	// Verify checks what reads return by gen.VerifyPlaced: the device must hold
	// nothing but zeroes and what runs of this Seed wrote.
	Verify bool
	// OnProgress is called about ten times a second and once at the end, always
	// from the same goroutine, which Run waits for. Replay does not call it.
	OnProgress func(Progress)
	// Submit takes Replay's groups of reads and writes; nil means device.Do on
	// the device. It must have ended all ops when it returns. Run ignores it.
	Submit func([]device.Op) error
}

// Progress is how far a run has come.
type Progress struct {
	Ops, Bytes int64 // ended so far
}

const progressInterval = 100 * time.Millisecond

func (o Options) withDefaults() (Options, error) {
	if o.Depth == 0 {
		o.Depth = 1
	}
	if o.BufferAlign == 0 {
		o.BufferAlign = maxAlign
	}
	switch {
	case o.Depth < 0 || o.Depth > maxDepth:
		return o, fmt.Errorf("queue depth %d is not from 1 to %d", o.Depth, maxDepth)
	case o.BufferAlign < workloads.SectorSize || o.BufferAlign > maxAlign || o.BufferAlign&(o.BufferAlign-1) != 0:
		return o, fmt.Errorf("buffer alignment %d is not a power of two from %d to %d", o.BufferAlign, workloads.SectorSize, maxAlign)
	}
	return o, nil
}

const (
	maxDepth = 4096
	maxAlign = 4096
)

// Run issues s to dev with o.Depth workers, each of which issues its next op as
// soon as its last has ended. An op that overlaps one under way waits for it,
// unless both read, so that the final content does not depend on timing.
// Cancelling ctx ends the run with ctx's error.
//
// A write with FUA is a write and a flush, and both are its latency. Once the
// buffers have grown to the longest op, the loop allocates nothing.
func Run(ctx context.Context, dev device.Device, s workloads.Stream, o Options) (Result, error) {
	o, err := o.withDefaults()
	if err != nil {
		return Result{}, err
	}
	if ctx.Err() != nil {
		return Result{}, context.Cause(ctx)
	}
	d := newDispenser(ctx, s, dev.Size(), o)
	defer context.AfterFunc(ctx, d.cancel)()
	stopProgress := d.startProgress(o.OnProgress)

	start := time.Now()
	var workers sync.WaitGroup
	for i := range o.Depth {
		workers.Go(func() {
			w := worker{dev: dev, opts: o}
			for op, ok := d.next(i); ok; op, ok = d.next(i) {
				began := time.Now()
				err := w.do(op)
				d.done(i, op, time.Since(began), err)
			}
		})
	}
	workers.Wait()
	d.result.Elapsed = time.Since(start)
	stopProgress()
	if d.err == nil {
		d.err = workloads.Err(s)
	}
	return d.result, d.err
}

// worker is one place in the queue: it issues an op at a time from its buffer.
type worker struct {
	dev  device.Device
	opts Options
	buf  []byte
}

func (w *worker) do(op workloads.Op) error {
	var err error
	switch op.Kind {
	case workloads.Read:
		p := w.buffer(op.Len)
		if _, err = w.dev.ReadAt(p, op.Off); err == nil && w.opts.Verify {
			err = gen.VerifyPlaced(p, w.opts.Seed, op.Off, w.opts.Version)
		}
	case workloads.Write:
		p := w.buffer(op.Len)
		gen.Fill(p, w.opts.Seed, op.Off, w.opts.Version)
		_, err = w.dev.WriteAt(p, op.Off)
	default:
		return control(w.dev, op)
	}
	if err == nil && op.FUA {
		err = w.dev.Flush()
	}
	if err != nil {
		return fmt.Errorf("%v: %w", op, err)
	}
	return nil
}

// control issues an op that moves no data.
func control(dev device.Device, op workloads.Op) error {
	var err error
	switch op.Kind {
	case workloads.Flush:
		err = dev.Flush()
	case workloads.Discard:
		err = dev.Discard(op.Off, op.Len)
	case workloads.Zero:
		err = device.WriteZeroes(dev, op.Off, op.Len)
	}
	if err == nil && op.FUA {
		err = dev.Flush()
	}
	if err != nil {
		return fmt.Errorf("%v: %w", op, err)
	}
	return nil
}

// buffer returns n bytes, growing to the next power of two so that it grows
// seldom.
func (w *worker) buffer(n int64) []byte {
	if int64(len(w.buf)) < n {
		w.buf = alignedBuffer(roundUp(n), w.opts.BufferAlign)
	}
	return w.buf[:n]
}

func roundUp(n int64) int {
	size := 4096
	for int64(size) < n {
		size *= 2
	}
	return size
}

// alignedBuffer returns n bytes aligned to align and to no larger power of two.
func alignedBuffer(n, align int) []byte {
	if align == maxAlign {
		return device.Buffer(n)
	}
	return device.Buffer(n + align)[align:]
}

// startProgress calls f from a goroutine of its own; the function it returns
// makes the last call and waits for the end.
func (d *dispenser) startProgress(f func(Progress)) (stop func()) {
	if f == nil {
		return func() {}
	}
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(progressInterval)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				f(d.progress.load())
			case <-quit:
				f(d.progress.load())
				return
			}
		}
	})
	return func() { close(quit); wg.Wait() }
}

// progress counts what has ended, for a reader on another goroutine.
type progress struct {
	ops, bytes atomic.Int64
}

func (p *progress) load() Progress { return Progress{Ops: p.ops.Load(), Bytes: p.bytes.Load()} }
