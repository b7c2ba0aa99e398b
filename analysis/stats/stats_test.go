// SPDX-License-Identifier: Apache-2.0

package stats

import (
	"math"
	"math/bits"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/perf/benchmath"
	"pgregory.net/rapid"
)

func TestMedian(t *testing.T) {
	for name, tc := range map[string]struct {
		values              []float64
		center, lo, hi, con float64
		warnings            int
	}{
		"one":   {[]float64{7}, 7, 7, 7, 0, 1},
		"three": {[]float64{103, 100, 101}, 101, 100, 103, 0.75, 1},
		"five":  {[]float64{5, 1, 4, 2, 3}, 3, 1, 5, 0.9375, 2},
		// P(all six on one side of the median) = 2 / 2^6.
		"six": {[]float64{106, 101, 104, 102, 103, 105}, 103.5, 101, 106, 0.96875, 0},
		// Nine: between the second and the eighth, 1 - 2(1+9)/2^9.
		"nine": {[]float64{109, 101, 108, 102, 107, 103, 106, 104, 105}, 105, 102, 108, 1 - 20.0/512, 0},
		"zero": {[]float64{0, 0, 0, 0, 0, 0}, 0, 0, 0, 0.96875, 0},
	} {
		t.Run(name, func(t *testing.T) {
			before := append([]float64(nil), tc.values...)
			e := Median(tc.values, 0.95)
			require.Equal(t, before, tc.values, "the argument is not sorted in place")
			require.Equal(t, tc.center, e.Center)
			require.Equal(t, tc.lo, e.Lo)
			require.Equal(t, tc.hi, e.Hi)
			require.InDelta(t, tc.con, e.Confidence, 1e-9)
			require.Equal(t, len(tc.values), e.N)
			require.Len(t, e.Warnings, tc.warnings, "%q", e.Warnings)
		})
	}
	require.Zero(t, Median(nil, 0.95).N)
}

func TestExact(t *testing.T) {
	require.Equal(t, Estimate{Center: 3, Lo: 3, Hi: 3, Confidence: 1, N: 2}, Exact([]float64{3, 3}))
	e := Exact([]float64{3, 4})
	require.Equal(t, []float64{3, 4}, []float64{e.Lo, e.Hi})
	require.Len(t, e.Warnings, 1)
	require.Zero(t, Exact(nil).N)
}

func TestPairedRatioCancelsSlowRounds(t *testing.T) {
	var num, den []Obs
	for round, slow := range []float64{1, 7, 1, 3, 2, 9} {
		num = append(num, Obs{round, 110 * slow})
		den = append(den, Obs{round, 100 * slow})
	}
	e := PairedRatio(num, den, 0.95)
	require.InDelta(t, 1.1, e.Center, 1e-12)
	require.InDelta(t, 1.1, e.Lo, 1e-12)
	require.InDelta(t, 1.1, e.Hi, 1e-12)
	require.Equal(t, 6, e.N)
	require.Empty(t, e.Warnings)
}

func TestRatiosPairByRound(t *testing.T) {
	num := []Obs{{0, 10}, {0, 20}, {1, 30}, {2, 40}, {3, 1}}
	den := []Obs{{1, 3}, {0, 1}, {0, 4}, {3, 0}, {9, 1}}
	ratios, warnings := Ratios(num, den)
	require.Equal(t, []float64{10, 5, 10}, ratios)
	require.Equal(t, []string{"2 samples have no partner in the same round", "1 samples have a baseline of zero"}, warnings)
}

func TestMedianRatio(t *testing.T) {
	num := []float64{198, 199, 200, 201, 202, 203, 204}
	den := []float64{99, 100, 101, 102, 100, 100, 101}
	e := MedianRatio(num, den, 0.95, 1)
	require.InDelta(t, 2.01, e.Center, 1e-9)
	require.Less(t, e.Lo, e.Center)
	require.Greater(t, e.Hi, e.Center)
	require.Greater(t, e.Lo, 1.9)
	require.Less(t, e.Hi, 2.1)
	require.Equal(t, e, MedianRatio(num, den, 0.95, 1), "the same seed gives the same interval")
	require.NotEmpty(t, MedianRatio(num[:3], den, 0.95, 1).Warnings)
	require.Zero(t, MedianRatio(num, []float64{0}, 0.95, 1).N)
	require.Zero(t, MedianRatio(nil, den, 0.95, 1).N)
	require.NotPanics(t, func() { MedianRatio(num, []float64{0, 0, 1, 1, 1}, 0.95, 1) })
}

