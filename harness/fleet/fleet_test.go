// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/analysis/regress"
	"zumastor.org/zumastor/engine/backup/storage"
	"zumastor.org/zumastor/engine/backup/storage/s3test"
	"zumastor.org/zumastor/harness/runner"
	"zumastor.org/zumastor/harness/spec"
	"zumastor.org/zumastor/results"
)

// host is a machine of a fleet that tests make up.
type host struct {
	cpu, name string
	ns        float64 // that an op takes there
}

var (
	slow  = host{"slow", "000000000001", 900}
	fast  = host{"fast", "000000000002", 100}
	fast2 = host{"fast", "000000000003", 110}
)

const commit = "0123456789012345678901234567890123456789"

// trial makes the object of trial i of n of E6 with 8 rounds, as the host carries it out.
func trial(t *testing.T, h host, job string, i, n int, change ...func(*Trial, *results.Run)) []byte {
	t.Helper()
	part := spec.Trial{Index: i, Count: n}
	taken, err := part.Take([]spec.Experiment{{Name: "E6", Rounds: 8}})
	require.NoError(t, err)
	run, err := results.Create(t.TempDir(), results.Manifest{Suite: "smoke", Start: time.Unix(int64(1000+i), 0).UTC(),
		Settings: map[string]string{"seed": "1", "trial": part.String(), machineKey: h.name, programKey: "p"}})
	require.NoError(t, err)
	env := results.Environment{CPU: h.cpu, Architecture: "amd64", Commit: commit, LoadStart: fmt.Sprint(i)}
	require.NoError(t, run.SetEnvironment(env))
	d := Trial{Format: 1, Job: job, Index: i, Count: n, Plan: "plan", Suite: "smoke", Revision: commit, Kind: env.Kind(), Machine: h.name, Files: map[string]File{}}
	for _, e := range taken {
		first, end := e.Span()
		d.Spans = append(d.Spans, Span{e.Name, first, end, e.Rounds})
		var samples []results.Sample
		for r := first; r < end; r++ {
			samples = append(samples, sample(r, results.Measured, h.ns+float64(r)))
			if r == 0 {
				samples = append(samples, sample(r, results.Modelled, 5))
			}
		}
		require.NoError(t, run.Append(samples...))
		require.NoError(t, run.Complete(e.Name))
	}
	require.NoError(t, run.Warn("noisy"))
	require.NoError(t, run.Warn(runner.TrialWarning(part)))
	for _, c := range change {
		c(&d, run)
	}
	object, err := pack(d, run.Dir())
	require.NoError(t, err)
	return object
}

func sample(round int, kind results.Kind, ns float64) results.Sample {
	s := results.Sample{Experiment: "E6", Kind: kind, Round: round, N: 10, Values: map[string]float64{results.NsPerOp: ns}, Config: results.Conf("op", "rewrite", "variant", "inline")}
	if kind == results.Measured {
		s.Latency = results.NewLatency()
		_ = s.Latency.RecordValue(int64(ns))
	}
	return s
}

func put(t *testing.T, s storage.Storage, job string, i, n int, object []byte) {
	t.Helper()
	require.NoError(t, s.Put(t.Context(), objectName(job, spec.Trial{Index: i, Count: n}), object))
}

func gather(t *testing.T, s ...storage.Storage) ([]Collected, error) {
	var places []Place
	for i, x := range s {
		places = append(places, Place{fmt.Sprintf("place %d", i), x})
	}
	return Gather(t.Context(), places, nil)
}

// mean is that of the measured samples of a run: what an average over machines would change.
func mean(set results.Set) (sum float64, rounds []int) {
	for s := range set.All() {
		sum += s.Values[results.NsPerOp]
		rounds = append(rounds, s.Round)
	}
	return sum / float64(set.Len()), rounds
}

func open(t *testing.T, parts ...string) *results.Run {
	t.Helper()
	run, err := results.Open(filepath.Join(parts...))
	require.NoError(t, err)
	return run
}

