// SPDX-License-Identifier: Apache-2.0

package where

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/analysis/table"
	"zumastor.org/zumastor/results"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// golden compares what was made with the file of a name.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewrite {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, got, 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "make it with -rewrite")
	require.Equal(t, string(want), string(got), "%s: if it is meant to change, write it anew with -rewrite", path)
}

// spread is a histogram of n times around a mean.
func spread(n, mean int64) *results.Times {
	h := results.NewTimes()
	for i := range n {
		h.Add(mean/2+mean*i/max(1, n-1), 1)
	}
	return h
}

// class invents a class of n groups, each of so many requests; times are of a group.
func class(name string, n, each int64, stages ...any) results.Class {
	c := results.Class{Name: name, Looked: n, Groups: n, Requests: n * each}
	for i := 0; i < len(stages); i += 2 {
		ns := int64(stages[i+1].(int))
		stage := stages[i].(string)
		c.Nanoseconds += n * ns
		c.Stages = append(c.Stages, results.Stage{Name: stage, Waits: stage == "queue" || stage == "wake", Nanoseconds: n * ns, Times: spread(n, ns)})
	}
	c.Times = spread(n, c.Nanoseconds/n)
	return c
}

func flow(device, kind string, ops, bytes int64) results.Flow {
	return results.Flow{Device: device, Kind: kind, Operations: ops, Bytes: bytes}
}

// accounts invents those of first writes and rewrites at two queue depths.
func accounts(kind results.Kind) []results.Account {
	var all []results.Account
	for _, qd := range []int64{1, 32} {
		add := func(op, variant string, flows []results.Flow, c ...results.Class) {
			a := results.Account{
				Experiment: "E6", Kind: kind, Config: results.Conf("op", op, "variant", variant, "chunk", "65536", "qd", fmt.Sprint(qd)),
				Flows: flows, Distances: []int64{10, 0, 0, 5, 0, 40, 45}, Classes: c,
			}
			if kind == results.Modelled {
				a.Config = append(a.Config, results.Pair{Key: "model", Value: "hdd"})
			}
			for _, c := range c {
				if c.Name != flush && c.Name != between {
					a.Requests += c.Requests
				}
				a.Nanoseconds += c.Nanoseconds
			}
			a.WrittenBytes = 4096 * a.Requests
			all = append(all, a)
		}
		each := int64(1)
		if kind == results.Modelled {
			each = qd
		}
		origin := flow("origin", "write", 100, 409600)
		add("rewrite", "inline", []results.Flow{origin}, class("settled write", 100, each, "write origin", 40000, "engine", 800))
		add("rewrite", "raw", []results.Flow{origin}, class("settled write", 100, each, "write origin", 40000))
		add("firstwrite", "raw", []results.Flow{origin}, class("settled write", 100, each, "write origin", 41000), class("flush", 4, 1, "flush origin", 90000))
		add("firstwrite", "copybound", []results.Flow{flow("origin", "read", 100, 6553600), origin, flow("store", "write", 100, 6553600), flow("store", "flush", 100, 0)},
			class("first write", 100, each, "read old", 120000, "write copies", 60000, "make durable", 300000, "write origin", 40000))
		add("firstwrite", "inline", []results.Flow{
			flow("origin", "read", 100, 6553600), origin, flow("store", "write", 100, 6963200), flow("store", "flush", 100, 0),
			flow("metadata", "read", 3, 12288), flow("metadata", "write", 9, 36864),
		}, class("first write", 100, each, "queue", int(qd)*9000, "plan", 300, "lease", 200, "read old", 118000, "checksum", 25000,
			"write copies", 61000, "make durable", 290000, "report", 4000, "wake", 19000, "write origin", 40000, "engine", 900),
			class("between requests", 2, 1, "checkpoints", 500000))
	}
	return all
}

// TestTables compares all tables with golden ones.
func TestTables(t *testing.T) {
	for _, kind := range []results.Kind{results.Measured, results.Modelled} {
		var b bytes.Buffer
		for _, tab := range Tables(accounts(kind)) {
			fmt.Fprintf(&b, "%s: %s\n", tab.Name, tab.Title)
			require.NoError(t, tab.Write(&b, table.Text))
			require.Equal(t, kind, tab.Kind)
		}
		golden(t, "tables-"+string(kind)+".txt", b.Bytes())
	}
}

// TestFigures compares all figures with golden ones.
func TestFigures(t *testing.T) {
	for _, kind := range []results.Kind{results.Measured, results.Modelled} {
		all := accounts(kind)
		pictures := append(Bars(all), Distances(all)...)
		names := map[string]bool{}
		for _, p := range pictures {
			require.False(t, names[p.Name], "two figures of one name: %s", p.Name)
			names[p.Name] = true
			svg, err := p.Chart.SVG()
			require.NoError(t, err)
			golden(t, p.Name+".svg", svg)
		}
		require.Len(t, pictures, 4, "two classes, two operations")
	}
}

