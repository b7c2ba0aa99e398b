// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"slices"

	"zumastor.org/zumastor/analysis/report"
	"zumastor.org/zumastor/harness/spec"
	"zumastor.org/zumastor/harness/stack"
	"zumastor.org/zumastor/results"
)

// ErrInterrupted is wrapped when a run ended early because its context did. What
// was recorded is complete; the run can be resumed.
var ErrInterrupted = errors.New("interrupted")

// Options say what to run and where.
type Options struct {
	Suite       spec.Suite
	Experiments []string // names; empty for all
	Axes        spec.Axes
	Seed        uint64
	Bed         stack.Options
	Root        string    // the directory of runs
	Resume      string    // a run to go on with; "" begins a new one
	Command     []string  // the command line, for the record
	Program     []string  // that serves an export, see package export
	Out         io.Writer // progress
	Terminal    bool      // Out can show a bar
	Probes      bool      // look at each measured experiment by eBPF, where that is possible
	Strict      bool      // refuse a machine that is too noisy, rather than mark the run
	Trial       spec.Trial
	ID          string            // of a new run; "" for one of its time
	Origin      map[string]string // settings that say who carries out what; only an equal run is resumed
}

// Run carries out the experiments and makes the report. It returns the run's
// record with any error that came after the record was made; an error that wraps
// [ErrInterrupted] leaves a run that can be resumed.
func Run(ctx context.Context, o Options) (*results.Run, error) {
	all, err := plan(o)
	if err != nil {
		return nil, err
	}
	chosen, err := o.Trial.Take(all)
	if err != nil {
		return nil, err
	}
	noise, err := preflight(ctx, chosen, o.Strict)
	if err != nil {
		return nil, err
	}
	record, err := open(o)
	if err != nil {
		return nil, err
	}
	began := results.ReadCPUTime()
	env := results.CollectEnvironment(o.Bed.Dir)
	env.Noise = noise
	if before, err := record.Environment(); err == nil && before.LoadStart != "" {
		env.LoadStart = before.LoadStart // of the run that is resumed
	}
	if err := errors.Join(record.SetEnvironment(env), warnOfNoise(record, noise), warnOfTrial(record, o.Trial)); err != nil {
		return record, err
	}
	r := &runner{Options: o, record: record, progress: newProgress(o.Out, o.Terminal, remaining(chosen, record)), suite: all}
	err = r.all(ctx, chosen)
	r.progress.end()
	env.LoadEnd, env.StealPercent = results.Load(), results.StealSince(began)
	err = errors.Join(err, record.SetEnvironment(env))
	if ctx.Err() != nil {
		return record, fmt.Errorf("run %s: %w: go on with zbench run --resume %s", record.Manifest().ID, ErrInterrupted, record.Manifest().ID)
	}
	if err != nil {
		return record, err
	}
	if err := record.Finish(); err != nil {
		return record, err
	}
	return record, report.Write(record)
}

func warnOfTrial(record *results.Run, t spec.Trial) error {
	if w := TrialWarning(t); w != "" {
		return record.Warn(w)
	}
	return nil
}

// plan returns the experiments that are wanted, with the axes that are wanted.
func plan(o Options) ([]spec.Experiment, error) {
	all, err := spec.Load(o.Suite)
	if err != nil {
		return nil, err
	}
	chosen, err := spec.Select(all, o.Experiments)
	if err != nil {
		return nil, err
	}
	for i := range chosen {
		if chosen[i], err = o.Axes.Apply(chosen[i]); err != nil {
			return nil, fmt.Errorf("%s: %w", chosen[i].Name, err)
		}
	}
	return chosen, nil
}

