// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"context"
	"fmt"

	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/workloads"
	"zumastor.org/zumastor/workloads/gen"
)

// maxGroupBytes bounds the buffers of one group of Replay, unless a single op is
// longer. It is what a sync of a file system may have under way at once: the
// kernel submits all that is dirty before it waits.
const maxGroupBytes = 128 << 20

// Replay issues s from the calling goroutine in groups: up to o.Depth reads and
// writes in stream order are given to o.Submit at once, and the next group
// follows when it returns. A group ends early at a Flush, Discard or Zero,
// behind a write with FUA, and before an op that overlaps one in the group
// unless both read. So the sequence that the device sees is a function of the
// stream and the options alone, as far as Submit is. The Result has neither
// latencies nor Elapsed: with a modelled device, its clock is the time.
func Replay(ctx context.Context, dev device.Device, s workloads.Stream, o Options) (Result, error) {
	o, err := o.withDefaults()
	if err != nil {
		return Result{}, err
	}
	r := replayer{dev: dev, opts: o, submit: o.Submit}
	if r.submit == nil {
		r.submit = func(ops []device.Op) error { return device.Do(dev, ops) }
	}
	err = r.run(ctx, s)
	return r.result, err
}

type replayer struct {
	dev    device.Device
	opts   Options
	submit func([]device.Op) error

	group  []workloads.Op
	bytes  int64       // of the group
	vector []device.Op // of the group, once it is submitted
	buf    []byte
	result Result
}

func (r *replayer) run(ctx context.Context, s workloads.Stream) error {
	for op, ok := s.Next(); ok; op, ok = s.Next() {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err := op.Check(r.dev.Size()); err != nil {
			return err
		}
		if err := r.add(op); err != nil {
			return err
		}
	}
	if err := workloads.Err(s); err != nil {
		return err
	}
	return r.flushGroup()
}

func (r *replayer) add(op workloads.Op) error {
	if op.Kind != workloads.Read && op.Kind != workloads.Write {
		if err := r.flushGroup(); err != nil {
			return err
		}
		if err := control(r.dev, op); err != nil {
			return err
		}
		r.result.add(op)
		return nil
	}
	if !r.fits(op) {
		if err := r.flushGroup(); err != nil {
			return err
		}
	}
	r.group = append(r.group, op)
	r.bytes += op.Len
	if !op.FUA {
		return nil
	}
	if err := r.flushGroup(); err != nil {
		return err
	}
	if err := r.dev.Flush(); err != nil {
		return fmt.Errorf("%v: %w", op, err)
	}
	return nil
}

func (r *replayer) fits(op workloads.Op) bool {
	if len(r.group) == r.opts.Depth || r.bytes+op.Len > maxGroupBytes {
		return false
	}
	for _, g := range r.group {
		if (op.Mutates() || g.Mutates()) && op.Overlaps(g) {
			return false
		}
	}
	return true
}

// flushGroup submits the group and empties it.
func (r *replayer) flushGroup() error {
	if len(r.group) == 0 {
		return nil
	}
	r.fillVector()
	if err := r.submit(r.vector); err != nil {
		return fmt.Errorf("%d ops from %v: %w", len(r.group), r.group[0], err)
	}
	for i, op := range r.group {
		if op.Kind == workloads.Read && r.opts.Verify {
			if err := gen.VerifyPlaced(r.vector[i].Data, r.opts.Seed, op.Off, r.opts.Version); err != nil {
				return fmt.Errorf("%v: %w", op, err)
			}
		}
		r.result.add(op)
	}
	r.group, r.bytes = r.group[:0], 0
	return nil
}

// fillVector lays the group's buffers out one behind the other, each aligned.
func (r *replayer) fillVector() {
	align := int64(r.opts.BufferAlign)
	need := r.bytes + int64(len(r.group))*align
	if int64(len(r.buf)) < need {
		r.buf = alignedBuffer(roundUp(need), r.opts.BufferAlign)
	}
	r.vector = r.vector[:0]
	free := r.buf
	for _, op := range r.group {
		v := device.Op{Kind: device.Read, Off: op.Off, Data: free[:op.Len:op.Len]}
		if op.Kind == workloads.Write {
			v.Kind = device.Write
			gen.Fill(v.Data, r.opts.Seed, op.Off, r.opts.Version)
		}
		r.vector = append(r.vector, v)
		free = free[(op.Len+align-1)/align*align:]
	}
}
