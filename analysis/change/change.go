// SPDX-License-Identifier: Apache-2.0

// Package change finds the points of a series at which its level changes.
//
// It owns two methods. [Detect] is for values that vary: E-divisive of Matteson and
// James, "A Nonparametric Approach for Multiple Change Point Analysis of Multivariate
// Data", Journal of the American Statistical Association 109 (2014), as MongoDB and
// Apache Otava (Hunter) use it for benchmarks: Daly and others, "The Use of Change
// Point Detection to Identify Software Performance Regressions in a Continuous
// Integration System", ICPE 2020. [Steps] is for values that do not vary. The package
// knows no units and no runs: package trend, which calls it, says what is better.
//
// All functions are pure, given the seed, and safe for concurrent use. They do not
// fail: a series too short to say anything about has no change points.
//
// Note: pgregory.net/changepoint (ED-PELT) was looked at. Its number of points follows
// from a penalty, not from a level of error, so that a rate of false alarms cannot be
// stated; and it wants longer series than the history of a branch is.
package change

import (
	"math"
	"math/rand/v2"
	"slices"
)

// Options say what [Detect] calls a change.
type Options struct {
	// Alpha is the chance of a false change in a series that has none. A gate over
	// many series divides it by their number.
	Alpha float64
	// Effect is the smallest relative change of the median that matters.
	Effect float64
	// Seed is of the permutations.
	Seed uint64
}

// Defaults returns the options for one series: 0.01 and 5 %.
func Defaults() Options { return Options{Alpha: 0.01, Effect: 0.05, Seed: 1} }

// Point is a change of level.
type Point struct {
	// Index is that of the first value of the new level.
	Index int
	// Before and After are the levels: the medians up to the neighbouring points.
	Before, After float64
	// P is the chance of a change at least as clear in a series without one; 0 for
	// values that do not vary.
	P float64
}

// Ratio returns After over Before: 1 when both are zero, infinite when Before is.
func (p Point) Ratio() float64 {
	if p.Before == p.After {
		return 1
	}
	return p.After / p.Before
}

// Enough reports whether a change in the middle of n values can be told from chance at
// all: whether there are enough ways to divide them.
func Enough(n int, alpha float64) bool {
	ways := 1.0
	for i := range n / 2 {
		ways *= float64(n-i) / float64(i+1)
	}
	return n >= 2*shortest && 2/ways <= alpha
}

// shortest is the fewest values that a level has: one says nothing of its spread.
const shortest = 2

// Detect returns the change points of values that vary, in their order. A series is
// divided where its two parts differ most, if a permutation test says that they differ
// by more than chance, and so are its parts. What then changes the median by less than
// the effect is left out. Values must be finite. It takes time of the order of the
// square of the number of values, for each of some permutations.
func Detect(values []float64, o Options) []Point {
	rng := rand.New(rand.NewPCG(o.Seed, uint64(len(values))))
	return keepEffects(values, divide(values, 0, o.Alpha, rng), o.Effect)
}

// divide returns the change points of a part of a series that begins at offset.
func divide(values []float64, offset int, alpha float64, rng *rand.Rand) []Point {
	at, statistic := best(values)
	if at == 0 {
		return nil
	}
	p := chance(values, statistic, alpha, rng)
	if p > alpha {
		return nil
	}
	left := divide(values[:at], offset, alpha, rng)
	right := divide(values[at:], offset+at, alpha, rng)
	return slices.Concat(left, []Point{{Index: offset + at, P: p}}, right)
}

// best returns where to divide values so that the parts differ most, and by how much:
// the energy distance of the parts, weighed by their sizes (equation 5 of the paper,
// with alpha = 1 and no bound of the right part). Zero if it cannot be divided.
func best(values []float64) (at int, statistic float64) {
	n := len(values)
	if n < 2*shortest {
		return 0, 0
	}
	// Sums of distances: between the parts, within the left one, within the right one.
	between, left, right := 0.0, 0.0, 0.0
	for i, v := range values {
		for _, w := range values[:i] {
			right += math.Abs(v - w)
		}
	}
	for i, v := range values[:n-shortest] { // v goes from the right part to the left
		toLeft, toRight := 0.0, 0.0
		for _, w := range values[:i] {
			toLeft += math.Abs(v - w)
		}
		for _, w := range values[i+1:] {
			toRight += math.Abs(v - w)
		}
		left, right, between = left+toLeft, right-toRight, between+toRight-toLeft
		if i+1 < shortest {
			continue
		}
		if q := energy(between, left, right, float64(i+1), float64(n-i-1)); at == 0 || q > statistic {
			at, statistic = i+1, q
		}
	}
	return at, statistic
}

func energy(between, left, right, n, m float64) float64 {
	return n * m / (n + m) * (2*between/(n*m) - 2*left/(n*(n-1)) - 2*right/(m*(m-1)))
}

// enough is after how many permutations as clear as the series a test is over.
const enough = 5

// chance returns the p value of the statistic by permutations, as few as are needed
// to tell it from alpha: the sequential test of Besag and Clifford, "Sequential Monte
// Carlo p-values", Biometrika 78 (1991).
func chance(values []float64, statistic, alpha float64, rng *rand.Rand) float64 {
	shuffled := slices.Clone(values)
	most := int(math.Ceil(enough/alpha)) - 1
	clear := 0
	for i := range most {
		rng.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		// Sums in another order differ in the last bits: equal is as clear.
		if _, q := best(shuffled); q >= statistic-1e-9*math.Abs(statistic) {
			clear++
		}
		if clear == enough {
			return float64(clear) / float64(i+1)
		}
	}
	return float64(clear+1) / float64(most+1)
}

// keepEffects leaves out the points that change the median least, one after the other,
// until each of those that are left changes it by effect.
func keepEffects(values []float64, points []Point, effect float64) []Point {
	for {
		setLevels(values, points)
		least, smallest := -1, effect
		for i, p := range points {
			if c := relative(p); c < smallest {
				least, smallest = i, c
			}
		}
		if least < 0 {
			return points
		}
		points = slices.Delete(points, least, least+1)
	}
}

// relative is by how much of the smaller level it changes.
func relative(p Point) float64 {
	if p.Before == p.After {
		return 0
	}
	return math.Abs(p.After-p.Before) / min(math.Abs(p.Before), math.Abs(p.After))
}

// setLevels sets the medians on both sides of each point.
func setLevels(values []float64, points []Point) {
	for i := range points {
		begin, end := 0, len(values)
		if i > 0 {
			begin = points[i-1].Index
		}
		if i+1 < len(points) {
			end = points[i+1].Index
		}
		at := points[i].Index
		points[i].Before, points[i].After = median(values[begin:at]), median(values[at:end])
	}
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// Steps returns the change points of values that do not vary: where a value differs
// from the first of its level by more than tolerance, relative to that.
func Steps(values []float64, tolerance float64) []Point {
	var points []Point
	for i, level := 1, 0; i < len(values); i++ {
		if was := values[level]; math.Abs(values[i]-was) > tolerance*math.Abs(was) {
			points = append(points, Point{Index: i, Before: was, After: values[i]})
			level = i
		}
	}
	return points
}
