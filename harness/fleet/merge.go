// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"zumastor.org/zumastor/engine/backup/storage"
	"zumastor.org/zumastor/harness/spec"
	"zumastor.org/zumastor/results"
)

// Collected is a trial that was read back and found to be whole.
type Collected struct {
	Trial
	SHA256 string       // of the object
	From   []string     // where it is
	run    *results.Run // in memory: its directory is gone
	env    results.Environment
	probes map[string][]byte
	// accounts are those of all experiments.
	accounts map[string][]results.Account
}

// Place is a storage and what the user calls it.
type Place struct {
	Name    string
	Storage storage.Storage
}

// Gather reads the trials of the given jobs, of all jobs for none, at the places. A trial
// that is at several places is one if all are equal byte by byte, else an error wrapping
// [ErrMismatch]; so are trials that are not parts of one plan, revision and suite. The
// result is ordered by job and number.
func Gather(ctx context.Context, from []Place, jobs []string) ([]Collected, error) {
	found := map[string]*Collected{}
	for _, place := range from {
		list, err := place.Storage.List(ctx, "")
		if err != nil {
			return nil, fmt.Errorf("listing %s: %w", place.Name, err)
		}
		for _, o := range list {
			job, t, ok := parseObjectName(o.Name)
			if !ok || len(jobs) > 0 && !slices.Contains(jobs, job) {
				continue
			}
			at := place.Name + ": " + o.Name
			c, err := fetch(ctx, place.Storage, o.Name, job, t)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", at, err)
			}
			if before := found[o.Name]; before != nil && before.SHA256 != c.SHA256 {
				return nil, fmt.Errorf("%w: %s and %s differ: a trial is there once", ErrMismatch, before.From[0], at)
			} else if before != nil {
				before.From = append(before.From, at)
				continue
			}
			c.From = []string{at}
			found[o.Name] = &c
		}
	}
	var all []Collected
	for _, c := range found {
		all = append(all, *c)
	}
	slices.SortFunc(all, func(a, b Collected) int {
		return cmp.Or(cmp.Compare(a.Job, b.Job), cmp.Compare(a.Count, b.Count), cmp.Compare(a.Index, b.Index))
	})
	return all, together(all)
}

// fetch reads one trial.
func fetch(ctx context.Context, s storage.Storage, name, job string, t spec.Trial) (c Collected, err error) {
	object, err := readAll(ctx, s, name)
	if err != nil {
		return c, err
	}
	d, files, err := unpack(object)
	if err != nil {
		return c, err
	}
	dir, err := os.MkdirTemp("", "zbench-merge-")
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	c = Collected{Trial: d, SHA256: sum(object), probes: map[string][]byte{}, accounts: map[string][]results.Account{}}
	for file, content := range files {
		if err := os.WriteFile(filepath.Join(dir, file), content, 0o600); err != nil {
			return c, err
		}
		if results.IsProbesFile(file) {
			c.probes[file] = content
		}
	}
	if c.run, err = results.Open(dir); err != nil {
		return c, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	for file := range files {
		if e, ok := results.IsAccountsFile(file); ok {
			if c.accounts[e], err = c.run.Accounts(e); err != nil {
				return c, fmt.Errorf("%w: %w", ErrCorrupt, err)
			}
		}
	}
	if c.env, err = c.run.Environment(); err != nil {
		return c, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return c, d.check(job, t, c.run, c.env)
}

// together returns an error unless the trials are parts of one whole.
func together(all []Collected) error {
	if len(all) == 0 {
		return errors.New("there are no trials: zbench run --collect puts them there")
	}
	first := all[0]
	for _, c := range all[1:] {
		for _, d := range []struct{ what, one, other string }{
			{"suite", first.Suite, c.Suite}, {"revision", first.Revision, c.Revision}, {"plan (experiments, rounds, settings, seed)", first.Plan, c.Plan},
		} {
			if d.one != d.other {
				return fmt.Errorf("%w: %s has %s %s, %s has %s: name jobs with --job, or merge them apart",
					ErrMismatch, first.From[0], d.what, d.one, c.From[0], d.other)
			}
		}
	}
	return nil
}
