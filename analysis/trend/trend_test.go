// SPDX-License-Identifier: Apache-2.0

package trend

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/analysis/table"
	"zumastor.org/zumastor/results"
	"zumastor.org/zumastor/results/history"
)

var rewrite = flag.Bool("rewrite", false, "write golden files anew")

func revision(i int) string { return strings.Repeat(fmt.Sprintf("%04x", i+0xa00), 10) }

// record is the i-th of a series.
func record(i int, kind results.Kind, metrics map[string]map[string]history.Value) history.Record {
	r := history.Record{
		Kind: kind, Suite: history.Counters, Revision: revision(i), Metrics: metrics,
		Committed: time.Date(2026, 11, 1+i, 12, 0, 0, 0, time.UTC), Recorded: time.Date(2026, 11, 1+i, 13, 0, 0, 0, time.UTC),
	}
	if kind == results.Measured {
		r.Suite, r.Machine = "full", []results.Pair{{Key: "CPU", Value: "X"}}
	}
	return r
}

// counted is a history of exact values of one metric.
func counted(unit string, values ...float64) history.History {
	var h history.History
	for i, v := range values {
		h = h.With(record(i, results.Modelled, map[string]map[string]history.Value{"inline/rewrite": {unit: history.Exact(v)}}))
	}
	return h
}

// timed is a history of measured values of one metric.
func timed(unit string, values ...float64) history.History {
	var h history.History
	for i, v := range values {
		h = h.With(record(i, results.Measured, map[string]map[string]history.Value{"E6/op=rewrite": {unit: {Center: v, Lo: v * 0.99, Hi: v * 1.01, N: 20}}}))
	}
	return h
}

func verdicts(r Report) []string {
	var all []string
	for _, t := range r.Trends {
		for _, track := range t.Tracks {
			for _, c := range track.Changes {
				all = append(all, fmt.Sprintf("%d %s", c.index, c.Verdict))
			}
		}
	}
	return all
}

func TestVerdictsOfExactValues(t *testing.T) {
	for name, tc := range map[string]struct {
		h     history.History
		want  []string
		worse int
	}{
		"steady":                {counted("writes", 5, 5, 5), nil, 0},
		"one more":              {counted("writes", 1024, 1024, 1025), []string{"2 worse"}, 1},
		"fewer":                 {counted("writes", 5, 4), []string{"1 better"}, 0},
		"undone":                {counted("writes", 5, 6, 6, 5), []string{"1 undone", "3 better"}, 0},
		"not all of it undone":  {counted("writes", 5, 8, 6), []string{"1 worse", "2 better"}, 1},
		"one record":            {counted("writes", 5), nil, 0},
		"time, of a processor":  {counted("model-ns", 1e6, 1e6+900), nil, 0},
		"time":                  {counted("model-ns", 1e6, 1.01e6), []string{"1 worse"}, 1},
		"a rate is better high": {counted("MB/s", 100, 90, 110), []string{"1 undone", "2 better"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := Judge(tc.h)
			require.Equal(t, tc.want, verdicts(r))
			require.Equal(t, tc.worse, r.Worse())
		})
	}
}

func TestAcceptedChangesAreNotWorse(t *testing.T) {
	h := counted("writes", 5, 6)
	h.Accepted = []history.Accepted{{Series: "counters", Revision: revision(1)[:8], Reason: "sums are kept"}}
	r := Judge(h)
	require.Equal(t, []string{"1 accepted"}, verdicts(r))
	require.Equal(t, "accepted: sums are kept", r.Trends[0].Changes()[0].Says())
	require.Zero(t, r.Worse())
	h.Accepted[0].Series = "quick"
	require.Equal(t, 1, Judge(h).Worse())
}

func TestMarkedRecordsDoNotCount(t *testing.T) {
	h := counted("writes", 5, 6, 5)
	h.Series[0].Records[1].Marks = []string{"noisy"}
	require.Empty(t, verdicts(Judge(h)))
}

func TestMachinesAreNotCompared(t *testing.T) {
	h := timed("ns/op", slices.Repeat([]float64{100}, 8)...)
	for i := range 8 {
		r := record(10+i, results.Measured, map[string]map[string]history.Value{"E6/op=rewrite": {"ns/op": history.Exact(200)}})
		r.Machine[0].Value = "Y"
		h = h.With(r)
	}
	r := Judge(h)
	require.Len(t, r.Trends, 2)
	require.Empty(t, verdicts(r))
}

func TestTooFewRunsAreSaid(t *testing.T) {
	r := Judge(timed("ns/op", 100, 100, 100, 200, 200, 200))
	require.True(t, r.Trends[0].Tracks[0].TooFew)
	require.Contains(t, r.Trends[0].Summary(), "1 have too few runs")
	r = Judge(timed("ns/op", 100, 101, 100, 102, 100, 200, 201, 200, 202, 200))
	require.Equal(t, []string{"5 worse"}, verdicts(r))
}

