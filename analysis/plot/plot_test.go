// SPDX-License-Identifier: Apache-2.0

package plot

import (
	"bytes"
	"flag"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"zumastor.org/zumastor/analysis/group"
	"zumastor.org/zumastor/analysis/stats"
	"zumastor.org/zumastor/results"
)

var keep = flag.String("keep", "", "folder to write the charts of the tests to, for looking at them")

func estimate(center, reach float64) stats.Estimate {
	return stats.Estimate{Center: center, Lo: center - reach, Hi: center + reach, Confidence: 0.97, N: 6}
}

func line(name string, xs []string, f func(i int) stats.Estimate) group.Line {
	l := group.Line{Name: name}
	for i, x := range xs {
		l.Points = append(l.Points, group.Point{X: x, Estimate: f(i)})
	}
	return l
}

func chunkSizes() *Chart {
	xs := []string{"4096", "16384", "65536", "262144", "1048576"}
	s := group.Series{Kind: results.Measured, Lines: []group.Line{
		line("copybound", xs, func(i int) stats.Estimate { return estimate(2.1+0.5*float64(i*i), 0.1) }),
		line("inline", xs, func(i int) stats.Estimate { return estimate(2.4+0.55*float64(i*i), 0.3) }),
		line("disk", xs, func(i int) stats.Estimate { return estimate(5.2+0.4*float64(i*i), 0.5) }),
		line("nvram", xs, func(i int) stats.Estimate { return estimate(2.3+0.52*float64(i*i), 0.2) }),
		line("pmem", xs, func(i int) stats.Estimate { return estimate(2.2+0.51*float64(i*i), 0.15) }),
	}}
	return Lines(Figure{
		Title: "Cost of a first write by chunk size", Subtitle: "random 4 KiB writes, queue depth 32",
		X: Axis{Label: "chunk size", Scale: Log, Unit: "B"}, Y: Axis{Label: "time against raw", Unit: "x"},
		References: []Reference{{3.2, "goal: at most 3.2x"}},
	}, s)
}

func snapshots() *Chart {
	xs := []string{"0", "1", "2", "4", "8", "16", "32", "64", "1000", "10000"}
	s := group.Series{Kind: results.Modelled, Lines: []group.Line{
		line("inline", xs, func(i int) stats.Estimate { return stats.Exact([]float64{float64(2e4 * (i + 1))}) }),
		line("disk", xs, func(i int) stats.Estimate { return stats.Exact([]float64{float64(1e6 * (i*i*i + 1))}) }),
	}}
	return Lines(Figure{
		Title: "Time of a write by number of snapshots", X: Axis{Label: "snapshots held", Scale: Log},
		Y: Axis{Label: "time an operation", Unit: "ns/op", Scale: Log},
	}, s)
}

func bars() *Chart {
	xs := []string{"firstwrite", "rewrite", "read"}
	s := group.Series{Kind: results.Measured, Lines: []group.Line{
		line("raw", xs, func(i int) stats.Estimate { return estimate(81e3+float64(i)*9e3, 4e3) }),
		line("copybound", xs, func(i int) stats.Estimate { return estimate(21e3+float64(i)*33e3, 3e3) }),
		line("inline", xs, func(i int) stats.Estimate { return estimate(19.5e3+float64(i)*33e3, 2e3) }),
		line("qcow2", xs, func(i int) stats.Estimate { return estimate(9e3+float64(i)*20e3, 5e3) }),
	}}
	return Bars(Figure{
		Title: "Random 4 KiB operations a second", Subtitle: "64 KiB chunks, queue depth 32",
		X: Axis{Label: "operation"}, Y: Axis{Label: "operations a second", Unit: results.IOPS},
	}, s)
}

func percentiles() *Chart {
	d := group.Distributions{Kind: results.Measured}
	for i, name := range []string{"raw", "inline", "qcow2"} {
		h := results.NewLatency()
		for k := range int64(20000) {
			_ = h.RecordValue(int64(float64(40_000*(i+1)) * (1 + float64(k%100)/100 + math.Pow(float64(k%1000)/1000, 40)*50)))
		}
		d.List = append(d.List, group.Distribution{Name: name, Latency: h})
	}
	return Percentiles(Figure{Title: "Latency of random 4 KiB first writes", Y: Axis{Label: "latency"}}, d)
}

func charts() map[string]*Chart {
	return map[string]*Chart{"lines": chunkSizes(), "loglog": snapshots(), "bars": bars(), "percentiles": percentiles()}
}

