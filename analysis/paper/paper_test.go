// SPDX-License-Identifier: Apache-2.0

package paper_test

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/analysis/goals"
	"zumastor.org/zumastor/analysis/paper"
	"zumastor.org/zumastor/results"
)

var update = flag.Bool("update", false, "write the golden files anew")

// run records reads of the origin (E4), and untars on a disk model (E1).
func run(t *testing.T, suite string, slower float64) *results.Run {
	record, err := results.Create(t.TempDir(), results.Manifest{ID: "made-" + suite, Suite: suite, Start: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)})
	require.NoError(t, err)
	require.NoError(t, record.SetEnvironment(results.Environment{
		CPU: "a CPU", CPUs: 2, Kernel: "Linux 6.12", Commit: "0123456789abcdef", Noise: &results.Noise{Spread: 0.3, Limit: 0.1, Pieces: 200},
	}))
	var all []results.Sample
	add := func(kind results.Kind, experiment string, round int, ns float64, conf ...string) {
		s := results.Sample{Experiment: experiment, Kind: kind, Round: round, N: 10, Values: map[string]float64{results.NsPerOp: ns}, Config: results.Conf(conf...)}
		s.Latency = results.NewLatency()
		require.NoError(t, s.Latency.RecordValue(int64(ns)))
		all = append(all, s)
	}
	for round := range 6 {
		add(results.Measured, "E4", round, 1000+float64(round), "op", "read", "variant", "raw", "qd", "32")
		add(results.Measured, "E4", round, 1010*slower, "op", "read", "variant", "inline", "qd", "32", "snapshots", "64")
	}
	for _, n := range []string{"1", "8"} {
		add(results.Modelled, "E1", 0, 1e6, "variant", "raw", "snapshots", n, "model", "hdd")
		add(results.Modelled, "E1", 0, 3e6, "variant", "inline", "chunk", "16384", "snapshots", n, "model", "hdd")
	}
	require.NoError(t, record.Append(all...))
	require.NoError(t, record.Complete("E1"))
	require.NoError(t, record.Complete("E4"))
	return record
}

func book(t *testing.T, slower float64) *paper.Book {
	dir := t.TempDir()
	taken, err := paper.Record(run(t, "quick", slower), dir)
	require.NoError(t, err)
	require.Equal(t, []string{"E1", "E4"}, taken)
	b, err := paper.Load(dir)
	require.NoError(t, err)
	require.Equal(t, taken, b.Experiments())
	return b
}

const source = `# A paper

Reads are <!-- = goal origin-read-vs-raw --><!-- --> of raw (<!-- = goal origin-read-vs-raw wanted --><!-- -->: <!-- = goal origin-read-vs-raw status --><!-- -->),
an untar costs <!-- = E1 cost variant=inline snapshots=8 model=hdd / variant=raw --><!-- -->, a check <!-- = E9 ns/op op=check --><!-- -->.
Of <!-- = hypotheses all --><!-- --> claims <!-- = hypotheses refuted --><!-- --> are refuted; H1 is <!-- = hypothesis H1 verdict --><!-- -->.
Those of <!-- = hypotheses from manual --><!-- --> are the manual's.

<!-- zbench: figure e4-read-qd32-measured -->
<!-- end -->

<!-- zbench: table e1-nsnaps-chunk16384-modelhdd-modelled -->
<!-- end -->

<!-- zbench: figure e9-times-measured -->
<!-- end -->

<!-- zbench: goals measured E4 -->
<!-- end -->

<!-- zbench: provenance -->
<!-- end -->

<!-- source: a mailing list -->
Somebody measured 308 MB/s.
<!-- end -->
`

func golden(t *testing.T, name string, got []byte) {
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(path, got, 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got), "go test ./analysis/paper -update writes it anew")
}

func TestRender(t *testing.T) {
	b := book(t, 1)
	ed := b.Render([]byte(source), "docs/paper")
	require.Empty(t, ed.Problems)
	golden(t, "paper.md", ed.Text)
	golden(t, "e4-read-qd32-measured.svg", ed.Figures["e4-read-qd32-measured.svg"])
	require.Len(t, ed.Figures, 1)

	again := b.Render(ed.Text, "docs/paper")
	require.Equal(t, string(ed.Text), string(again.Text), "what is rendered renders to itself")
	require.Empty(t, again.Differences(ed.Figures))
}

