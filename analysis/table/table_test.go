// SPDX-License-Identifier: Apache-2.0

package table

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/analysis/goals"
	"zumastor.org/zumastor/analysis/group"
	"zumastor.org/zumastor/analysis/regress"
	"zumastor.org/zumastor/analysis/stats"
	"zumastor.org/zumastor/results"
)

func series(kind results.Kind) group.Series {
	e := func(c float64) stats.Estimate { return stats.Estimate{Center: c, Lo: c * 0.98, Hi: c * 1.01, N: 6} }
	return group.Series{Kind: kind, Query: group.Query{As: group.Cost}, Lines: []group.Line{
		{Name: "inline", Points: []group.Point{{X: "4096", Estimate: e(3.1)}, {X: "65536", Estimate: e(12.3)}}},
		{Name: "disk", Points: []group.Point{{X: "4096", Estimate: e(5)}}},
	}}
}

func render(t *testing.T, tab Table, f Format) string {
	t.Helper()
	var b strings.Builder
	require.NoError(t, tab.Write(&b, f))
	var lines []string
	for line := range strings.Lines(b.String()) {
		lines = append(lines, strings.TrimRight(line, " \n"))
	}
	return strings.Join(lines, "\n")
}

func TestSeriesTable(t *testing.T) {
	tab := OfSeries(series(results.Measured), "chunk p99 µs", "B")
	require.Equal(t, `| chunk p99 µs |       inline |         disk |
|-------------:|-------------:|-------------:|
|        4 KiB | 3.10 ±0.06 x | 5.00 ±0.10 x |
|       64 KiB |  12.3 ±0.2 x |            – |`, render(t, tab, Markdown))
	text := render(t, tab, Text)
	require.Contains(t, text, "chunk p99 µs", "the header keeps its words and units")
	require.Contains(t, text, "─")
	require.NotContains(t, text, "|")
}

func TestMarkdownEscapes(t *testing.T) {
	tab := Table{Header: []string{"a|b", "c"}, Rows: [][]string{{"x|y\nz", "<b>*_`\\"}}}
	got := render(t, tab, Markdown)
	require.Contains(t, got, `a\|b`)
	require.Contains(t, got, `x\|y z`)
	require.Contains(t, got, "&lt;b>\\*\\_\\`\\\\")
	require.Len(t, strings.Split(got, "\n"), 3)
}

func TestEmptyTable(t *testing.T) {
	require.Contains(t, render(t, Table{Header: []string{"goal"}}, Text), "goal")
	require.NotPanics(t, func() { _ = OfSeries(group.Series{}, "x", "").String() })
}

func TestKindsDoNotMix(t *testing.T) {
	a, b := OfSeries(series(results.Measured), "chunk", "B"), OfSeries(series(results.Modelled), "chunk", "B")
	_, err := Join(a, b)
	require.ErrorIs(t, err, results.ErrKind)
	both, err := Join(a, a)
	require.NoError(t, err)
	require.Len(t, both.Header, 5)
	_, err = Join(a, Table{Kind: results.Measured})
	require.Error(t, err)
}

func TestGoalTablesKeepKindsApart(t *testing.T) {
	measured, modelled := OfGoals(goals.EvaluateAll(goals.All(), results.Set{}, results.Set{}))
	require.Equal(t, results.Measured, measured.Kind)
	require.Equal(t, results.Modelled, modelled.Kind)
	require.Len(t, modelled.Rows, 4)
	require.Equal(t, len(goals.All()), len(measured.Rows)+len(modelled.Rows))
	require.Contains(t, measured.String(), "not measured")
	require.NotContains(t, measured.String(), "nsnaps-hdd-16k")
	require.Contains(t, measured.String(), "<= 5 ms")
}

func TestComparisonTable(t *testing.T) {
	e := stats.Estimate{Center: 1e6, Lo: 1e6, Hi: 1e6, N: 1}
	for kind, want := range map[results.Kind]string{results.Modelled: "–", results.Measured: "0.040"} {
		r := regress.Report{Kind: kind, Rows: []regress.Row{{Name: "E6/op=read", Unit: "ns/op", Old: e, New: e, P: 0.04, Verdict: regress.Same}}}
		tab := OfComparison(r)
		require.Equal(t, kind, tab.Kind)
		require.Equal(t, want, tab.Rows[0][4])
		require.Contains(t, tab.String(), "1 ms/op")
	}
}
