// SPDX-License-Identifier: Apache-2.0

package report

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/results"
)

// accountOf invents an account of a sample's setting; wall is what the driver has timed
// for each of 100 requests.
func accountOf(experiment string, kind results.Kind, wall int64, conf ...string) results.Account {
	c := results.Class{Name: "first write", Looked: 100, Groups: 100, Requests: 100, Times: results.NewTimes()}
	for _, s := range []struct {
		name string
		ns   int64
	}{{"queue", 20000}, {"read old", 50000}, {"make durable", 90000}, {"write origin", 40000}} {
		stage := results.Stage{Name: s.name, Waits: s.name == "queue", Nanoseconds: 100 * s.ns, Times: results.NewTimes()}
		stage.Times.Add(s.ns, 100)
		c.Stages, c.Nanoseconds = append(c.Stages, stage), c.Nanoseconds+stage.Nanoseconds
	}
	c.Times.Add(200000, 100)
	return results.Account{
		Experiment: experiment, Kind: kind, Config: results.Conf(conf...), Requests: 100, WrittenBytes: 409600, Nanoseconds: 100 * wall,
		Classes: []results.Class{c}, Distances: []int64{5, 0, 90},
		Flows: []results.Flow{{Device: "origin", Kind: "read", Operations: 100, Bytes: 6553600}, {Device: "origin", Kind: "write", Operations: 100, Bytes: 409600}},
	}
}

// fewSamples is a run of some experiments, without figures of their own.
func fewSamples(t *testing.T) *results.Run {
	t.Helper()
	run, err := results.Create(t.TempDir(), results.Manifest{Suite: "smoke"})
	require.NoError(t, err)
	m := &maker{rng: rand.New(rand.NewPCG(1, 2))}
	for _, e := range []string{"E3", "E6", "E8", "PEER"} {
		m.add(results.Measured, e, 1e5, "op", "other", "variant", "inline")
	}
	require.NoError(t, run.Append(m.samples...))
	return run
}

func TestReportSaysWhereTheTimeWent(t *testing.T) {
	run := fewSamples(t)
	conf := []string{"op", "firstwrite", "variant", "inline", "chunk", "65536", "qd", "32"}
	require.NoError(t, run.AddAccounts("E6", accountOf("E6", results.Measured, 240000, conf...)))
	require.NoError(t, run.AddAccounts("E3", accountOf("E3", results.Measured, 201000, conf...), accountOf("E3", results.Modelled, 200000, append(conf, "model", "hdd")...)))
	require.NoError(t, run.WriteFile("probes-E8.json", []byte(`{"series":[{"probe":"stage","kind":"batch","metric":"latency","count":3,"sum":300000,"p50":100000,"p99":100000},{"probe":"stage","kind":"commit","metric":"latency","count":3,"sum":600000,"p50":200000,"p99":300000}]}`)))
	require.NoError(t, run.SetLooked("E8", "It was carried out once more."))
	require.NoError(t, Write(run))
	html := read(t, run, File)
	wellFormed(t, html)
	require.NotContains(t, html, "ZgotmplZ")
	_, where, found := strings.Cut(html, "<h2>Where the time went, measured</h2>")
	require.True(t, found)
	measured, modelled, found := strings.Cut(where, "<h2>Where the time went, modelled</h2>")
	require.True(t, found)
	for _, e := range []string{"E3", "E6", "E8"} {
		require.Contains(t, measured, "<h3>"+e+" ·")
	}
	require.Contains(t, modelled, "<h3>E3 ·")
	require.NotContains(t, modelled, "<h3>E6 ·")
	unseen := regexp.MustCompile(`The requests of ([^.]*) go through`).FindStringSubmatch(measured)
	require.NotNil(t, unseen)
	require.Contains(t, unseen[1], "PEER")
	require.NotContains(t, unseen[1], "E6")
	require.NotContains(t, unseen[1], "E8", "probes saw them")
	for _, want := range []string{"It was carried out once more.", "queue (waits)", "Bytes moved for each byte asked for", "By eBPF probes: stages"} {
		require.Contains(t, measured, want)
	}

	e3, rest, _ := strings.Cut(measured, "<h3>E6 ·")
	require.NotContains(t, e3, "DIFFER", "half a percent")
	require.Contains(t, rest, "DIFFER")
	require.Contains(t, rest, "The stages of 1 of 1 settings differ from their wall time by more than 5 %")
	for _, name := range []string{
		"figures/e6-where-firstwrite-opfirstwrite-variantinline-chunk65536-qd32-measured.svg",
		"figures/e3-where-firstwrite-opfirstwrite-variantinline-chunk65536-qd32-modelhdd-modelled.png",
		"figures/e6-distance-opfirstwrite-chunk65536-qd32-measured.svg",
		"tables/e6-path-measured.md", "tables/e6-amplification-measured.txt", "tables/e6-check-measured.txt", "figures/e8-probes-stages.svg", "tables/e8-probes-stages.txt",
	} {
		require.NotEmpty(t, read(t, run, name))
	}
}

func TestDamagedAccountsAreNoReport(t *testing.T) {
	run := fewSamples(t)
	require.NoError(t, run.WriteFile("accounts-E6.json", []byte(`[{"experiment":"E9"}]`)))
	require.ErrorIs(t, Write(run), results.ErrCorrupt)
}