func TestDifferences(t *testing.T) {
	ed := book(t, 1).Render([]byte(source), "docs/paper")
	problems := func(e paper.Edition, have map[string][]byte) string {
		var lines []string
		for _, p := range e.Differences(have) {
			lines = append(lines, p.String())
		}
		return strings.Join(lines, "\n")
	}

	touched := strings.Replace(string(ed.Text), "3 x<!-- -->", "2 x<!-- -->", 1)
	require.NotEqual(t, string(ed.Text), touched)
	require.Equal(t, `line 4: E1 cost variant=inline snapshots=8 model=hdd / variant=raw: the paper says "2 x", its run "3 x"`,
		problems(book(t, 1).Render([]byte(touched), "docs/paper"), ed.Figures))

	other := problems(book(t, 1.2).Render(ed.Text, "docs/paper"), ed.Figures)
	require.Contains(t, other, "goal origin-read-vs-raw: the paper says")
	require.Contains(t, other, `the block "goals measured E4" is not what its run gives`)
	require.Contains(t, other, "figure e4-read-qd32-measured.svg is not what its run gives")

	same := book(t, 1).Render(ed.Text, "docs/paper")
	require.Equal(t, "figure e4-read-qd32-measured.svg is not there\nfigure old.svg is not in the paper", problems(same, map[string][]byte{"old.svg": nil}))
}

func TestWhatAMarkMayNotSay(t *testing.T) {
	b := book(t, 1)
	for text, want := range map[string]string{
		"a <!-- = goal nothing -->1 x<!-- -->":                                        `line 1: goal nothing: there is no goal "nothing": zbench goals lists them`,
		"a <!-- = goal origin-read-vs-raw colour -->1 x<!-- -->":                      `"colour" is no part of it`,
		"of <!-- = hypotheses from dice -->H1<!-- -->":                                `no hypothesis has its criterion from "dice": values known`,
		"a <!-- = hypothesis H99 -->1 x<!-- -->":                                      `there is no hypothesis "H99"`,
		"a <!-- = E99 cost variant=x / variant=raw -->1 x<!-- -->":                    `there is no experiment "E99": zbench list names them`,
		"a <!-- = E4 cost variant=inline -->1 x<!-- -->":                              "want a baseline behind a /",
		"a <!-- = E4 ns/op variant=nvram -->1 x<!-- -->":                              "the run has no measured sample of these settings and unit",
		"a <!-- = E4 ns/op qd=32 -->1 x<!-- -->":                                      "2 settings fit, E4/op=read/variant=raw/qd=32 and E4/op=read/variant=inline/qd=32/snapshots=64 for two",
		"a <!-- = E4 ns/op inline -->1 x<!-- -->":                                     `"inline" is no key=value`,
		"a <!-- = goals good -->1<!-- -->":                                            `nothing is "good"`,
		"<!-- = goal origin-read-vs-raw -->1 x<!-- -->":                               "begins the line",
		"<!-- zbench: figure e4-nothing-measured -->\n<!-- end -->":                   "no figure of this name",
		"<!-- zbench: figure e4-read-qd1-measured -->\n<!-- end -->":                  "the run of E4 has no samples for this figure",
		"<!-- zbench: nonsense -->\n<!-- end -->":                                     `there is no block "nonsense"`,
		"<!-- zbench: goals E99 -->\n<!-- end -->":                                    `there is no experiment "E99"`,
		"<!-- zbench: provenance -->\nand on":                                         "has no <!-- end -->",
		"<!-- end -->":                                                                "an <!-- end --> without its begin",
		"a <!-- =goal origin-read-vs-raw -->1 x<!-- -->":                              "a mark that is not one",
		"It is 5 % faster.":                                                           `"5 %" looks like a result`,
		"It took 1.5 ms, not <!-- = goal origin-read-vs-raw --><!-- -->.":             `"1.5 ms" looks like a result`,
		"It is 3.2x as slow, 308 MB/s, or 12,000 IOPS.":                               `"3.2x" looks like a result`,
		"<!-- source:  -->\nthey say 308 MB/s\n<!-- end -->":                          `"308 MB/s" looks like a result`,
		"On x86 with 64 KiB chunks, 1,000 snapshots, 2 CPUs and 6.12 it is the same.": "",
	} {
		var got []string
		for _, p := range b.Render([]byte(text), "docs/paper").Problems {
			got = append(got, p.String())
		}
		if want == "" {
			require.Empty(t, got, text)
			continue
		}
		require.Contains(t, strings.Join(got, "\n"), want, text)
	}
}