func TestCompare(t *testing.T) {
	// All of one below all of the other: P = 2 / C(8,4).
	c := Compare([]float64{4, 3, 2, 1}, []float64{5, 6, 7, 8}, 0.05)
	require.InDelta(t, 2.0/70, c.P, 1e-12)
	require.Empty(t, c.Warnings)
	c = Compare([]float64{1, 2}, []float64{3, 4}, 0.05)
	require.InDelta(t, 2.0/6, c.P, 1e-12)
	require.Len(t, c.Warnings, 1)
	require.Len(t, Compare([]float64{1, 1}, []float64{1, 1}, 0.05).Warnings, 1)
}

func TestScale(t *testing.T) {
	e := Estimate{Center: 2, Lo: 1, Hi: 4}
	require.Equal(t, Estimate{Center: 4, Lo: 2, Hi: 8}, e.Scale(2))
	require.Equal(t, Estimate{Center: -2, Lo: -4, Hi: -1}, e.Scale(-1))
	require.Equal(t, 1.0, e.HalfWidth())
}

func TestIntervalHoldsTheMedian(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Float64Range(-1e9, 1e9), 1, 30).Draw(t, "values")
		e := Median(values, rapid.Float64Range(0.5, 0.999).Draw(t, "confidence"))
		require.LessOrEqual(t, e.Lo, e.Center)
		require.GreaterOrEqual(t, e.Hi, e.Center)
		require.False(t, math.IsInf(e.Lo, 0) || math.IsInf(e.Hi, 0))
	})
}

// TestAgreesWithBenchmath compares what tables show with what benchstat computes of
// the same numbers, and both with a count of all arrangements.
func TestAgreesWithBenchmath(t *testing.T) {
	for _, c := range [][2][]float64{
		{{1, 2, 3, 4, 5}, {6, 7, 8, 9, 10}},
		{{10.1, 9.8, 10.4, 10.2, 9.9, 10.0}, {10.9, 10.3, 11.2, 10.05, 11.0, 10.8}},
		{{100, 90, 130, 95, 105, 101, 99}, {98, 97, 131, 94, 106, 102, 96}},
	} {
		want := benchmath.AssumeNothing.Compare(benchmath.NewSample(slices.Clone(c[0]), &benchmath.DefaultThresholds), benchmath.NewSample(slices.Clone(c[1]), &benchmath.DefaultThresholds))
		got := Compare(c[0], c[1], 0.05)
		require.Equal(t, want.P, got.P)
		require.InDelta(t, arrangements(c[0], c[1]), got.P, 1e-9)
		summary := benchmath.AssumeNothing.Summary(benchmath.NewSample(slices.Clone(c[0]), &benchmath.DefaultThresholds), Confidence)
		median := Median(c[0], Confidence)
		require.Equal(t, summary.Center, median.Center)
		if !math.IsInf(summary.Lo, 0) && !math.IsInf(summary.Hi, 0) {
			require.Equal(t, []float64{summary.Lo, summary.Hi}, []float64{median.Lo, median.Hi})
		}
	}
}

// arrangements is the exact two-sided p of the U test without ties: of all ways to
// divide the values, the share that are as far from even, or farther.
func arrangements(a, b []float64) float64 {
	all := slices.Concat(a, b)
	u := func(mask int) float64 {
		var n float64
		for i, x := range all {
			for j, y := range all {
				if mask>>i&1 == 1 && mask>>j&1 == 0 && x > y {
					n++
				}
			}
		}
		return n
	}
	even := float64(len(a)*len(b)) / 2
	ours, total, far := math.Abs(u(1<<len(a)-1)-even), 0.0, 0.0
	for mask := range 1 << len(all) {
		if bits.OnesCount(uint(mask)) == len(a) {
			total++
			if math.Abs(u(mask)-even) >= ours {
				far++
			}
		}
	}
	return far / total
}
