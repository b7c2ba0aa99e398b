// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"errors"
	"fmt"

	"zumastor.org/zumastor/harness/probe"
	"zumastor.org/zumastor/harness/spec"
	"zumastor.org/zumastor/harness/stack"
	"zumastor.org/zumastor/results"
	"zumastor.org/zumastor/workloads"
	"zumastor.org/zumastor/workloads/apply"
)

// probed measures what probes cost a settled write: the same volume, in turns without
// probes and with all of them attached.
type probed struct {
	bench
	looking probe.Options
	stack   *stack.Stack
}

func (x *probed) prepare(ctx context.Context) (err error) {
	if x.looking, err = probe.AtSelf(x.dir, x.overwritten); err != nil {
		return err
	}
	s, err := probe.Attach(x.looking)
	if errors.Is(err, probe.ErrUnavailable) {
		return fmt.Errorf("%w: %w", errSkipped, err)
	}
	if err != nil {
		return err
	}
	if err := errors.Join(skippedFor(s.Notices), s.Close()); err != nil {
		return err // of some probes only, the cost is not that of all
	}
	x.stack, err = x.bed.Build(stack.Config{
		Variant: "inline", ChunkSize: x.Chunks[0], Origin: x.Origin, Share: stack.Share{Of: 1}, StoreSize: x.Store,
	})
	if err != nil {
		return err
	}
	return x.stack.Snapshot(1)
}

// skippedFor returns an error if some probes are not possible.
func skippedFor(notices []string) error {
	if len(notices) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", errSkipped, notices[0])
}

func (x *probed) close() error {
	if x.stack == nil {
		return nil
	}
	return x.stack.Close()
}

func (x *probed) round(ctx context.Context, n int) ([]results.Sample, error) {
	var all []results.Sample
	rng := x.random(n)
	for _, qd := range x.Depths {
		a := newAddresses(rng.Uint64(), x.Origin, x.Chunks[0], x.Block, x.MinOps)
		if _, err := drive(ctx, x.stack, a.slice(0, 1), qd, x.newVersion()); err != nil { // settles its chunks
			return nil, err
		}
		tallies := make([]tally, len(x.Variants))
		// Few turns: to attach and to detach takes longer than a short one.
		err := inTurns(ctx, rng, turns, len(x.Variants), func(v, slice int) error {
			r, err := x.slice(ctx, x.Variants[v], x.stream("rewrite", x.Variants[v], &a, slice, turns), qd)
			tallies[v].add(r)
			return err
		})
		if err != nil {
			return nil, err
		}
		for i, v := range x.Variants {
			all = append(all, tallies[i].sample(x.Name, results.Measured, n, config("rewrite", v, x.Chunks[0], qd, noSnapshots, "")))
		}
	}
	return all, nil
}

// slice measures one slice of a variant.
func (x *probed) slice(ctx context.Context, variant string, s workloads.Stream, qd int) (apply.Result, error) {
	if variant != spec.Probed {
		return drive(ctx, x.stack, s, qd, x.newVersion())
	}
	session, err := probe.Attach(x.looking)
	if err != nil {
		return apply.Result{}, err
	}
	r, err := drive(ctx, x.stack, s, qd, x.newVersion())
	return r, errors.Join(err, session.Close())
}

// watch attaches probes for an experiment, if the run has any. What they count goes
// into the record when end is called.
func (r *runner) watch(e spec.Experiment) (end func() error, err error) {
	if !r.Probes || !e.Measured || e.Procedure == spec.Probes {
		return func() error { return nil }, nil
	}
	o, err := probe.AtSelf(r.Bed.Dir, r.Bed.Device)
	if err != nil {
		return nil, err
	}
	s, err := probe.Attach(o)
	if errors.Is(err, probe.ErrUnavailable) {
		return func() error { return nil }, r.record.Warn(fmt.Sprintf("probes: %v", err))
	}
	if err != nil {
		return nil, err
	}
	return func() error {
		var errs []error
		for _, n := range s.Notices {
			errs = append(errs, r.record.Warn(n))
		}
		reading, err := s.Read()
		if err == nil {
			err = r.record.WriteJSON("probes-"+e.Name+".json", reading)
		}
		return errors.Join(append(errs, err, s.Close())...)
	}, nil
}
