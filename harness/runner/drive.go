// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/harness/stack"
	"zumastor.org/zumastor/results"
	"zumastor.org/zumastor/workloads"
	"zumastor.org/zumastor/workloads/apply"
)

// drive issues a stream to a stack, an op as soon as one before has ended, and
// takes the time by the stack's clock. A CopyBound, and what is modelled, gets
// whole groups of ops.
func drive(ctx context.Context, st *stack.Stack, s workloads.Stream, depth int, version uint64) (apply.Result, error) {
	if st.Modelled() || st.Bound() {
		return driveGroups(ctx, st, s, depth, version)
	}
	return apply.Run(ctx, st.Device(), s, apply.Options{Depth: depth, Seed: stack.ContentSeed, Version: version})
}

// driveGroups issues a stream in groups of at most depth ops and 128 MiB, each when
// the one before has ended, and takes the time within the stack alone.
func driveGroups(ctx context.Context, st *stack.Stack, s workloads.Stream, depth int, version uint64) (apply.Result, error) {
	o := apply.Options{Depth: depth, Seed: stack.ContentSeed, Version: version}
	if st.Modelled() {
		began := st.Now()
		r, err := apply.Replay(ctx, hollow{st.Device(), st}, s, o)
		r.Elapsed = st.Now() - began
		return r, err
	}
	loop := &bareLoop{Device: st.Device(), latency: apply.NewLatency()}
	r, err := apply.Replay(ctx, loop, s, o)
	r.Elapsed = loop.spent
	r.ByKind[workloads.Write].Latency = loop.latency
	return r, err
}

// hollow is a modelled stack whose content is zeroes, which take no memory: a
// model knows places and lengths only. Between groups the background work is
// done.
type hollow struct {
	device.Device
	stack *stack.Stack
}

func (h hollow) Do(ops []device.Op) error {
	for _, op := range ops {
		if op.Kind == device.Write {
			clear(op.Data)
		}
	}
	if err := device.Do(h.Device, ops); err != nil {
		return err
	}
	return h.stack.Maintain()
}

func (h hollow) WriteZeroes(off, n int64) error { return device.WriteZeroes(h.Device, off, n) }

// bareLoop counts the time within a device only: making the content of writes is
// not in it.
type bareLoop struct {
	device.Device
	spent   time.Duration
	latency *hdrhistogram.Histogram
}

func (l *bareLoop) Do(ops []device.Op) error {
	began := time.Now()
	err := device.Do(l.Device, ops)
	took := time.Since(began)
	l.spent += took
	// Within bounds: a group that takes an hour is not worth counting.
	_ = l.latency.RecordValues(min(int64(took), apply.MaxLatency), int64(len(ops)))
	return err
}

func (l *bareLoop) Flush() error {
	began := time.Now()
	defer func() { l.spent += time.Since(began) }()
	return l.Device.Flush()
}

// tally adds up the slices of one setting.
type tally struct {
	elapsed    time.Duration
	ops, bytes int64
	latency    *hdrhistogram.Histogram
	extra      map[string]float64 // further values by unit
	driven     driven
}

func (t *tally) add(r apply.Result) {
	t.elapsed += r.Elapsed
	t.driven.add(r)
	for _, k := range []workloads.Kind{workloads.Read, workloads.Write} {
		c := r.ByKind[k]
		t.ops += c.Ops
		t.bytes += c.Bytes
		if c.Latency != nil {
			if t.latency == nil {
				t.latency = results.NewLatency()
			}
			t.latency.Merge(c.Latency)
		}
	}
}

func (t *tally) set(unit string, v float64) {
	if t.extra == nil {
		t.extra = map[string]float64{}
	}
	t.extra[unit] = v
}

// sample makes a sample of what was added up.
func (t *tally) sample(experiment string, kind results.Kind, round int, c results.Config) results.Sample {
	s := results.Sample{Experiment: experiment, Kind: kind, Config: c, Round: round, N: int(max(1, t.ops)), Values: map[string]float64{}}
	if t.ops > 0 && t.elapsed > 0 {
		s.Values[results.NsPerOp] = float64(t.elapsed) / float64(t.ops)
		s.Values[results.IOPS] = float64(t.ops) / t.elapsed.Seconds()
		if t.bytes > 0 {
			s.Values[results.MBPerSec] = float64(t.bytes) / 1e6 / t.elapsed.Seconds()
		}
	}
	s.Latency = t.latency
	s.SetPercentiles()
	for unit, v := range t.extra {
		s.Values[unit] = v
	}
	return s
}