// TestManyFigures holds that no figure has too many bars, and that none has two names.
func TestManyFigures(t *testing.T) {
	var all []results.Account
	for _, variant := range []string{"raw", "copybound", "inline", "disk", "nvram", "pmem"} {
		for _, chunk := range []string{"4096", "8192", "16384", "32768", "65536", "131072", "262144", "524288", "1048576"} {
			for _, qd := range []string{"1", "32"} {
				for _, op := range []string{"firstwrite", "sequential"} {
					all = append(all, results.Account{
						Experiment: "E2", Kind: results.Measured, Requests: 10, Nanoseconds: 1000,
						Config:  results.Conf("op", op, "variant", variant, "chunk", chunk, "qd", qd),
						Classes: []results.Class{class("first write", 10, 1, "read old", 60, "write origin", 40)},
					})
				}
			}
		}
	}
	names := map[string]bool{}
	for _, p := range Bars(all) {
		require.False(t, names[p.Name], p.Name)
		names[p.Name] = true
	}
	require.Len(t, names, 2*2*4, "none of raw and copybound alone")
	for _, part := range parts(all) {
		require.LessOrEqual(t, len(part), mostBars)
	}
}

func TestChecks(t *testing.T) {
	of := func(looked, requests, ns int64, wall int64, deviation float64) results.Account {
		c := class("settled write", looked, 1, "write origin", int(ns))
		c.Requests = requests
		c.Nanoseconds, c.Stages[0].Nanoseconds = requests*ns, requests*ns
		return results.Account{Requests: requests, Nanoseconds: requests * wall, Deviation: deviation, Classes: []results.Class{c}}
	}
	for _, c := range []struct {
		name    string
		account results.Account
		want    Verdict
	}{
		{"equal", of(100, 100, 1000, 1000, 0), Agree},
		{"within the tolerance", of(100, 100, 1040, 1000, 0), Agree},
		{"some time is missing", of(100, 100, 900, 1000, 0), Differ},
		{"some time is counted twice", of(100, 100, 1100, 1000, 0), Differ},
		{"few were looked at, of many that differ", of(25, 2500, 900, 1000, 1000), Sampled},
		{"few were looked at, of many that are alike", of(25, 2500, 900, 1000, 10), Differ},
		{"all were looked at, and they differ", of(2500, 2500, 900, 1000, 1000), Differ},
	} {
		got, ok := Checked(c.account)
		require.True(t, ok)
		require.Equal(t, c.want, got.Verdict(), "%s: %+v", c.name, got)
	}
	_, ok := Checked(results.Account{Requests: 5, Nanoseconds: 7})
	require.False(t, ok, "nothing was looked at")
	modelled := accounts(results.Modelled)
	for _, a := range modelled {
		c, ok := Checked(a)
		require.True(t, ok)
		require.InDelta(t, 0, c.Difference(), 1e-9)
	}
}

// TestProbeTables reads what a run with probes has left.
func TestProbeTables(t *testing.T) {
	var b bytes.Buffer
	for _, tab := range ProbeTables("E8", Probes{Series: []ProbeSeries{
		{Probe: "block", Subject: "vda", Kind: "any", Metric: "distance", Count: 90, P50: 55000, P90: 139000},
		{Probe: "block", Subject: "vda", Kind: "write", Metric: "latency", Count: 90, Sum: 9e6, P50: 80000, P99: 400000},
		{Probe: "block", Subject: "vda", Kind: "write", Metric: "size", Count: 90, Sum: 368640},
		{Probe: "process", Kind: "yielded", Metric: "ran", Count: 5},
		{Probe: "stage", Kind: "commit", Metric: "latency", Count: 40, Sum: 8e6, P50: 150000, P99: 900000},
		{Probe: "stage", Kind: "map", Metric: "latency"},
	}}) {
		fmt.Fprintf(&b, "%s: %s\n", tab.Name, tab.Title)
		require.NoError(t, tab.Write(&b, table.Text))
	}
	golden(t, "probes.txt", b.Bytes())
	require.Empty(t, ProbeTables("E8", Probes{}))
}

// TestProbeBars draws what belongs together, of a write and a read one of sixteen.
func TestProbeBars(t *testing.T) {
	stage := func(kind string, count, sum uint64) ProbeSeries {
		return ProbeSeries{Probe: "stage", Kind: kind, Metric: "latency", Count: count, Sum: sum}
	}
	p, ok := ProbeBars("PEER", Probes{Series: []ProbeSeries{
		stage("write", 10, 1e6), stage("copy", 40, 4e6), stage("batch", 4, 600000), stage("lease", 1, 200000),
		stage("commit", 4, 2e6), stage("report", 4, 40000), stage("encode", 3, 90000), stage("read", 0, 0),
	}})
	require.True(t, ok)
	require.Equal(t, "peer-probes-stages", p.Name)
	svg, err := p.Chart.SVG()
	require.NoError(t, err)
	golden(t, "probes.svg", svg)
	text := string(svg)
	for label, sum := range map[string]string{"write to the origin": "100 µs", "batch of copies": "660 µs", "extent, made": "30 µs"} {
		require.Contains(t, text, label)
		require.Contains(t, text, sum)
	}
	require.NotContains(t, text, "read of the origin")
	_, ok = ProbeBars("PEER", Probes{})
	require.False(t, ok)
}

// TestTwoDigits writes percentiles.
func TestTwoDigits(t *testing.T) {
	for ns, want := range map[int64]string{0: "0 / 0 ns", 5: "5 / 5 ns", 123: "120 / 120 ns", 4567: "4.6 / 4.6 µs", 98765: "99 / 99 µs", 5e6: "5.0 / 5.0 ms"} {
		h := results.NewTimes()
		h.Add(ns, 3)
		require.Equal(t, want, percentiles(h))
	}
	h := results.NewTimes()
	h.Add(120_000, 98)
	h.Add(7_000_000, 2)
	require.Equal(t, "120 µs / 7.0 ms", percentiles(h))
}
