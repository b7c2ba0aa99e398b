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

// lookOnce has an experiment whose work is that of other processes carried out once more,
// with probes attached, and keeps nothing but what those count. All others it leaves alone,
// and what one trial of several does. How the experiment was looked at is recorded.
func (r *runner) lookOnce(ctx context.Context, e spec.Experiment, p procedure, c cost) error {
	how, why := e.Procedure.Look()
	switch {
	case how == spec.LookInside || !e.Measured:
		return nil
	case how == spec.LookNot:
		return r.record.SetLooked(e.Name, why)
	case r.Probes && e.Procedure != spec.Probes:
		return r.record.SetLooked(e.Name, why+" What eBPF probes saw of them in all rounds is below.")
	case e.End != 0:
		return r.record.SetLooked(e.Name, why+" Probes, which would see them, are for whole runs: this is a part of one.")
	}
	unwatch, err := r.attach(e)
	if errors.Is(err, probe.ErrUnavailable) {
		return r.record.SetLooked(e.Name, fmt.Sprintf("%s Probes, which would see them, are not to be had here: %v.", why, err))
	}
	if err != nil {
		return err
	}
	r.progress.begin(fmt.Sprintf("%s: once more, with probes", e.Name), c.round)
	_, err = p.round(ctx, e.Rounds)
	if err := errors.Join(err, unwatch()); err != nil {
		return fmt.Errorf("once more, with probes: %w", err)
	}
	return r.record.SetLooked(e.Name, why+" They were carried out once more with eBPF probes attached, which the samples know nothing of; what those saw is below.")
}

// looksOnce reports whether lookOnce has a round of an experiment carried out, if probes
// are to be had.
func looksOnce(e spec.Experiment) bool {
	how, _ := e.Procedure.Look()
	return e.Measured && how == spec.LookProbes && e.End == 0
}

// watch attaches probes for an experiment, if the run has any. What they count goes
// into the record when end is called.
func (r *runner) watch(e spec.Experiment) (end func() error, err error) {
	if !r.Probes || !e.Measured || e.Procedure == spec.Probes {
		return func() error { return nil }, nil
	}
	end, err = r.attach(e)
	if errors.Is(err, probe.ErrUnavailable) {
		return func() error { return nil }, r.record.Warn(fmt.Sprintf("probes: %v", err))
	}
	return end, err
}

// attach attaches probes until end is called, which puts what they count into the record.
func (r *runner) attach(e spec.Experiment) (end func() error, err error) {
	o, err := probe.AtSelf(r.Bed.Dir, r.Bed.Device)
	if err != nil {
		return nil, err
	}
	s, err := probe.Attach(o)
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