func TestChartsAreDeterministic(t *testing.T) {
	again := charts()
	for name, c := range charts() {
		svg, err := c.SVG()
		require.NoError(t, err)
		svg2, err := again[name].SVG()
		require.NoError(t, err)
		require.True(t, bytes.Equal(svg, svg2), name)
		image, err := c.PNG()
		require.NoError(t, err)
		image2, err := again[name].PNG()
		require.NoError(t, err)
		require.True(t, bytes.Equal(image, image2), name)
		_, err = png.Decode(bytes.NewReader(image))
		require.NoError(t, err)
		if *keep != "" {
			require.NoError(t, os.WriteFile(filepath.Join(*keep, name+".svg"), svg, 0o644))
			require.NoError(t, os.WriteFile(filepath.Join(*keep, name+".png"), image, 0o644))
		}
	}
}

// texts returns the text elements of a chart in the order in which they are drawn.
func texts(t *testing.T, c *Chart) []string {
	t.Helper()
	svg, err := c.SVG()
	require.NoError(t, err)
	require.NotContains(t, string(svg), "NaN")
	require.NotContains(t, string(svg), "Inf")
	var out []string
	for _, m := range regexp.MustCompile(`(?s)<text[^>]*>([^<]*)</text>`).FindAllSubmatch(svg, -1) {
		out = append(out, strings.TrimSpace(string(m[1])))
	}
	return out
}

func TestChartsSayWhatTheyShow(t *testing.T) {
	for name, want := range map[string][]string{
		"lines": {"Cost of a first write by chunk size", "4 KiB", "16 KiB", "64 KiB", "256 KiB", "1 MiB", "time against raw (x)",
			"inline", "goal: at most 3.2x", "measured, median and 95 % confidence interval · random 4 KiB writes, queue depth 32"},
		"loglog":      {"modelled, exact", "0", "1", "10,000", "100 µs", "10 ms", "snapshots held"},
		"bars":        {"firstwrite", "rewrite", "operations a second (k IOPS)", "copybound", "81"},
		"percentiles": {"50 %", "90 %", "99.99 %", "latency", "100 µs", "raw", "measured"},
	} {
		t.Run(name, func(t *testing.T) {
			got := texts(t, charts()[name])
			for _, w := range want {
				require.Contains(t, got, w)
			}
		})
	}
}

func TestEmptyChartsSaySo(t *testing.T) {
	nan := stats.Estimate{Center: math.NaN(), Lo: math.Inf(-1), Hi: math.Inf(1), N: 3}
	for name, s := range map[string]group.Series{
		"nothing":  {},
		"no lines": {Lines: []group.Line{{Name: "inline"}}},
		"no value": {Lines: []group.Line{line("inline", []string{"1"}, func(int) stats.Estimate { return nan })}},
	} {
		for _, y := range []Scale{Linear, Log} {
			for _, x := range []Scale{Linear, Log, Category} {
				f := Figure{Title: name, X: Axis{Scale: x}, Y: Axis{Scale: y}}
				require.Contains(t, texts(t, Lines(f, s)), "no data")
				require.Contains(t, texts(t, Bars(f, s)), "no data")
			}
		}
	}
	require.Contains(t, texts(t, Percentiles(Figure{}, group.Distributions{})), "no data")
	empty := group.Distributions{List: []group.Distribution{{Name: "raw", Latency: results.NewLatency()}}}
	require.Contains(t, texts(t, Percentiles(Figure{}, empty)), "no data")
}

func TestNothingPanics(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{0, -1, math.NaN(), math.Inf(1), math.MaxFloat64, 5e-324}))
		var s group.Series
		for i := range rapid.IntRange(0, 9).Draw(t, "lines") {
			l := group.Line{Name: rapid.SampledFrom([]string{"", "inline", "<&>"}).Draw(t, "name")}
			for range rapid.IntRange(0, 4).Draw(t, "points") {
				l.Points = append(l.Points, group.Point{
					X:        rapid.SampledFrom([]string{"", "0", "1", "4096", "-5", "x", "NaN", "1e308"}).Draw(t, "x"),
					Estimate: stats.Estimate{Center: value.Draw(t, "c"), Lo: value.Draw(t, "lo"), Hi: value.Draw(t, "hi"), N: i},
				})
			}
			s.Lines = append(s.Lines, l)
		}
		scales := rapid.SampledFrom([]Scale{Linear, Log, Category})
		f := Figure{
			X: Axis{Scale: scales.Draw(t, "xs")}, Y: Axis{Scale: scales.Draw(t, "ys"), Unit: rapid.SampledFrom([]string{"", "ns/op", "B"}).Draw(t, "unit")},
			References: []Reference{{value.Draw(t, "ref"), "goal"}},
		}
		for _, c := range []*Chart{Lines(f, s), Bars(f, s)} {
			svg, err := c.SVG()
			require.NoError(t, err)
			require.NotContains(t, string(svg), "NaN")
		}
	})
}
