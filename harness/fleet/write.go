// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"zumastor.org/zumastor/harness/runner"
	"zumastor.org/zumastor/harness/spec"
	"zumastor.org/zumastor/results"
)

// SummaryFile is the file of a merge that says what is in it, beside the runs.
const SummaryFile = "fleet.json"

// Summary is fleet.json.
type Summary struct {
	Format   int       `json:"format"`
	Suite    string    `json:"suite"`
	Revision string    `json:"revision"`
	Plan     string    `json:"plan"`
	Pooled   bool      `json:"pooled"`
	Jobs     []Job     `json:"jobs"`
	Machines []Machine `json:"machines"`
}

// Job is what was found of a job.
type Job struct {
	Name    string `json:"name"`
	Count   int    `json:"of"`
	Missing []int  `json:"missing,omitempty"` // trials
}

// Machine is a run of a merge: what one machine gave, or machines of one kind.
type Machine struct {
	Run         string            `json:"run"` // the name of its directory
	Kind        string            `json:"kind"`
	Machines    []string          `json:"machines"`
	Description string            `json:"description"`
	Rounds      map[string]string `json:"rounds"` // by experiment, such as "0-3 7 of 15"
	Trials      []Source          `json:"trials"`
}

// Source is a trial that went into a run.
type Source struct {
	Job     string `json:"job"`
	Index   int    `json:"trial"`
	Machine string `json:"machine"`
	SHA256  string `json:"sha256"`
}

// MergeOptions say how trials are merged.
type MergeOptions struct {
	Dir string // is made; must not exist
	// Pool makes one run of all machines of a kind in place of one for each machine.
	Pool bool
}

// Merge writes a run for each machine, and a summary, into a new directory, which is there
// as a whole or not at all. Rounds that a machine has twice are an error wrapping
// [ErrMismatch]. Trials that are missing are listed, and are no error.
func Merge(all []Collected, o MergeOptions) (s Summary, err error) {
	if err := together(all); err != nil {
		return s, err
	}
	if _, err := os.Lstat(o.Dir); !errors.Is(err, fs.ErrNotExist) {
		return s, fmt.Errorf("%s is there already: merge into another one", o.Dir)
	}
	if err := os.MkdirAll(filepath.Dir(o.Dir), 0o755); err != nil {
		return s, err
	}
	temp, err := os.MkdirTemp(filepath.Dir(o.Dir), ".merge-*.tmp")
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	s = Summary{Format: formatVersion, Suite: all[0].Suite, Revision: all[0].Revision, Plan: all[0].Plan, Pooled: o.Pool, Jobs: jobsOf(all)}
	groups := map[string][]Collected{}
	for _, c := range all {
		name := runName(c, o.Pool)
		groups[name] = append(groups[name], c)
	}
	order := experimentOrder(all)
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		m, err := writeMachine(temp, name, groups[name], order)
		if err != nil {
			return s, err
		}
		s.Machines = append(s.Machines, m)
	}
	return s, finish(temp, o.Dir, s)
}

// finish adds the summary, and gives the directory its name.
func finish(temp, dir string, s Summary) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	err = errors.Join(
		os.WriteFile(filepath.Join(temp, SummaryFile), append(text, '\n'), 0o644),
		os.Remove(filepath.Join(temp, results.Latest)), // no machine is the latest
		os.Chmod(temp, 0o755))
	if err != nil {
		return err
	}
	return os.Rename(temp, dir)
}

// runName is the name of the run that a trial goes into: nothing of another kind of machine
// has it.
func runName(c Collected, pool bool) string {
	if pool {
		return c.env.Architecture + "-" + c.Kind
	}
	return c.env.Architecture + "-" + c.Kind + "-" + c.Machine
}

func jobsOf(all []Collected) []Job {
	var jobs []Job
	for i, c := range all {
		if i == 0 || all[i-1].Job != c.Job || all[i-1].Count != c.Count {
			jobs = append(jobs, Job{Name: c.Job, Count: c.Count})
			for n := range c.Count {
				jobs[len(jobs)-1].Missing = append(jobs[len(jobs)-1].Missing, n)
			}
		}
		j := &jobs[len(jobs)-1]
		j.Missing = slices.DeleteFunc(j.Missing, func(n int) bool { return n == c.Index })
	}
	return jobs
}

// experimentOrder numbers the experiments as the plan has them.
func experimentOrder(all []Collected) map[string]int {
	order := map[string]int{}
	for _, c := range all {
		for _, p := range c.Spans {
			if _, known := order[p.Experiment]; !known {
				order[p.Experiment] = len(order)
			}
		}
	}
	return order
}

// writeMachine makes the run of a group of trials of one kind of machine.
func writeMachine(root, name string, group []Collected, order map[string]int) (Machine, error) {
	m := Machine{Run: name, Kind: group[0].Kind, Description: describeMachine(group[0].env), Rounds: map[string]string{}}
	rounds, total, err := roundsOf(group)
	if err != nil {
		return m, err
	}
	manifest := results.Manifest{ID: name, Merged: true, Suite: group[0].Suite, Settings: group[0].run.Manifest().Settings, Start: group[0].run.Manifest().Start}
	var samples []results.Sample
	for _, c := range group {
		t := c.run.Manifest()
		if t.Start.Before(manifest.Start) {
			manifest.Start = t.Start
		}
		if t.End.After(manifest.End) {
			manifest.End = t.End
		}
		samples = slices.AppendSeq(slices.AppendSeq(samples, c.run.Measured().All()), c.run.Modelled().All())
		m.Trials = append(m.Trials, Source{c.Job, c.Index, c.Machine, c.SHA256})
		if !slices.Contains(m.Machines, c.Machine) {
			m.Machines = append(m.Machines, c.Machine)
		}
	}
	slices.SortStableFunc(samples, func(a, b results.Sample) int {
		return cmp.Or(cmp.Compare(order[a.Experiment], order[b.Experiment]), cmp.Compare(a.Round, b.Round))
	})
	var complete []string
	manifest.Warnings = warnings(group, len(m.Machines))
	for _, e := range slices.SortedFunc(maps.Keys(rounds), func(a, b string) int { return cmp.Compare(order[a], order[b]) }) {
		m.Rounds[e] = fmt.Sprintf("%s of %d", ranges(rounds[e]), total[e])
		if len(rounds[e]) == total[e] {
			complete = append(complete, e)
		} else {
			manifest.Warnings = append(manifest.Warnings, fmt.Sprintf("%s: this is rounds %s", e, m.Rounds[e]))
		}
	}
	return m, writeRun(root, manifest, group, samples, complete)
}

