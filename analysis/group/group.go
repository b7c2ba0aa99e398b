// SPDX-License-Identifier: Apache-2.0

// Package group turns samples into series: it selects them by their settings,
// gathers the rounds of one setting, divides by the matching baseline and
// estimates.
//
// It does not format or draw. Goals, tables and figures are made from what it
// returns. All values are immutable once made and safe for concurrent use. A
// query that would mix different settings into one point fails and names them;
// a setting without a baseline is left out and said in the warnings.
package group

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"zumastor.org/zumastor/analysis/stats"
	"zumastor.org/zumastor/results"
)

// ErrMixed is wrapped when a point would be made of samples with different
// settings.
var ErrMixed = errors.New("one point has samples of several settings")

// Selector chooses samples: every key must have the value, and a value of ""
// means that the sample must not have the key. The key "experiment" stands for
// the sample's experiment. An empty Selector chooses all.
type Selector map[string]string

// Match says whether the sample is chosen.
func (s Selector) Match(x results.Sample) bool {
	for key, want := range s {
		if setting(x, key) != want {
			return false
		}
	}
	return true
}

func setting(x results.Sample, key string) string {
	if key == "experiment" {
		return x.Experiment
	}
	return x.Config.Get(key)
}

// As says what a number of a series is.
type As uint8

// The ways to show a number.
const (
	// Absolute values are in the series' unit.
	Absolute As = iota
	// Speed is how many times as fast as the baseline: throughput divided by
	// the baseline's, or the baseline's time divided by time. More is better.
	Speed
	// Cost is the inverse of Speed: how many times as long as the baseline it
	// takes. Less is better.
	Cost
)

// Query says which samples make a series and how.
type Query struct {
	// Where chooses the samples.
	Where Selector
	// Unit is the unit of their values to take.
	Unit string
	// As relates the values to the baseline.
	As As
	// Against names the baseline by what it has different: the baseline of a
	// sample has these settings, and equal ones for every other key that both
	// have. It is unused for Absolute.
	Against Selector
	// X and Line are the keys whose values make the points of a line, and the
	// lines. Either may be "": one point, one line.
	X, Line string
}

// Cell is the rounds of one setting, related to its baseline.
type Cell struct {
	// Sample is one of the samples, for its settings.
	Sample   results.Sample
	Estimate stats.Estimate
}

// Point is a value of a line.
type Point struct {
	X        string
	Estimate stats.Estimate
}

// Line is the points that share a value of the query's Line key, ordered by X:
// by number where all are numbers, else as they were recorded.
type Line struct {
	Name   string
	Points []Point
}

// Series is what a query found. Its numbers are of one kind.
type Series struct {
	Kind     results.Kind
	Query    Query
	Lines    []Line
	Warnings []string
}

// Cells returns what the query finds by setting, in the order in which the
// settings were first recorded. Unless Absolute, a setting without baseline is
// left out, with a warning, and baselines themselves are left out silently.
func Cells(set results.Set, q Query) (cells []Cell, warnings []string) {
	var order []string
	chosen := map[string][]results.Sample{}
	for s := range set.Filter(q.Where.Match).All() {
		if _, has := s.Values[q.Unit]; !has || q.As != Absolute && len(q.Against) > 0 && q.Against.Match(s) {
			continue
		}
		if chosen[s.Name()] == nil {
			order = append(order, s.Name())
		}
		chosen[s.Name()] = append(chosen[s.Name()], s)
	}
	for _, name := range order {
		samples := chosen[name]
		e, err := estimate(set, q, samples)
		if err != nil {
			warnings = append(warnings, fmt.Sprintf("%s: %v", name, err))
			continue
		}
		cells = append(cells, Cell{samples[0], e})
	}
	return cells, warnings
}

func estimate(set results.Set, q Query, samples []results.Sample) (stats.Estimate, error) {
	exact := set.Kind() == results.Modelled
	ours := observations(samples, q.Unit)
	if q.As == Absolute {
		if exact {
			return stats.Exact(stats.Values(ours)), nil
		}
		return stats.Median(stats.Values(ours), stats.Confidence), nil
	}
	base, err := baseline(set, q, samples[0])
	if err != nil {
		return stats.Estimate{}, err
	}
	num, den := ours, base
	if results.HigherIsBetter(q.Unit) != (q.As == Speed) {
		num, den = base, ours
	}
	e := stats.PairedRatio(num, den, stats.Confidence)
	if exact {
		e = stats.ExactRatio(num, den)
	}
	if e.N == 0 {
		return e, errors.New("no round has both the sample and its baseline")
	}
	return e, nil
}