// TestMergeKeepsMachinesApart: a merge has a run for each machine, with the rounds and the
// values of that machine and no others; pooled, one for each kind.
func TestMergeKeepsMachinesApart(t *testing.T) {
	s := storage.NewMemory()
	hosts := []host{slow, fast, fast2, slow, fast, fast2, fast}
	for i, h := range hosts {
		put(t, s, "j", i, 8, trial(t, h, "j", i, 8)) // trial 7 is missing
	}
	all, err := gather(t, s)
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "m")
	summary, err := Merge(all, MergeOptions{Dir: dir})
	require.NoError(t, err)
	require.Equal(t, []Job{{Name: "j", Count: 8, Missing: []int{7}}}, summary.Jobs)
	require.Len(t, summary.Machines, 3)
	for _, h := range []host{slow, fast, fast2} {
		i := slices.IndexFunc(summary.Machines, func(m Machine) bool { return m.Machines[0] == h.name })
		m := summary.Machines[i]
		run := open(t, dir, m.Run)
		var want []int
		for r, x := range hosts {
			if x == h {
				want = append(want, r)
			}
		}
		_, rounds := mean(run.Measured())
		require.Equal(t, want, rounds)
		for x := range run.Measured().All() {
			require.Equal(t, h.ns+float64(x.Round), x.Values[results.NsPerOp])
			require.EqualValues(t, 1, x.Latency.TotalCount())
		}
		env, err := run.Environment()
		require.NoError(t, err)
		require.Equal(t, h.cpu, env.CPU)
		require.Empty(t, run.Manifest().Completed)
		require.Contains(t, strings.Join(run.Manifest().Warnings, "\n"), "E6: this is rounds "+m.Rounds["E6"])
		require.NotContains(t, run.Manifest().Settings, "trial")
		require.Contains(t, run.Manifest().Warnings[0], "noisy (trial j ")
		require.NotContains(t, strings.Join(run.Manifest().Warnings, "\n"), "a part of the rounds")
	}
	require.Equal(t, 1, open(t, dir, summary.Machines[slices.IndexFunc(summary.Machines, func(m Machine) bool { return m.Machines[0] == slow.name })].Run).Modelled().Len())
	require.Len(t, Runs(dir), 3)
	require.NoFileExists(t, filepath.Join(dir, results.Latest))

	pooled := filepath.Join(t.TempDir(), "p")
	summary, err = Merge(all, MergeOptions{Dir: pooled, Pool: true})
	require.NoError(t, err)
	require.Len(t, summary.Machines, 2, "one for each kind, never one for all")
	for _, m := range summary.Machines {
		run := open(t, pooled, m.Run)
		env, err := run.Environment()
		require.NoError(t, err)
		for x := range run.Measured().All() {
			require.Equal(t, hosts[x.Round].cpu, env.CPU)
			require.Equal(t, hosts[x.Round].ns+float64(x.Round), x.Values[results.NsPerOp])
		}
		if env.CPU == "fast" {
			require.Len(t, m.Machines, 2)
			require.Contains(t, strings.Join(run.Manifest().Warnings, "\n"), "pooled of 2 machines")
			require.Equal(t, "1-2 4-6 of 8", m.Rounds["E6"])
		}
	}
	_, err = Merge(all, MergeOptions{Dir: pooled})
	require.ErrorContains(t, err, "is there already")
}