// open makes the record, or finds that of the run to be resumed.
func open(o Options) (*results.Run, error) {
	settings := Settings(o)
	if o.Resume == "" {
		return results.Create(o.Root, results.Manifest{ID: o.ID, Suite: string(o.Suite), Command: o.Command, Settings: settings})
	}
	dir, err := results.Find(o.Root, o.Resume)
	if err != nil {
		return nil, err
	}
	record, err := results.Open(dir)
	if err != nil {
		return nil, err
	}
	if m := record.Manifest(); m.Merged {
		return nil, fmt.Errorf("run %s is a merge of trials, to which nothing is added: carry out the trials that are missing, and zbench merge again", m.ID)
	} else if m.Suite != string(o.Suite) || !maps.Equal(m.Settings, settings) {
		return nil, fmt.Errorf("run %s was begun as suite %s with %v: resume it with the same flags", m.ID, m.Suite, m.Settings)
	}
	return record, nil
}

// runner is a run under way.
type runner struct {
	Options
	record   *results.Run
	progress *progress
	bed      *stack.Bed        // of measured experiments; nil until one needs it
	suite    []spec.Experiment // of which a trial is carried out
}

func (r *runner) all(ctx context.Context, chosen []spec.Experiment) (err error) {
	defer func() {
		if r.bed != nil {
			err = errors.Join(err, r.notes(), r.bed.Close())
		}
	}()
	for _, e := range chosen {
		if r.record.Completed(e.Name) {
			continue
		}
		if err := r.one(ctx, e, chosen); err != nil {
			return fmt.Errorf("experiment %s: %w", e.Name, err)
		}
	}
	return nil
}

// one carries out one experiment, from the round on that is not recorded.
func (r *runner) one(ctx context.Context, e spec.Experiment, all []spec.Experiment) (err error) {
	c := costOf(e)
	if e.Measured && onBed(e.Procedure) && r.bed == nil {
		size := bedSize(slices.Concat(all, r.suite)) // the same in all trials
		r.progress.begin("preparing devices", bedCost(size))
		if r.bed, err = stack.Open(r.Bed, size); err != nil {
			return err
		}
	}
	b := bench{Experiment: e, seed: r.Seed, dir: r.Bed.Dir, overwritten: r.Bed.Device, program: r.Program, version: firstVersion(e.Name), accounts: new(ledger)}
	if e.Measured {
		b.bed = r.bed
	}
	p := newProcedure(b)
	defer func() { err = errors.Join(err, p.close()) }()
	unwatch, err := r.watch(e)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unwatch()) }()
	r.progress.begin(fmt.Sprintf("%s: preparing", e.Name), c.prepare)
	if err := p.prepare(ctx); errors.Is(err, errSkipped) {
		return errors.Join(r.record.Warn(fmt.Sprintf("%s: %v", e.Name, err)), r.record.Complete(e.Name))
	} else if err != nil {
		return err
	}
	if n, ok := p.(noter); ok && r.record.Rounds(e.Name) == 0 {
		for _, note := range n.notes() {
			if err := r.record.Warn(note); err != nil {
				return err
			}
		}
	}
	first, end := e.Span()
	for n := max(first, r.record.Rounds(e.Name)); n < end; n++ {
		r.progress.begin(fmt.Sprintf("%s: round %d of %d", e.Name, n+1, e.Rounds), c.roundCost(n))
		samples, err := p.round(ctx, n)
		if err != nil {
			return err
		}
		if err := r.record.Append(samples...); err != nil {
			return err
		}
		if err := r.record.AddAccounts(e.Name, b.accounts.take()...); err != nil {
			return err
		}
	}
	if err := r.lookOnce(ctx, e, p, c); err != nil {
		return err
	}
	return r.record.Complete(e.Name)
}

// notes records what is to be known of the bed.
func (r *runner) notes() error {
	var errs []error
	for _, n := range r.bed.Notes() {
		errs = append(errs, r.record.Warn(n))
	}
	return errors.Join(errs...)
}

// firstVersion is the version of content that an experiment begins with, so that
// no two write the same to one bed.
func firstVersion(name string) uint64 {
	h := fnv.New32a()
	h.Write([]byte(name))
	return uint64(h.Sum32()) << 24
}