// baseline returns the rounds of the setting that s is compared with.
func baseline(set results.Set, q Query, s results.Sample) ([]stats.Obs, error) {
	var found []results.Sample
	for b := range set.All() {
		if _, has := b.Values[q.Unit]; !has || !isBaseline(b, s, q.Against) {
			continue
		}
		if len(found) > 0 && found[0].Name() != b.Name() {
			return nil, fmt.Errorf("two baselines fit, %s and %s", found[0].Name(), b.Name())
		}
		found = append(found, b)
	}
	if len(found) == 0 {
		return nil, errors.New("no baseline")
	}
	return observations(found, q.Unit), nil
}

// isBaseline says whether b is what s is compared with: b has the settings of
// against and agrees with s wherever else both say something. The baseline may
// lack keys that mean nothing to it, as raw has no chunk size.
func isBaseline(b, s results.Sample, against Selector) bool {
	if !against.Match(b) {
		return false
	}
	if _, other := against["experiment"]; !other && b.Experiment != s.Experiment {
		return false
	}
	for _, p := range b.Config {
		if _, replaced := against[p.Key]; replaced {
			continue
		}
		if v := s.Config.Get(p.Key); v != "" && v != p.Value {
			return false
		}
	}
	return true
}

func observations(samples []results.Sample, unit string) []stats.Obs {
	out := make([]stats.Obs, len(samples))
	for i, s := range samples {
		out[i] = stats.Obs{Round: s.Round, Value: s.Values[unit]}
	}
	return out
}

// Select runs the query. It fails, wrapping [ErrMixed], when the settings of the
// samples differ in more than the keys X and Line.
func Select(set results.Set, q Query) (Series, error) {
	cells, warnings := Cells(set, q)
	out := Series{Kind: set.Kind(), Query: q, Warnings: warnings}
	at := map[string]int{}
	taken := map[[2]string]results.Sample{}
	for _, c := range cells {
		line, x := setting(c.Sample, q.Line), setting(c.Sample, q.X)
		if other, twice := taken[[2]string{line, x}]; twice {
			return Series{}, fmt.Errorf("%w: %s and %s", ErrMixed, other.Name(), c.Sample.Name())
		}
		taken[[2]string{line, x}] = c.Sample
		i, known := at[line]
		if !known {
			i = len(out.Lines)
			at[line] = i
			out.Lines = append(out.Lines, Line{Name: line})
		}
		out.Lines[i].Points = append(out.Lines[i].Points, Point{x, c.Estimate})
	}
	for _, l := range out.Lines {
		sortByNumber(l.Points)
	}
	return out, nil
}

func sortByNumber(points []Point) {
	for _, p := range points {
		if _, err := strconv.ParseFloat(p.X, 64); err != nil {
			return
		}
	}
	slices.SortStableFunc(points, func(a, b Point) int { return cmp.Compare(number(a.X), number(b.X)) })
}

func number(s string) float64 {
	v, _ := strconv.ParseFloat(s, 64)
	return v
}

// Xs returns the values of X of all lines, each once, ordered as the points of a
// line are.
func (s Series) Xs() []string {
	var all []Point
	seen := map[string]bool{}
	for _, l := range s.Lines {
		for _, p := range l.Points {
			if !seen[p.X] {
				seen[p.X] = true
				all = append(all, Point{X: p.X})
			}
		}
	}
	sortByNumber(all)
	out := make([]string, len(all))
	for i, p := range all {
		out[i] = p.X
	}
	return out
}

// At returns the line's estimate at x.
func (l Line) At(x string) (stats.Estimate, bool) {
	for _, p := range l.Points {
		if p.X == x {
			return p.Estimate, true
		}
	}
	return stats.Estimate{}, false
}

// AllWarnings returns the warnings of the series and of its points, each once,
// with the points that it is about.
func (s Series) AllWarnings() []string {
	about := map[string][]string{}
	for _, l := range s.Lines {
		for _, p := range l.Points {
			for _, w := range p.Estimate.Warnings {
				about[w] = append(about[w], label(l.Name, p.X))
			}
		}
	}
	out := slices.Clone(s.Warnings)
	for _, w := range slices.Sorted(maps.Keys(about)) {
		where := about[w]
		text := where[0]
		if len(where) > 1 {
			text = fmt.Sprintf("%s and %d more", where[0], len(where)-1)
		}
		out = append(out, fmt.Sprintf("%s (%s)", w, text))
	}
	return out
}

func label(line, x string) string {
	if line == "" || x == "" {
		return line + x
	}
	return line + " at " + x
}