// TestComparisonOfMergedRunsIsOfTheirMachine: what compares runs sees the values of one kind.
func TestComparisonOfMergedRunsIsOfTheirMachine(t *testing.T) {
	s := storage.NewMemory()
	for i := range 8 {
		put(t, s, "a", i, 8, trial(t, fast, "a", i, 8))
		put(t, s, "b", i, 8, trial(t, slow, "b", i, 8))
	}
	all, err := gather(t, s)
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "m")
	summary, err := Merge(all, MergeOptions{Dir: dir, Pool: true})
	require.NoError(t, err)
	runs := map[string]*results.Run{}
	for _, m := range summary.Machines {
		runs[m.Machines[0]] = open(t, dir, m.Run)
		require.Equal(t, []string{"E6"}, runs[m.Machines[0]].Manifest().Completed)
	}
	report, err := regress.Compare(runs[fast.name].Measured(), runs[slow.name].Measured(), results.NsPerOp, regress.Defaults())
	require.NoError(t, err)
	require.Len(t, report.Rows, 1)
	require.Equal(t, []int{8, 8}, []int{report.Rows[0].Old.N, report.Rows[0].New.N})
	require.InDelta(t, 103.5, report.Rows[0].Old.Center, 1e-9)
	require.InDelta(t, 903.5, report.Rows[0].New.Center, 1e-9)
	one, err := runs[fast.name].Environment()
	require.NoError(t, err)
	other, err := runs[slow.name].Environment()
	require.NoError(t, err)
	require.NotEmpty(t, one.Differences(other), "zbench compare refuses them without --across")
}

// TestMergeRefuses: what is no part of the same whole, or is there twice with different
// content, is refused by name.
func TestMergeRefuses(t *testing.T) {
	set := func(f func(*Trial)) func(*Trial, *results.Run) { return func(d *Trial, _ *results.Run) { f(d) } }
	other := func(t *testing.T, change func(*Trial, *results.Run)) error {
		s := storage.NewMemory()
		put(t, s, "j", 0, 4, trial(t, fast, "j", 0, 4))
		put(t, s, "j", 1, 4, trial(t, fast, "j", 1, 4, change))
		_, err := gather(t, s)
		return err
	}
	require.NoError(t, other(t, func(*Trial, *results.Run) {}))
	err := other(t, set(func(d *Trial) { d.Plan = "else" }))
	require.ErrorIs(t, err, ErrMismatch)
	require.ErrorContains(t, err, "place 0: j/trial-0000-of-0004.tar.zst has plan")
	require.ErrorIs(t, other(t, func(d *Trial, r *results.Run) {
		env, err := r.Environment()
		require.NoError(t, err)
		env.Commit, d.Revision = "9", "9"
		require.NoError(t, r.SetEnvironment(env))
	}), ErrMismatch)
	for what, change := range map[string]func(*Trial, *results.Run){
		"a revision that its run has not":      set(func(d *Trial) { d.Revision = "9" }),
		"a machine that its run has not":       set(func(d *Trial) { d.Machine = fast2.name }),
		"a machine that is a path":             set(func(d *Trial) { d.Machine = "../../../etc" }),
		"another number":                       set(func(d *Trial) { d.Index = 2 }),
		"rounds that are not its own":          func(_ *Trial, r *results.Run) { require.NoError(t, r.Append(sample(7, results.Measured, 1))) },
		"rounds beyond all":                    set(func(d *Trial) { d.Spans = append(d.Spans, Span{"E7", 0, 1 << 60, 1 << 60}) }),
		"rounds of less than none":             set(func(d *Trial) { d.Spans[0].First = -1 }),
		"another format":                       set(func(d *Trial) { d.Format = 2 }),
		"a file that is not of a run's record": set(func(d *Trial) { d.Files["x"] = File{} }),
		"accounts of what it has no rounds of": func(_ *Trial, r *results.Run) {
			require.NoError(t, r.AddAccounts("E7", results.Account{Experiment: "E7", Kind: results.Measured}))
		},
	} {
		require.ErrorIs(t, other(t, change), ErrCorrupt, what)
	}
	s := storage.NewMemory()
	_, err = gather(t, s)
	require.ErrorContains(t, err, "there are no trials")
}

