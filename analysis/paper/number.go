// SPDX-License-Identifier: Apache-2.0

package paper

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"zumastor.org/zumastor/analysis/goals"
	"zumastor.org/zumastor/analysis/group"
	"zumastor.org/zumastor/analysis/quantity"
	"zumastor.org/zumastor/analysis/report"
	"zumastor.org/zumastor/analysis/stats"
	"zumastor.org/zumastor/results"
)

// notMeasured stands where there is no run.
const notMeasured = "(not measured yet)"

// notInRun stands in a draft where the run has not what a mark asks for.
const notInRun = "(not in this run)"

// number writes what a reference within a line means:
//
//	goal NAME [wanted|status|n]           goals met, goals "not met", goals all
//	hypothesis H1 [wanted|verdict|n]      hypotheses confirmed, hypotheses all
//	hypotheses from values known          the names of those whose criterion is from that
//	E1 cost variant=inline model=hdd snapshots=8 / variant=raw
//	E5 B/exception volume=... (a unit in place of cost or speed: the value itself)
func (b *Book) number(ref string) (string, error) {
	words := strings.Fields(ref)
	if len(words) < 2 {
		return "", errors.New("a reference is a kind or an experiment, and what of it")
	}
	part := strings.Join(words[2:], " ")
	switch words[0] {
	case "goal":
		i := slices.IndexFunc(b.rows, func(r goals.Row) bool { return r.Name == words[1] })
		if i < 0 {
			return "", fmt.Errorf("there is no goal %q: zbench goals lists them", words[1])
		}
		return partOf(b.rows[i], part, string(b.rows[i].Status))
	case "hypothesis":
		i := slices.IndexFunc(b.findings, func(f goals.Finding) bool { return f.Name == words[1] })
		if i < 0 {
			return "", fmt.Errorf("there is no hypothesis %q: zbench goals --hypotheses lists them", words[1])
		}
		return partOf(b.findings[i].Row, part, string(b.findings[i].Verdict))
	case "goals":
		return count(b.rows, strings.Join(words[1:], " "), func(r goals.Row) string { return string(r.Status) })
	case "hypotheses":
		if words[1] == "from" {
			return b.from(goals.Basis(part))
		}
		return count(b.findings, strings.Join(words[1:], " "), func(f goals.Finding) string { return string(f.Verdict) })
	}
	return b.value(words)
}

func partOf(r goals.Row, part, status string) (string, error) {
	switch part {
	case "":
		if r.N == 0 {
			return notMeasured, nil
		}
		return quantity.Quantity(r.Estimate, r.Unit), nil
	case "wanted":
		return strings.NewReplacer(">=", "at least", "<=", "at most").Replace(r.Wanted()), nil
	case "status", "verdict":
		return status, nil
	case "n":
		return fmt.Sprint(r.N), nil
	}
	return "", fmt.Errorf("%q is no part of it: wanted, status (or verdict), n", part)
}

// from names the hypotheses whose criterion is of the basis.
func (b *Book) from(basis goals.Basis) (string, error) {
	var names []string
	for _, f := range b.findings {
		if f.Basis == basis {
			names = append(names, f.Name)
		}
	}
	if len(names) == 0 {
		return "", fmt.Errorf("no hypothesis has its criterion from %q: %s, %s, %s", basis, goals.BasisValues, goals.BasisManual, goals.BasisSlide)
	}
	last := len(names) - 1
	if last == 0 {
		return names[0], nil
	}
	return strings.Join(names[:last], ", ") + " and " + names[last], nil
}

func count[T any](list []T, wanted string, status func(T) string) (string, error) {
	n := 0
	for _, x := range list {
		if wanted == "all" || status(x) == wanted {
			n++
		}
	}
	known := []string{"all", string(goals.Met), string(goals.NotMet), string(goals.Unclear), string(goals.NotMeasured), string(goals.Confirmed), string(goals.Refuted), string(goals.Undecided)}
	if !slices.Contains(known, wanted) {
		return "", fmt.Errorf("nothing is %q: %s", wanted, strings.Join(known, ", "))
	}
	return fmt.Sprint(n), nil
}

// value is that of one setting of an experiment.
func (b *Book) value(words []string) (string, error) {
	experiment := words[0]
	if b.runs[experiment] == nil {
		if !slices.Contains(known(), experiment) {
			return "", fmt.Errorf("there is no experiment %q: zbench list names them", experiment)
		}
		return notMeasured, nil
	}
	q := group.Query{Unit: words[1], Where: group.Selector{"experiment": experiment}, Against: group.Selector{}}
	unit := words[1]
	switch words[1] {
	case "cost":
		q.As, q.Unit, unit = group.Cost, results.NsPerOp, "x"
	case "speed":
		q.As, q.Unit, unit = group.Speed, results.NsPerOp, "x"
	}
	if err := choose(&q, words[2:]); err != nil {
		return "", err
	}
	set := b.measured
	if q.Where["model"] != "" {
		set = b.modelled
	}
	e, err := only(set, q)
	if err != nil {
		return "", err
	}
	return quantity.Quantity(e, unit), nil
}

// choose reads key=value into the query, behind "/" into its baseline.
func choose(q *group.Query, words []string) error {
	into := q.Where
	for _, w := range words {
		key, value, found := strings.Cut(w, "=")
		switch {
		case w == "/":
			into = q.Against
		case !found:
			return fmt.Errorf("%q is no key=value", w)
		default:
			into[key] = value
		}
	}
	if (q.As == group.Absolute) != (len(q.Against) == 0) {
		return errors.New("cost and speed, and only they, want a baseline behind a /")
	}
	return nil
}

// only returns the estimate of the one setting that the query finds.
func only(set results.Set, q group.Query) (stats.Estimate, error) {
	cells, warnings := group.Cells(set, q)
	switch {
	case len(cells) == 0 && len(warnings) > 0:
		return stats.Estimate{}, errors.New(strings.Join(warnings, "; "))
	case len(cells) == 0:
		return stats.Estimate{}, fmt.Errorf("the run has no %s sample of these settings and unit", set.Kind())
	case len(cells) > 1:
		return stats.Estimate{}, fmt.Errorf("%d settings fit, %s and %s for two: name more of them", len(cells), cells[0].Sample.Name(), cells[1].Sample.Name())
	}
	return cells[0].Estimate, nil
}

// known are the experiments that there are.
func known() []string {
	out := report.Experiments()
	for _, g := range goals.All() {
		out = append(out, g.Query.Where["experiment"])
	}
	return out
}
