// SPDX-License-Identifier: Apache-2.0

package report

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/results"
)

// chunkRun makes a run of first writes at three chunk sizes; factor is what times of
// inline are multiplied by.
func chunkRun(t *testing.T, id, cpu string, factor float64) *results.Run {
	t.Helper()
	run, err := results.Create(t.TempDir(), results.Manifest{ID: id, Suite: "quick", Start: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)})
	require.NoError(t, err)
	require.NoError(t, run.SetEnvironment(results.Environment{CPU: cpu, CPUs: 2, Commit: "c-" + id}))
	for round := range 6 {
		var all []results.Sample
		for i, chunk := range []string{"4096", "16384", "65536"} {
			for _, v := range []struct {
				variant string
				ns      float64
			}{{"raw", 1e4}, {"inline", factor * (2e4 + 5e3*float64(i*i))}, {"nvram", 2e4 + 5e3*float64(i*i)}} {
				noise := 1 + 0.004*float64((round*7+i*3)%5-2)
				s := results.Sample{
					Experiment: "E2", Kind: results.Measured, N: 100, Round: round, Values: map[string]float64{results.NsPerOp: v.ns * noise},
					Config: results.Conf("op", "firstwrite", "variant", v.variant, "chunk", chunk, "qd", "32"), Latency: results.NewLatency(),
				}
				_ = s.Latency.RecordValue(int64(v.ns))
				all = append(all, s)
				if round == 0 {
					s.Kind, s.Latency, s.Config = results.Modelled, nil, s.Config.With("model", "hdd")
					s.Values = map[string]float64{results.NsPerOp: v.ns}
					all = append(all, s)
				}
			}
		}
		require.NoError(t, run.Append(all...))
	}
	return run
}

// images are left out of what is compared as text: package plot has tests of its own.
var images = regexp.MustCompile(`data:image/svg\+xml;base64,[A-Za-z0-9+/=&#;]+`)

// TestComparisonAsText pins the page of two runs on machines that differ.
func TestComparisonAsText(t *testing.T) {
	runs := []*results.Run{chunkRun(t, "one", "X", 1), chunkRun(t, "two", "Y", 1.2)}
	html, err := Comparison(runs, results.NsPerOp)
	require.NoError(t, err)
	again, err := Comparison(runs, results.NsPerOp)
	require.NoError(t, err)
	require.Equal(t, string(html), string(again))
	if *keep != "" {
		require.NoError(t, os.WriteFile(filepath.Join(*keep, "comparison.html"), html, 0o644))
	}
	_, body, found := strings.Cut(string(html), "<body>")
	require.True(t, found)
	body = regexp.MustCompile(`(?s)<script.*?</script>\n`).ReplaceAllString(body, "")
	body = images.ReplaceAllString(body, "image")
	golden := filepath.Join("testdata", "comparison.html")
	if os.Getenv("REWRITE") != "" {
		require.NoError(t, os.WriteFile(golden, []byte(body), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), body)
}

// TestComparisonSaysWhatMatters has the parts in their order, and nothing of the network.
func TestComparisonSaysWhatMatters(t *testing.T) {
	runs := []*results.Run{chunkRun(t, "one", "X", 1), chunkRun(t, "two", "Y", 1.2), chunkRun(t, "three", "X", 0.5)}
	html, err := Comparison(runs, results.NsPerOp)
	require.NoError(t, err)
	text := string(html)
	at := 0
	for _, want := range []string{
		"other machine", "Run two differs from one", "CPU: X, Y", "same machine", "Run three", "two against one, measured", "<svg role=\"img\" aria-label=\"Speed by chunk", "Speed by chunk size and workload",
		"not-met\">worse", "0.833 x", "two against one, modelled", "exact", "three against one", "met\">better", "<h2>Chunk size</h2>", "Because it is", "4 KiB", "<h2>Figures</h2>", "<img src",
	} {
		i := strings.Index(text[at:], want)
		require.GreaterOrEqual(t, i, 0, "%q in its place", want)
		at += i
	}
	for _, never := range []string{"http://", "https://", "ZgotmplZ", " src=\"/", "@import"} {
		require.NotContains(t, strings.ReplaceAll(strings.ReplaceAll(text, "http://www.w3.org/2000/svg", ""), "http://www.w3.org/1999/xlink", ""), never)
	}
	_, err = Comparison(runs[:1], results.NsPerOp)
	require.ErrorContains(t, err, "two at least")
}

func TestAdviceOnChunkSizes(t *testing.T) {
	all := adviseOn([]*results.Run{chunkRun(t, "one", "X", 1)}, false)
	require.Len(t, all, 2, "measured and modelled")
	require.Equal(t, "4 KiB", all[1].Rows[0].Chunk)
	require.Equal(t, "the least of all, and no smaller size is within 5 % of it", all[1].Rows[0].Reason)
	require.False(t, all[1].Rows[0].Unclear)
	one, err := results.Create(t.TempDir(), results.Manifest{ID: "plain"})
	require.NoError(t, err)
	require.Empty(t, adviseOn([]*results.Run{one}, true), "no chunk sizes, no advice")
}

// TestAdviceOnRunsOfOneSizeEach takes runs together whose machines are alike.
func TestAdviceOnRunsOfOneSizeEach(t *testing.T) {
	var runs []*results.Run
	for _, chunk := range []string{"4096", "65536"} {
		all := chunkRun(t, "all", "X", 1)
		run, err := results.Create(t.TempDir(), results.Manifest{ID: "of" + chunk})
		require.NoError(t, err)
		for s := range all.Measured().Filter(func(s results.Sample) bool { return s.Config.Get("chunk") == chunk }).All() {
			require.NoError(t, run.Append(s))
		}
		runs = append(runs, run)
	}
	advice := adviseOn(runs, true)
	require.Len(t, advice, 1)
	require.Equal(t, "of4096, of65536", advice[0].Run)
	require.Equal(t, "4 KiB", advice[0].Rows[0].Chunk)
	require.Empty(t, adviseOn(runs, false), "machines that differ")
	require.Empty(t, adviseOn(runs[:1], true))
}

// TestHeatMapsOfARun are in the report, and files of the run.
func TestHeatMapsOfARun(t *testing.T) {
	run := chunkRun(t, "one", "X", 1)
	require.NoError(t, Write(run))
	html := read(t, run, File)
	wellFormed(t, html)
	for _, want := range []string{"Time against raw by chunk size and workload", "<title>E2 firstwrite inline, 16 KiB: 2.50 x"} {
		require.True(t, strings.Contains(html, want), want)
	}
	require.Contains(t, read(t, run, "figures/heat-chunk-measured.svg"), "64 KiB")
	require.NotEmpty(t, read(t, run, "figures/heat-variant-modelled.png"))
}
