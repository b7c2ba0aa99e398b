// SPDX-License-Identifier: Apache-2.0

package plot

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"zumastor.org/zumastor/results"
)

func TestStackedSaysWhatItShows(t *testing.T) {
	c := Stacked(Figure{Title: "Where", Subtitle: "qd 1", X: Axis{Label: "time of a request", Unit: "ns"}}, results.Measured, []Bar{
		{"raw", []Segment{{"write origin", 40000}}},
		{"inline", []Segment{{"queue", 5000}, {"read old", 100000}, {"write origin", 45000}, {"engine", 0}}},
	})
	got := texts(t, c)
	for _, want := range []string{"Where", "measured, mean · qd 1", "time of a request (µs)", "raw", "inline", "40 µs", "150 µs"} {
		require.Contains(t, got, want)
	}
	require.NotContains(t, got, "engine", "it took no time")
	var legend []string
	for _, e := range c.entries {
		legend = append(legend, e.label)
	}
	require.Equal(t, []string{"queue", "read old", "write origin"}, legend, "in the order of a request")
}

func TestStackedOfAnything(t *testing.T) {
	for _, bars := range [][]Bar{nil, {{}}, {{"a", []Segment{{"b", math.NaN()}}}}, {{"a", []Segment{{"b", 0}}}}} {
		require.Contains(t, texts(t, Stacked(Figure{Title: "none"}, results.Modelled, bars)), "no data")
	}
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{0, -1, math.NaN(), math.Inf(1), math.MaxFloat64, 5e-324}))
		var bars []Bar
		for range rapid.IntRange(0, 20).Draw(t, "bars") {
			b := Bar{Label: rapid.SampledFrom([]string{"", "inline, qd 1", "<&>"}).Draw(t, "label")}
			for range rapid.IntRange(0, 4).Draw(t, "segments") {
				b.Segments = append(b.Segments, Segment{rapid.SampledFrom([]string{"", "queue", "other", "<&>"}).Draw(t, "name"), value.Draw(t, "value")})
			}
			bars = append(bars, b)
		}
		svg, err := Stacked(Figure{X: Axis{Unit: rapid.SampledFrom([]string{"", "ns", "B"}).Draw(t, "unit")}}, results.Measured, bars).SVG()
		require.NoError(t, err)
		require.NotContains(t, string(svg), "NaN")
		require.NotContains(t, string(svg), "Inf")
	})
}
