// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"

	"zumastor.org/zumastor/engine/backup/storage"
	"zumastor.org/zumastor/harness/runner"
	"zumastor.org/zumastor/results"
)

// Task is a trial that is to be carried out here and collected.
type Task struct {
	Job     string
	Machine string // the name of the machine; "" for its own identity
	To      storage.Storage
	// Options say what is run; their Trial says which part.
	Options runner.Options
	Out     io.Writer // what is to be known
}

// Run carries out the trial and collects it. A trial that was collected already is left as
// it is, and Run returns nil. One that was interrupted on this machine goes on in the same
// directory. The object is durable when Run returns.
func (t Task) Run(ctx context.Context) (*results.Run, error) {
	o := t.Options
	if err := CheckJob(t.Job); err != nil {
		return nil, err
	}
	if o.Trial.Count == 0 {
		o.Trial.Count = 1
	}
	plan, err := runner.PlanOf(o)
	if err != nil {
		return nil, err
	}
	machine, err := machineDigest(t.Machine)
	if err != nil {
		return nil, err
	}
	program, err := programDigest()
	if err != nil {
		return nil, err
	}
	o.Origin = map[string]string{machineKey: machine, programKey: program}
	done, err := t.collected(ctx, o, plan)
	if done || err != nil {
		return nil, err
	}
	o.ID = fmt.Sprintf("%s-%04d-of-%04d-%s", t.Job, o.Trial.Index, o.Trial.Count, machine)
	record, err := t.begun(o)
	if err != nil {
		return nil, err
	}
	if record != nil {
		o.Resume = o.ID
	}
	if record == nil || record.Manifest().End.IsZero() {
		if record, err = runner.Run(ctx, o); err != nil {
			return record, err
		}
	}
	return record, t.collect(ctx, o, plan, record)
}

// collected reports whether the trial is there already. Another one under its name is an
// error wrapping [ErrMismatch], a damaged one is replaced.
func (t Task) collected(ctx context.Context, o runner.Options, plan runner.Plan) (bool, error) {
	name := objectName(t.Job, o.Trial)
	object, err := readAll(ctx, t.To, name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil && !errors.Is(err, ErrCorrupt) {
		return false, err
	}
	var d Trial
	if err == nil {
		d, _, err = unpack(object)
	}
	if errors.Is(err, ErrCorrupt) {
		fmt.Fprintf(t.Out, "%s: %v: carrying the trial out again\n", name, err)
		return false, nil
	}
	commit, source := results.Revision()
	if want := revision(commit, source, o.Origin[programKey]); d.Plan != plan.Digest || d.Revision != want {
		return false, fmt.Errorf("%s: %w: it is of other settings, or of revision %s, not %s: use another job's name", name, ErrMismatch, d.Revision, want)
	}
	fmt.Fprintf(t.Out, "%s: collected already, by machine %s\n", name, d.Machine)
	return true, nil
}

// begun returns the trial's run when it was begun here, by this program at these settings,
// or nil. What was begun otherwise is removed.
func (t Task) begun(o runner.Options) (*results.Run, error) {
	dir := filepath.Join(o.Root, o.ID)
	if _, err := os.Stat(dir); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return nil, err
	}
	run, err := results.Open(dir)
	if err == nil && maps.Equal(run.Manifest().Settings, runner.Settings(o)) {
		fmt.Fprintf(t.Out, "%s: going on with it\n", o.ID)
		return run, nil
	}
	fmt.Fprintf(t.Out, "%s: it was begun otherwise: beginning anew\n", o.ID)
	return nil, os.RemoveAll(dir)
}

func (t Task) collect(ctx context.Context, o runner.Options, plan runner.Plan, record *results.Run) error {
	d, err := describe(t.Job, o.Trial, plan, record)
	if err != nil {
		return err
	}
	object, err := pack(d, record.Dir())
	if err != nil {
		return err
	}
	name := objectName(t.Job, o.Trial)
	if err := t.To.Put(ctx, name, object); err != nil {
		return fmt.Errorf("collecting run %s: %w: run the same again: it goes on from what it has", record.Manifest().ID, err)
	}
	fmt.Fprintf(t.Out, "%s: collected, %d bytes\n", name, len(object))
	return nil
}