// noise returns the recorded comparisons of the study of the gate by wall-clock time:
// the time of a build relative to that of another, equal or made 10 % slower, on a
// machine with much else to do. A rate of speed becomes a time.
func noise(t *testing.T, op, bench string) []float64 {
	run, err := results.Open("../../results/studies/noise")
	require.NoError(t, err)
	var out []float64
	for s := range run.Measured().All() {
		if speed, ok := s.Values["speed"]; ok && s.Config.Get("op") == op && s.Config.Get("bench") == bench {
			out = append(out, 1000/speed)
		}
	}
	return out
}

// TestRecordedNoise holds the gate over time to its goals with recorded samples: 20
// runs of one build, then 10 of a slower one.
func TestRecordedNoise(t *testing.T) {
	for _, bench := range []string{"rewrite", "firstwrite"} {
		same, slowed := noise(t, "same", bench), noise(t, "slowed", bench)
		require.Len(t, same, 20)
		require.Len(t, slowed, 10)
		require.Empty(t, verdicts(Judge(timed("ns/op", same...))), "no alarm in 20 runs of one build: %v", same)
		require.Empty(t, verdicts(Judge(timed("ns/op", append(slices.Clone(same[10:]), same[:10]...)...))), "nor in another order")
		for n := 4; n <= len(slowed); n++ {
			r := Judge(timed("ns/op", append(slices.Clone(same), slowed[:n]...)...))
			require.Equal(t, []string{"20 worse"}, verdicts(r), "%s, %d runs after the change", bench, n)
			require.Equal(t, 1, r.Worse())
		}
	}
}

func TestNaturalOrder(t *testing.T) {
	names := []string{"chunk=16K/a", "chunk=4K/b", "chunk=4K/a", "chunk=64K", "chunk=16K"}
	slices.SortFunc(names, natural)
	require.Equal(t, []string{"chunk=4K/a", "chunk=4K/b", "chunk=16K", "chunk=16K/a", "chunk=64K"}, names)
}

// sample is a history with everything that is shown.
func sample() history.History {
	h := counted("writes", 100, 100, 105, 105, 100, 100, 110, 107)
	for i, r := range h.Series[0].Records {
		r.Metrics["inline/rewrite"]["flushes"] = history.Exact(1)
		r.Metrics["inline/rewrite"]["read-bytes"] = history.Exact(float64(20+i/7) * 1e6)
	}
	for i, v := range []float64{100, 101, 99, 100, 101, 100, 130, 131, 129, 132, 130, 128, 131} {
		r := record(i, results.Measured, map[string]map[string]history.Value{"E6/op=<rewrite>": {"ns/op": {Center: v, Lo: v - 4, Hi: v + 3, N: 20}}})
		if i == 2 {
			r.Marks = []string{"files in git had changed"}
		}
		h = h.With(r)
	}
	h.Accepted = []history.Accepted{{Series: "counters", Revision: revision(6), Reason: "a | in the reason"}}
	return h
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *rewrite {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(file, got, 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
}

func TestGolden(t *testing.T) {
	r := Judge(sample())
	var text, md bytes.Buffer
	require.NoError(t, r.Write(&text, table.Text))
	require.NoError(t, r.Write(&md, table.Markdown))
	golden(t, "report.txt", text.Bytes())
	golden(t, "report.md", md.Bytes())
	data, err := json.MarshalIndent(r, "", "  ")
	require.NoError(t, err)
	golden(t, "report.json", data)
	exact := r.Trends[0].Tracks[2]
	require.Equal(t, "writes", exact.Unit)
	svg, err := exact.chart(results.Modelled).SVG()
	require.NoError(t, err)
	golden(t, "exact.svg", svg)
	svg, err = r.Trends[1].Tracks[0].chart(results.Measured).SVG()
	require.NoError(t, err)
	golden(t, "measured.svg", svg)
}

func TestPage(t *testing.T) {
	page, err := Page(Judge(sample()))
	require.NoError(t, err)
	html := string(page)
	has := func(text string) bool { return strings.Contains(html, text) }
	require.Equal(t, 3, strings.Count(html, "<figure "))
	for _, text := range []string{"E6/op=&lt;rewrite&gt;", "1 flushes", "2 got worse", "accepted: a | in the reason"} {
		require.True(t, has(text), text)
	}
	for _, outside := range []string{"http://", "https://", `src="/`, "@import", "<link"} {
		require.False(t, has(outside), "the page needs nothing else, and has %s", outside)
	}
	empty, err := Page(Judge(history.History{}))
	require.NoError(t, err)
	require.Contains(t, string(empty), "Nothing is recorded")
}
