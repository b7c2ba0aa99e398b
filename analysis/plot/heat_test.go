// SPDX-License-Identifier: Apache-2.0

package plot

import (
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/analysis/group"
	"zumastor.org/zumastor/analysis/stats"
	"zumastor.org/zumastor/results"
)

func heat(around1 bool) *Heat {
	xs := []string{"4096", "16384", "65536"}
	s := group.Series{Kind: results.Measured, Lines: []group.Line{
		line("E2 firstwrite <inline>", xs, func(i int) stats.Estimate { return estimate(0.5+0.75*float64(i), 0.1) }),
		line("E2 sequential inline", xs[:2], func(i int) stats.Estimate { return estimate(1+0.02*float64(i), 0.05) }),
	}}
	return NewHeat(HeatFigure{Title: "Chunk size by workload", X: Axis{Label: "chunk size", Unit: "B"}, Unit: "x", Around1: around1}, s)
}

// TestHeatAsText pins all that the map of two runs says: a cell's colour, value and title.
func TestHeatAsText(t *testing.T) {
	svg, err := heat(true).SVG()
	require.NoError(t, err)
	if *keep != "" {
		require.NoError(t, os.WriteFile(filepath.Join(*keep, "heat.svg"), svg, 0o644))
	}
	golden := filepath.Join("testdata", "heat.svg")
	if os.Getenv("REWRITE") != "" {
		require.NoError(t, os.WriteFile(golden, svg, 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), string(svg))
	titles := regexp.MustCompile("<title>.*</title>").FindAllString(string(svg), -1)
	require.Equal(t, []string{
		"<title>E2 firstwrite &lt;inline&gt;, 4 KiB: 0.500 x, interval 0.400 to 0.600, n = 6</title>",
		"<title>E2 firstwrite &lt;inline&gt;, 16 KiB: 1.25 x, interval 1.15 to 1.35, n = 6</title>",
		"<title>E2 firstwrite &lt;inline&gt;, 64 KiB: 2 x, interval 1.90 to 2.10, n = 6</title>",
		"<title>E2 sequential inline, 4 KiB: 1 x, interval 0.950 to 1.05, n = 6</title>",
		"<title>E2 sequential inline, 16 KiB: 1.02 x, interval 0.970 to 1.07, n = 6</title>",
	}, titles)
	plain, err := heat(false).SVG()
	require.NoError(t, err)
	require.NotEqual(t, string(svg), string(plain))
	_, err = heat(false).PNG()
	require.NoError(t, err)
}

// TestHeatTitlesLieOnCells holds the rectangles with titles to those that are drawn.
func TestHeatTitlesLieOnCells(t *testing.T) {
	h := heat(true)
	svg, err := h.SVG()
	require.NoError(t, err)
	_, height := h.size()
	var drawn []string
	for _, m := range regexp.MustCompile(`<path d="M([-\d.]+),([-\d.]+)L([-\d.]+),([-\d.]+)L([-\d.]+),([-\d.]+)`).FindAllStringSubmatch(string(svg), -1) {
		var x0, y1 float64
		_, _ = fmt.Sscan(m[1], &x0)
		_, _ = fmt.Sscan(m[6], &y1)
		drawn = append(drawn, fmt.Sprintf("%.0f %.0f", x0, float64(height)-y1))
	}
	for _, m := range regexp.MustCompile(`<rect x="([\d.]+)" y="([\d.]+)"[^>]*><title>`).FindAllStringSubmatch(string(svg), -1) {
		var x, y float64
		_, _ = fmt.Sscan(m[1], &x)
		_, _ = fmt.Sscan(m[2], &y)
		require.Contains(t, drawn, fmt.Sprintf("%.0f %.0f", x, y))
	}
}

func TestHeatColours(t *testing.T) {
	h := heat(true)
	require.Equal(t, color.RGBA{0xf7, 0xf7, 0xf7, 0xff}, h.color(1), "neutral at 1")
	slow, fast := h.color(0.5), h.color(2)
	require.Greater(t, slow.R, slow.B, "orange is worse")
	require.Greater(t, fast.B, fast.R, "blue is better")
	contrast := func(c color.RGBA) float64 {
		l := func(c color.Color) float64 {
			r, g, b, _ := c.RGBA()
			f := func(v uint32) float64 { return math.Pow(float64(v)/65535, 2.2) }
			return 0.2126*f(r) + 0.7152*f(g) + 0.0722*f(b) + 0.05
		}
		a, b := l(c), l(inkOn(c))
		return max(a, b) / min(a, b)
	}
	for _, around1 := range []bool{true, false} {
		h := heat(around1)
		for v := 0.5; v <= 2; v *= 1.02 {
			require.Greater(t, contrast(h.color(v)), 4.1, v)
		}
	}
}

func TestHeatOfNothing(t *testing.T) {
	for _, around1 := range []bool{true, false} {
		svg, err := NewHeat(HeatFigure{Title: "Nothing", Around1: around1}, group.Series{Lines: []group.Line{
			line("bad", []string{"1", "2"}, func(int) stats.Estimate { return stats.Estimate{Center: math.NaN(), N: 2} }),
		}}).SVG()
		require.NoError(t, err)
		require.Contains(t, string(svg), "no data")
		require.NotContains(t, strings.ReplaceAll(string(svg), "<title>", ""), "NaN")
	}
}
