// SPDX-License-Identifier: Apache-2.0

package goals

import (
	"fmt"

	"zumastor.org/zumastor/analysis/group"
	"zumastor.org/zumastor/analysis/stats"
	"zumastor.org/zumastor/results"
)

// Verdict says what an experiment made of a claim.
type Verdict string

// The verdicts.
const (
	// Confirmed and Refuted: value and interval lie on one side of the criterion.
	Confirmed Verdict = "confirmed"
	Refuted   Verdict = "refuted"
	// Undecided: the interval has the criterion in it.
	Undecided Verdict = "undecided"
	// Untested: no run has samples for it.
	Untested Verdict = "not measured"
)

// Basis is what the criterion of a hypothesis was taken from: one of these, or a goal, by
// its name behind [BasisGoal].
type Basis string

// The bases.
const (
	// BasisSlide is a number put in place of the slide's words.
	BasisSlide Basis = "slide"
	// BasisManual is a number in the original's manual.
	BasisManual Basis = "manual"
	// BasisValues is no number that others gave: it was chosen when values that this system
	// gives for it were known.
	BasisValues Basis = "values known"
	// BasisGoal is the threshold of a goal, or its inverse, rounded, where the claim is the
	// other way round. Goals were set before the system was built.
	BasisGoal = "goal "
)

// Hypothesis is a claim that the original's authors made of it, as something that an
// experiment can refute. A claim about different things has one for each.
type Hypothesis struct {
	// Slide is the seed's slide that makes the claim, and Claim its words.
	Slide int
	Claim string
	// Figure names the figure of the report that shows it.
	Figure string
	// Basis says where the test's threshold comes from.
	Basis Basis
	// Goal is the test: what is compared, and the side of the threshold on which the
	// claim holds. Where several settings match, it must hold for all.
	Goal
	// Over, if it has a Where, is a second query by whose value that of the Goal is divided:
	// of the same settings, but for those that either query names.
	Over group.Query
}

// Finding is a hypothesis and what became of it.
type Finding struct {
	Slide   int     `json:"slide"`
	Claim   string  `json:"claim"`
	Figure  string  `json:"figure"`
	Basis   Basis   `json:"criterion_from"`
	Verdict Verdict `json:"verdict"`
	Row
}

// Test computes the findings of the hypotheses, in their order.
func Test(list []Hypothesis, measured, modelled results.Set) []Finding {
	out := make([]Finding, len(list))
	for i, h := range list {
		set := measured
		if h.Kind == results.Modelled {
			set = modelled
		}
		row := evaluate(h.Goal, set)
		if h.Over.Where != nil {
			row = h.divided(set)
		}
		out[i] = Finding{Slide: h.Slide, Claim: h.Claim, Figure: h.Figure, Basis: h.Basis, Verdict: verdict(row.Status), Row: row}
	}
	return out
}

func verdict(s Status) Verdict {
	switch s {
	case Met:
		return Confirmed
	case NotMet:
		return Refuted
	case Unclear:
		return Undecided
	}
	return Untested
}

// divided evaluates the goal's value over that of Over. The two come from samples that
// were not taken in pairs, so that the interval is the widest that theirs allow.
func (h Hypothesis) divided(set results.Set) Row {
	g := h.Goal
	row := Row{Name: g.Name, What: g.What, Comparison: g.Comparison, Threshold: g.Threshold, Unit: g.Unit, Kind: g.Kind, Status: NotMeasured, Note: g.Bound}
	over, warnings := group.Cells(set, h.Over)
	cells, more := group.Cells(set, g.Query)
	found := 0
	for _, c := range cells {
		for _, o := range over {
			if !h.agree(c.Sample, o.Sample) {
				continue
			}
			e := quotient(c.Estimate, o.Estimate)
			if found++; found == 1 || g.worse(e.Center, row.Center) {
				row.Estimate, row.Setting, row.Status = e, c.Sample.Name(), g.judge(e)
			}
		}
	}
	if found > 1 {
		row.Note = fmt.Sprintf("the worst of %d settings", found)
	}
	row.Warnings = append(append(row.Warnings, warnings...), more...)
	return row
}

// agree says whether two samples have the same settings where neither query chooses.
func (h Hypothesis) agree(a, b results.Sample) bool {
	for _, p := range a.Config {
		_, here := h.Query.Where[p.Key]
		_, there := h.Over.Where[p.Key]
		if v := b.Config.Get(p.Key); !here && !there && v != "" && v != p.Value {
			return false
		}
	}
	return true
}

func quotient(a, b stats.Estimate) stats.Estimate {
	a.Center, a.Lo, a.Hi = a.Center/b.Center, a.Lo/b.Hi, a.Hi/b.Lo
	a.Confidence, a.N = min(a.Confidence, b.Confidence), min(a.N, b.N)
	a.Warnings = append(a.Warnings[:len(a.Warnings):len(a.Warnings)], b.Warnings...)
	return a
}