func writeRun(root string, manifest results.Manifest, group []Collected, samples []results.Sample, complete []string) error {
	manifest.Settings = maps.Clone(manifest.Settings)
	for _, key := range []string{"trial", machineKey, programKey} {
		delete(manifest.Settings, key)
	}
	run, err := results.Create(root, manifest)
	if err != nil {
		return err
	}
	if len(samples) > 0 {
		err = run.Append(samples...)
	}
	err = errors.Join(err, run.SetEnvironment(environmentOf(group)))
	for _, e := range complete {
		err = errors.Join(err, run.Complete(e))
	}
	for _, c := range group {
		for _, e := range slices.Sorted(maps.Keys(c.accounts)) {
			err = errors.Join(err, run.AddAccounts(e, c.accounts[e]...))
		}
		for file, content := range c.probes {
			err = errors.Join(err, run.WriteFile(fmt.Sprintf("trials/%s-%04d-of-%04d/%s", c.Job, c.Index, c.Count, file), content))
		}
	}
	return err
}

// roundsOf returns the rounds of each experiment that the trials have, in order, and how
// many there are of each. A round that is there twice is an error.
func roundsOf(group []Collected) (rounds map[string][]int, total map[string]int, err error) {
	rounds, total = map[string][]int{}, map[string]int{}
	type round struct {
		experiment string
		n          int
	}
	from := map[round]Collected{}
	for _, c := range group {
		for _, p := range c.Spans {
			total[p.Experiment] = p.Rounds
			for n := p.First; n < p.End; n++ {
				if before, twice := from[round{p.Experiment, n}]; twice {
					return nil, nil, fmt.Errorf("%w: round %d of %s is in %s and in %s: name one job with --job, or merge without --pool",
						ErrMismatch, n, p.Experiment, before.From[0], c.From[0])
				}
				from[round{p.Experiment, n}] = c
				rounds[p.Experiment] = append(rounds[p.Experiment], n)
			}
		}
	}
	for _, r := range rounds {
		slices.Sort(r)
	}
	return rounds, total, nil
}

// ranges writes ascending numbers as "0-3 7".
func ranges(ns []int) string {
	var out []string
	for i := 0; i < len(ns); {
		j := i
		for j+1 < len(ns) && ns[j+1] == ns[j]+1 {
			j++
		}
		if i == j {
			out = append(out, fmt.Sprint(ns[i]))
		} else {
			out = append(out, fmt.Sprintf("%d-%d", ns[i], ns[j]))
		}
		i = j + 1
	}
	return strings.Join(out, " ")
}

// describeMachine says in a few words what kind of machine it is.
func describeMachine(e results.Environment) string {
	return fmt.Sprintf("%s, %d CPUs, %.1f GiB, %s, %s", cmp.Or(e.CPU, e.Architecture), e.CPUs, float64(e.MemoryBytes)/(1<<30), e.Kernel, e.Storage.FileSystem)
}

// environmentOf is that of the trials, which are of one kind of machine: loads of the first
// and last, and the worst that was found of noise.
func environmentOf(group []Collected) results.Environment {
	env := group[0].env
	env.LoadEnd = group[len(group)-1].env.LoadEnd
	for _, c := range group {
		env.StealPercent = max(env.StealPercent, c.env.StealPercent)
		if n := c.env.Noise; n != nil && (env.Noise == nil || n.Spread > env.Noise.Spread) {
			env.Noise = n
		}
	}
	return env
}

// warnings are those of the trials, each once, with the trials that it is of.
func warnings(group []Collected, machines int) []string {
	var order, out []string
	of := map[string][]string{}
	for _, c := range group {
		for _, w := range c.run.Manifest().Warnings {
			if w == runner.TrialWarning(spec.Trial{Index: c.Index, Count: c.Count}) {
				continue // it is merged
			}
			if of[w] == nil {
				order = append(order, w)
			}
			of[w] = append(of[w], fmt.Sprintf("%s %d/%d", c.Job, c.Index, c.Count))
		}
	}
	for _, w := range order {
		out = append(out, fmt.Sprintf("%s (trial %s)", w, strings.Join(of[w], ", ")))
	}
	if machines > 1 {
		out = append(out, fmt.Sprintf("pooled of %d machines of one kind: intervals take rounds for independent, those of one machine may be alike", machines))
	}
	return out
}

// Runs returns the names of the runs of a merge; none when dir is no merge.
func Runs(dir string) []string {
	text, err := os.ReadFile(filepath.Join(dir, SummaryFile))
	if err != nil {
		return nil
	}
	var s Summary
	if json.Unmarshal(text, &s) != nil {
		return nil
	}
	var names []string
	for _, m := range s.Machines {
		names = append(names, m.Run)
	}
	return names
}
