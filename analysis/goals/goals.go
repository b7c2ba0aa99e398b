// SPDX-License-Identifier: Apache-2.0

// Package goals says what the system must reach and computes from a run whether
// it does.
//
// It owns the list of goals, by names that never change, and how each follows
// from samples: which, in what unit, against which baseline. It does not print;
// table and report do. Evaluation is pure and cannot fail: a goal without
// samples is "not measured", never met, and what is doubtful is in a row's
// warnings.
package goals

import (
	"fmt"
	"strings"

	"zumastor.org/zumastor/analysis/group"
	"zumastor.org/zumastor/analysis/stats"
	"zumastor.org/zumastor/results"
)

// Comparison is the side of the threshold on which a goal is met.
type Comparison string

// The comparisons.
const (
	AtLeast Comparison = ">="
	AtMost  Comparison = "<="
)

// Goal is one thing to reach.
type Goal struct {
	// Name identifies the goal for ever.
	Name string
	// What says in words what is compared with what.
	What string
	// Comparison and Threshold are the goal, in Unit.
	Comparison Comparison
	Threshold  float64
	// Unit is that of threshold and value; "x" for ratios.
	Unit string
	Kind results.Kind
	// Query finds the value. When several settings match, the worst counts.
	// X and Line are unused.
	Query group.Query
	// Settings is how many settings there must be, for each must reach the goal; zero: one.
	Settings int
	// Scale converts the sample's unit to Unit; zero means 1.
	Scale float64
	// Bound says what limits the value.
	Bound string
}

// Wanted writes a row's threshold: ">= 0.95 x".
func (r Row) Wanted() string { return fmt.Sprintf("%s %v %s", r.Comparison, r.Threshold, r.Unit) }

// Status says whether a goal is met.
type Status string

// The statuses.
const (
	// Met and NotMet: value and interval lie on one side of the threshold.
	Met    Status = "met"
	NotMet Status = "not met"
	// Unclear: the interval has the threshold in it.
	Unclear Status = "unclear"
	// NotMeasured: the run has no samples for it.
	NotMeasured Status = "not measured"
)

// Row is a goal and what was reached; rows make up summary.json.
type Row struct {
	Name       string       `json:"name"`
	What       string       `json:"what"`
	Comparison Comparison   `json:"comparison"`
	Threshold  float64      `json:"threshold"`
	Unit       string       `json:"unit"`
	Kind       results.Kind `json:"kind"`
	Status     Status       `json:"status"`
	// The value, its interval and number of samples; N = 0 when not measured.
	stats.Estimate
	// Setting names the samples that the value is from.
	Setting string `json:"setting,omitempty"`
	Note    string `json:"note,omitempty"`
}

// Summary is summary.json.
type Summary struct {
	Run   string `json:"run"`
	Suite string `json:"suite"`
	Goals []Row  `json:"goals"`
}

// Evaluate computes the rows of all goals from a run.
func Evaluate(run *results.Run) Summary {
	m := run.Manifest()
	return Summary{Run: m.ID, Suite: m.Suite, Goals: EvaluateAll(All(), run.Measured(), run.Modelled())}
}

// EvaluateAll computes a row for each goal, in their order.
func EvaluateAll(goals []Goal, measured, modelled results.Set) []Row {
	rows := make([]Row, len(goals))
	for i, g := range goals {
		set := measured
		if g.Kind == results.Modelled {
			set = modelled
		}
		rows[i] = evaluate(g, set)
	}
	return rows
}

func evaluate(g Goal, set results.Set) Row {
	row := Row{
		Name: g.Name, What: g.What, Comparison: g.Comparison, Threshold: g.Threshold,
		Unit: g.Unit, Kind: g.Kind, Status: NotMeasured, Note: g.Bound,
	}
	cells, warnings := group.Cells(set, g.Query)
	if n := max(1, g.Settings); len(cells) < n {
		if row.Warnings = warnings; len(cells) > 0 {
			row.Warnings = append(warnings[:len(warnings):len(warnings)], fmt.Sprintf("only %d of %d settings were measured", len(cells), n))
		}
		return row
	}
	worst := cells[0]
	for _, c := range cells[1:] {
		if g.worse(c.Estimate.Center, worst.Estimate.Center) {
			worst = c
		}
	}
	row.Estimate, row.Setting = worst.Estimate, worst.Sample.Name()
	if g.Scale != 0 {
		row.Estimate = row.Estimate.Scale(g.Scale)
	}
	if len(cells) > 1 {
		row.Note = strings.TrimSuffix(fmt.Sprintf("the worst of %d settings; %s", len(cells), g.Bound), "; ")
	}
	row.Warnings = append(row.Warnings[:len(row.Warnings):len(row.Warnings)], warnings...)
	row.Status = g.judge(row.Estimate)
	return row
}

func (g Goal) worse(a, b float64) bool {
	if g.Comparison == AtLeast {
		return a < b
	}
	return a > b
}

func (g Goal) reached(v float64) bool {
	if g.Comparison == AtLeast {
		return v >= g.Threshold
	}
	return v <= g.Threshold
}

func (g Goal) judge(e stats.Estimate) Status {
	lo, hi := g.reached(e.Lo), g.reached(e.Hi)
	switch {
	case lo && hi:
		return Met
	case !lo && !hi:
		return NotMet
	}
	return Unclear
}
