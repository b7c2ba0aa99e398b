// SPDX-License-Identifier: Apache-2.0

// Package stats estimates medians and ratios with confidence intervals and
// compares samples.
//
// It assumes nothing about distributions, rejects no outliers and rounds
// nothing. It does no I/O and knows no units: callers say what the numbers are.
// The packages group, regress and goals call it. All functions are pure, given
// the seed where there is one, and safe for concurrent use. They do not fail:
// what is doubtful about a result is in its warnings, and an estimate of no
// values has N = 0.
package stats

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"golang.org/x/perf/benchmath"
)

// Confidence is the level of intervals throughout the analysis.
const Confidence = 0.95

// noisy is the half-width of an interval, relative to its centre, from which a
// result carries a warning.
const noisy = 0.10

// Obs is a value with the round in which it was taken. Values of one round were
// taken next to each other.
type Obs struct {
	Round int
	Value float64
}

// Estimate is a central value with its confidence interval.
type Estimate struct {
	Center float64 `json:"value"`
	Lo     float64 `json:"lo"`
	Hi     float64 `json:"hi"`
	// Confidence is the level that the interval really has. It is below the
	// level asked for when there are too few values, with a warning.
	Confidence float64  `json:"confidence"`
	N          int      `json:"n"`
	Warnings   []string `json:"warnings,omitempty"`
}

// Values returns the values of obs in their order.
func Values(obs []Obs) []float64 {
	out := make([]float64, len(obs))
	for i, o := range obs {
		out[i] = o.Value
	}
	return out
}

// Median estimates the median of the distribution behind values. The interval
// lies between two order statistics and holds for any continuous distribution.
// With too few values for the level it is their whole range, which covers the
// median with probability 1 - 2^(1-n).
func Median(values []float64, confidence float64) Estimate {
	n := len(values)
	if n == 0 {
		return Estimate{Warnings: []string{"no samples"}}
	}
	sorted := slices.Clone(values)
	sum := benchmath.AssumeNothing.Summary(benchmath.NewSample(sorted, &benchmath.Thresholds{}), confidence)
	e := Estimate{Center: sum.Center, Lo: sum.Lo, Hi: sum.Hi, Confidence: sum.Confidence, N: n}
	if math.IsInf(e.Lo, 0) || math.IsInf(e.Hi, 0) {
		e.Lo, e.Hi = sorted[0], sorted[n-1]
		e.Confidence = 1 - math.Pow(2, float64(1-n))
		e.warn("%d samples: the interval is their range, at a confidence of %.0f%% instead of %.0f%%",
			n, 100*e.Confidence, 100*confidence)
	}
	if w := e.HalfWidth(); w > noisy {
		e.warn("noisy: the interval reaches %.0f%% from the median", 100*w)
	}
	return e
}

// Exact is the estimate of values that do not vary. If they do, it says so and
// spans them.
func Exact(values []float64) Estimate {
	if len(values) == 0 {
		return Estimate{Warnings: []string{"no samples"}}
	}
	e := Estimate{Center: values[0], Lo: slices.Min(values), Hi: slices.Max(values), Confidence: 1, N: len(values)}
	if e.Lo != e.Hi {
		e.warn("exact values differ: from %v to %v", e.Lo, e.Hi)
	}
	return e
}

// HalfWidth returns how far the interval reaches from the centre at most,
// relative to the centre; 0 for a centre of 0.
func (e Estimate) HalfWidth() float64 {
	if e.Center == 0 {
		return 0
	}
	return max(e.Hi-e.Center, e.Center-e.Lo) / math.Abs(e.Center)
}

// Scale returns the estimate in another unit, factor times smaller.
func (e Estimate) Scale(factor float64) Estimate {
	e.Center, e.Lo, e.Hi = e.Center*factor, e.Lo*factor, e.Hi*factor
	if factor < 0 {
		e.Lo, e.Hi = e.Hi, e.Lo
	}
	return e
}

func (e *Estimate) warn(format string, args ...any) {
	e.Warnings = append(slices.Clip(e.Warnings), fmt.Sprintf(format, args...))
}