func TestDuplicates(t *testing.T) {
	one, two := storage.NewMemory(), storage.NewMemory()
	object := trial(t, fast, "j", 0, 2)
	put(t, one, "j", 0, 2, object)
	put(t, two, "j", 0, 2, object)
	put(t, two, "j", 1, 2, trial(t, fast, "j", 1, 2))
	all, err := gather(t, one, two)
	require.NoError(t, err, "copies are one")
	require.Len(t, all, 2)
	require.Len(t, all[0].From, 2)
	put(t, two, "j", 0, 2, trial(t, fast2, "j", 0, 2))
	_, err = gather(t, one, two)
	require.ErrorIs(t, err, ErrMismatch, "the same trial by another machine")

	s := storage.NewMemory()
	put(t, s, "j", 0, 2, object)
	put(t, s, "k", 0, 2, trial(t, fast2, "k", 0, 2))
	all, err = gather(t, s)
	require.NoError(t, err)
	_, err = Merge(all, MergeOptions{Dir: filepath.Join(t.TempDir(), "m")})
	require.NoError(t, err, "two machines may have the same rounds")
	root := t.TempDir()
	_, err = Merge(all, MergeOptions{Dir: filepath.Join(root, "m"), Pool: true})
	require.ErrorIs(t, err, ErrMismatch, "pooled they may not")
	left, err := os.ReadDir(root)
	require.NoError(t, err)
	require.Empty(t, left, "nothing is left of a merge that failed")
	put(t, s, "k", 0, 2, trial(t, fast, "k", 0, 2))
	all, err = gather(t, s)
	require.NoError(t, err)
	_, err = Merge(all, MergeOptions{Dir: filepath.Join(root, "m")})
	require.ErrorContains(t, err, "round 0 of E6 is in place 0: j/trial-0000-of-0002.tar.zst and in place 0: k/")
	only, err := Gather(t.Context(), []Place{{"p", s}}, []string{"k"})
	require.NoError(t, err)
	require.Len(t, only, 1)
}

// TestDamage: a trial with any byte changed, or cut anywhere, is refused or is the same.
func TestDamage(t *testing.T) {
	object := trial(t, fast, "j", 0, 8)
	whole, files, err := unpack(object)
	require.NoError(t, err)
	require.Equal(t, []string{"environment.json", "histograms.json.zst", "run.json", "samples.txt"}, slices.Sorted(maps.Keys(files)))
	for i := 0; i < len(object); i += 3 {
		bent := bytes.Clone(object)
		bent[i] ^= 0x10
		if d, _, err := unpack(bent); err == nil {
			require.Equal(t, whole, d)
		} else {
			require.ErrorIs(t, err, ErrCorrupt)
		}
		_, _, err := unpack(object[:i])
		require.ErrorIs(t, err, ErrCorrupt)
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("\x28\xb5\x2f\xfd\x04\x00\x01\x00\x00\x99\xe9\xd8\x51"))
	f.Fuzz(func(t *testing.T, object []byte) {
		if _, _, err := unpack(object); err != nil {
			require.ErrorIs(t, err, ErrCorrupt)
		}
	})
}

// TestS3 is the same through a bucket: collected twice, merged once.
func TestS3(t *testing.T) {
	server := s3test.Start(t)
	place := "s3:http://" + server.Address + "/" + s3test.Bucket + "/lab"
	s, err := Open(place)
	require.NoError(t, err)
	for i, h := range []host{fast, slow} {
		put(t, s, "j", i, 2, trial(t, h, "j", i, 2))
	}
	all, err := Gather(context.Background(), []Place{{place, s}}, nil)
	require.NoError(t, err)
	require.Len(t, all, 2)
	require.Equal(t, place+": j/trial-0001-of-0002.tar.zst", all[1].From[0])
	summary, err := Merge(all, MergeOptions{Dir: filepath.Join(t.TempDir(), "m")})
	require.NoError(t, err)
	require.Len(t, summary.Machines, 2)
}

func TestOpenWrong(t *testing.T) {
	_, err := Open(filepath.Join(t.TempDir(), "none"))
	require.ErrorContains(t, err, "make it before")
	_, err = Open("s3:nonsense")
	require.ErrorContains(t, err, "is not the place of a bucket")
}
