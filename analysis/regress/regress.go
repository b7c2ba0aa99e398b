// SPDX-License-Identifier: Apache-2.0

// Package regress compares a run with an older one, setting by setting.
//
// Measured samples are compared by their medians and a U test, and only what
// passes a threshold of effect and of significance is called better or worse.
// Modelled samples must be equal to the last digit. The package reads no files
// and prints nothing; zbench compare calls it. Its functions are pure.
package regress

import (
	"fmt"
	"hash/fnv"

	"zumastor.org/zumastor/analysis/stats"
	"zumastor.org/zumastor/results"
)

// Verdict says what became of a setting.
type Verdict string

// The verdicts.
const (
	Better Verdict = "better"
	Worse  Verdict = "worse"
	Same   Verdict = "no difference"
	// Unknown means that the samples do not decide: too few, or too noisy.
	Unknown Verdict = "too noisy"
)

// Thresholds say what counts as a change of measured values.
type Thresholds struct {
	// Effect is the smallest relative change of speed that matters.
	Effect float64
	// Alpha is the chance of error accepted for a change.
	Alpha float64
}

// Defaults returns the thresholds for runs on one machine: 5 %, 0.05.
func Defaults() Thresholds { return Thresholds{Effect: 0.05, Alpha: 0.05} }

// Gate returns the thresholds for gating n benchmarks at once by samples taken in
// turns: fewer than one false alarm in a hundred duels.
func Gate(n int) Thresholds { return Thresholds{Effect: 0.05, Alpha: 0.01 / float64(max(1, n))} }

// Row is the comparison of one setting that both runs have.
type Row struct {
	Name string
	Unit string
	Old  stats.Estimate
	New  stats.Estimate
	// Speed is how much better the new one is: above 1 whether the unit is a
	// time or a rate.
	Speed    stats.Estimate
	P        float64
	Verdict  Verdict
	Warnings []string
}

// Report is the comparison of two sets of one kind.
type Report struct {
	Kind results.Kind
	Rows []Row
	// OnlyOld and OnlyNew are the names of settings that the other lacks.
	OnlyOld, OnlyNew []string
}

// Worse returns the rows that got worse.
func (r Report) Worse() []Row {
	var out []Row
	for _, row := range r.Rows {
		if row.Verdict == Worse {
			out = append(out, row)
		}
	}
	return out
}

// Compare compares the values of unit in two sets of the same kind; sets of
// different kinds are an error wrapping [results.ErrKind].
func Compare(old, new results.Set, unit string, t Thresholds) (Report, error) {
	if old.Kind() != new.Kind() {
		return Report{}, fmt.Errorf("comparing runs: %w: old is %s, new is %s", results.ErrKind, old.Kind(), new.Kind())
	}
	before, oldNames := valuesByName(old, unit)
	after, newNames := valuesByName(new, unit)
	out := Report{Kind: old.Kind()}
	for _, name := range newNames {
		if before[name] == nil {
			out.OnlyNew = append(out.OnlyNew, name)
			continue
		}
		row := Row{Name: name, Unit: unit}
		if old.Kind() == results.Modelled {
			compareExact(&row, before[name], after[name])
		} else {
			compareMeasured(&row, before[name], after[name], t)
		}
		out.Rows = append(out.Rows, row)
	}
	for _, name := range oldNames {
		if after[name] == nil {
			out.OnlyOld = append(out.OnlyOld, name)
		}
	}
	return out, nil
}

func valuesByName(set results.Set, unit string) (values map[string][]float64, order []string) {
	values = map[string][]float64{}
	for s := range set.All() {
		v, ok := s.Values[unit]
		if !ok {
			continue
		}
		if values[s.Name()] == nil {
			order = append(order, s.Name())
		}
		values[s.Name()] = append(values[s.Name()], v)
	}
	return values, order
}

func compareExact(row *Row, old, new []float64) {
	row.Old, row.New = stats.Exact(old), stats.Exact(new)
	row.Warnings = append(row.Old.Warnings, row.New.Warnings...)
	num, den := direct(row.Unit, new[0], old[0])
	if den != 0 {
		row.Speed = stats.Exact([]float64{num / den})
	}
	switch {
	case len(row.Warnings) > 0:
		row.Verdict = Unknown
	case old[0] == new[0]:
		row.Verdict = Same
	case num > den:
		row.Verdict = Better
	default:
		row.Verdict = Worse
	}
}

// direct orders a pair so that the first over the second is speed.
func direct[T any](unit string, new, old T) (num, den T) {
	if results.HigherIsBetter(unit) {
		return new, old
	}
	return old, new
}

func compareMeasured(row *Row, old, new []float64, t Thresholds) {
	row.Old, row.New = stats.Median(old, stats.Confidence), stats.Median(new, stats.Confidence)
	num, den := direct(row.Unit, new, old)
	row.Speed = stats.MedianRatio(num, den, stats.Confidence, seed(row.Name))
	c := stats.Compare(old, new, t.Alpha)
	row.P = c.P
	row.Warnings = append(row.Speed.Warnings, c.Warnings...)
	row.Verdict = judge(row.Speed, c, t)
}

// Paired compares values of two builds that were taken in turns, those of a round
// next to each other: by the U test, and by the median of the rounds' ratios.
func Paired(name, unit string, old, new []stats.Obs, t Thresholds) Row {
	row := Row{Name: name, Unit: unit}
	row.Old, row.New = stats.Median(stats.Values(old), stats.Confidence), stats.Median(stats.Values(new), stats.Confidence)
	num, den := direct(unit, new, old)
	row.Speed = stats.PairedRatio(num, den, stats.Confidence)
	c := stats.Compare(stats.Values(old), stats.Values(new), t.Alpha)
	row.P = c.P
	row.Warnings = append(row.Speed.Warnings, c.Warnings...)
	row.Verdict = judge(row.Speed, c, t)
	return row
}

// judge calls a change only when test and effect agree, and equality only when
// the whole interval lies within the effect that does not matter.
func judge(speed stats.Estimate, c stats.Comparison, t Thresholds) Verdict {
	significant := c.P <= t.Alpha
	switch {
	case speed.N == 0:
		return Unknown
	case significant && speed.Center <= 1-t.Effect:
		return Worse
	case significant && speed.Center >= 1+t.Effect:
		return Better
	case speed.N >= 4 && speed.Lo > 1-t.Effect && speed.Hi < 1+t.Effect:
		return Same
	}
	return Unknown
}

// seed gives each setting a bootstrap of its own that never changes.
func seed(name string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(name))
	return h.Sum64()
}