// Ratios divides num by den round by round: each value by that of the same round
// of den, in order where a round has several. What has no partner, or a partner
// of zero, is left out with a warning.
func Ratios(num, den []Obs) (ratios []float64, warnings []string) {
	partners := map[int][]float64{}
	for _, d := range den {
		partners[d.Round] = append(partners[d.Round], d.Value)
	}
	alone, zero, left := 0, 0, len(den)
	for _, n := range num {
		p := partners[n.Round]
		if len(p) == 0 {
			alone++
			continue
		}
		partners[n.Round] = p[1:]
		left--
		if p[0] == 0 {
			zero++
			continue
		}
		ratios = append(ratios, n.Value/p[0])
	}
	if alone+left > 0 {
		warnings = append(warnings, fmt.Sprintf("%d samples have no partner in the same round", alone+left))
	}
	if zero > 0 {
		warnings = append(warnings, fmt.Sprintf("%d samples have a baseline of zero", zero))
	}
	return ratios, warnings
}

// PairedRatio estimates num/den from samples taken in turns: the median of the
// ratios of each round, so that what slows a whole round cancels out.
func PairedRatio(num, den []Obs, confidence float64) Estimate {
	ratios, warnings := Ratios(num, den)
	e := Median(ratios, confidence)
	e.Warnings = append(e.Warnings, warnings...)
	return e
}

// ExactRatio is num/den of values that do not vary.
func ExactRatio(num, den []Obs) Estimate {
	ratios, warnings := Ratios(num, den)
	e := Exact(ratios)
	e.Warnings = append(e.Warnings, warnings...)
	return e
}

// resamples is the number of bootstrap samples of MedianRatio.
const resamples = 2000

// MedianRatio estimates median(num)/median(den) of samples that were not taken
// in turns, such as those of two runs. The interval is the percentile bootstrap's
// with the given seed; with fewer than six values a side it is too narrow, and
// the result says so.
func MedianRatio(num, den []float64, confidence float64, seed uint64) Estimate {
	if len(num) == 0 || len(den) == 0 {
		return Estimate{Warnings: []string{"no samples"}}
	}
	base := median(slices.Clone(den))
	if base == 0 {
		return Estimate{Warnings: []string{"the baseline's median is zero"}}
	}
	e := Estimate{Center: median(slices.Clone(num)) / base, Confidence: confidence, N: min(len(num), len(den))}
	rng := rand.New(rand.NewPCG(seed, seed))
	a, b := make([]float64, len(num)), make([]float64, len(den))
	var ratios []float64
	for range resamples {
		n, d := median(draw(rng, num, a)), median(draw(rng, den, b))
		if d != 0 {
			ratios = append(ratios, n/d)
		}
	}
	slices.Sort(ratios)
	tail := (1 - confidence) / 2
	e.Lo = ratios[int(tail*float64(len(ratios)))]
	e.Hi = ratios[min(len(ratios)-1, int((1-tail)*float64(len(ratios))))]
	e.Lo, e.Hi = min(e.Lo, e.Center), max(e.Hi, e.Center)
	if e.N < 6 {
		e.warn("%d samples: the interval is narrower than the truth", e.N)
	}
	return e
}

// draw fills out with values drawn from, with replacement.
func draw(rng *rand.Rand, from, out []float64) []float64 {
	for i := range out {
		out[i] = from[rng.IntN(len(from))]
	}
	return out
}

// median sorts values and returns their median.
func median(values []float64) float64 {
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

// Comparison is the result of a test whether two samples come from one
// distribution.
type Comparison struct {
	// P is the probability of a difference at least as large by chance.
	P        float64  `json:"p"`
	N1       int      `json:"n1"`
	N2       int      `json:"n2"`
	Warnings []string `json:"warnings,omitempty"`
}

// Compare tests by the Mann-Whitney U test whether a and b come from one
// distribution; it warns when there are too few samples to find a difference at
// level alpha.
func Compare(a, b []float64, alpha float64) Comparison {
	t := &benchmath.Thresholds{CompareAlpha: alpha}
	c := benchmath.AssumeNothing.Compare(benchmath.NewSample(slices.Clone(a), t), benchmath.NewSample(slices.Clone(b), t))
	out := Comparison{P: c.P, N1: c.N1, N2: c.N2}
	for _, w := range c.Warnings {
		out.Warnings = append(out.Warnings, w.Error())
	}
	return out
}