func TestRecordRefuses(t *testing.T) {
	_, err := paper.Record(run(t, "smoke", 1), t.TempDir())
	require.ErrorContains(t, err, "too short for the paper")
	unfinished, err := results.Create(t.TempDir(), results.Manifest{ID: "none", Suite: "quick"})
	require.NoError(t, err)
	_, err = paper.Record(unfinished, t.TempDir())
	require.ErrorContains(t, err, "completed no experiment")
	part, err := results.Create(t.TempDir(), results.Manifest{ID: "part", Suite: "quick", Settings: map[string]string{results.TrialSetting: "1/2"}})
	require.NoError(t, err)
	require.NoError(t, part.Complete("E4"))
	_, err = paper.Record(part, t.TempDir())
	require.ErrorContains(t, err, "run part is no run for the paper: only part 1/2 of a run, which zbench merge puts together")
}

// TestARunReplacesItsExperimentsOnly shows that experiments may be of several runs.
func TestARunReplacesItsExperimentsOnly(t *testing.T) {
	dir := t.TempDir()
	_, err := paper.Record(run(t, "quick", 1), dir)
	require.NoError(t, err)
	require.NoError(t, run(t, "full", 1.5).Excerpt(filepath.Join(dir, "E4"), "E4"))
	b, err := paper.Load(dir)
	require.NoError(t, err)
	text := string(b.Render([]byte("<!-- zbench: provenance -->\n<!-- end -->"), "f").Text)
	require.Regexp(t, `E1 +\| made-quick`, text)
	require.Regexp(t, `E4 +\| made-full`, text)
	require.NoFileExists(t, filepath.Join(dir, "E4", "histograms.json.zst"), "the record is compact")
}

func TestProvenanceSaysWhoseRevision(t *testing.T) {
	dir := t.TempDir()
	made := run(t, "quick", 1)
	env, err := made.Environment()
	require.NoError(t, err)
	env.RevisionSource = results.FromWorktree
	require.NoError(t, made.SetEnvironment(env))
	_, err = paper.Record(made, dir)
	require.NoError(t, err)
	b, err := paper.Load(dir)
	require.NoError(t, err)
	text := string(b.Render([]byte("<!-- zbench: provenance -->\n<!-- end -->"), "f").Text)
	require.Contains(t, text, "0123456789ab (of the working directory)")
}

// requireBasis checks that a hypothesis says what its criterion is from, and that a goal it
// names has that criterion.
func requireBasis(t *testing.T, h goals.Hypothesis) {
	t.Helper()
	name, ofGoal := strings.CutPrefix(string(h.Basis), goals.BasisGoal)
	if !ofGoal {
		require.Contains(t, []goals.Basis{goals.BasisSlide, goals.BasisManual, goals.BasisValues}, h.Basis, h.Name)
		return
	}
	list := goals.All()
	i := slices.IndexFunc(list, func(g goals.Goal) bool { return g.Name == name })
	require.GreaterOrEqual(t, i, 0, "%s: there is no goal %q", h.Name, name)
	if list[i].Threshold != h.Threshold {
		require.InDelta(t, 1/list[i].Threshold, h.Threshold, 0.005, h.Name)
	}
}

// TestHypothesesAreWellFormed: names are unique, each says what it tests, and an untested
// one is told so.
func TestHypothesesAreWellFormed(t *testing.T) {
	seen := map[string]bool{}
	for _, h := range goals.Hypotheses() {
		require.False(t, seen[h.Name], h.Name)
		seen[h.Name] = true
		require.Contains(t, []int{5, 6}, h.Slide)
		require.NotEmpty(t, h.Claim)
		require.NotEmpty(t, h.What)
		require.NotEmpty(t, h.Figure)
		requireBasis(t, h)
		require.NotEmpty(t, h.Query.Where["experiment"])
	}
	for _, f := range goals.Test(goals.Hypotheses(), results.Set{}, results.Set{}) {
		require.Equal(t, goals.Untested, f.Verdict, f.Name)
	}
}
