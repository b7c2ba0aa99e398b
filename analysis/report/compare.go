// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"slices"
	"strings"

	"zumastor.org/zumastor/analysis/group"
	"zumastor.org/zumastor/analysis/page"
	"zumastor.org/zumastor/analysis/quantity"
	"zumastor.org/zumastor/analysis/regress"
	"zumastor.org/zumastor/results"
)

//go:embed compare.html
var compareText string

// comparison is what compare.html shows.
type comparison struct {
	Style  template.CSS
	Unit   string
	First  results.Manifest
	Others []results.Manifest
	// Machines says of each other run how its machine differs; the table is of all
	// properties of all.
	Machines   []machine
	Properties []compared
	Warnings   []string
	Pairs      []pair
	Advice     []advice
	Explorer   template.HTML
	Sections   []overlaid
}

// machine is how the machine of a run differs from that of the first.
type machine struct {
	Run         string
	Differences []string
	Timed       bool // both have measured samples
}

// compared is a line of the table of environments: a value a run.
type compared struct {
	Name    string
	Values  []string
	Differs bool
}

// pair is a run of one kind against the first.
type pair struct {
	regress.Report
	Old, New string
	Counts   []count
	Rows     []pairRow
	Maps     []heatMap
}

// count is how many settings have a verdict.
type count struct {
	Verdict regress.Verdict
	Class   string
	N       int
}

// pairRow is a setting with its numbers written out.
type pairRow struct {
	Parts []string // of its name, between which a line may end

	Old, New, Ratio, Interval, P, Verdict, Class string
}

// overlaid is the figures of an experiment with the runs as lines.
type overlaid struct {
	Experiment, Title string
	Kind              results.Kind
	Items             []item
}

// Comparison makes the page that compares runs with the first of them, by the values of
// unit: a document that needs no network. In what machines differ stands first, whatever
// is compared.
func Comparison(runs []*results.Run, unit string) ([]byte, error) {
	if len(runs) < 2 {
		return nil, errors.New("comparing runs: there must be two at least")
	}
	c := comparison{Style: page.Style(), Unit: unit, First: runs[0].Manifest()}
	if err := c.environments(runs); err != nil {
		return nil, err
	}
	for _, run := range runs[1:] {
		c.Others = append(c.Others, run.Manifest())
		for _, kind := range []results.Kind{results.Measured, results.Modelled} {
			if err := c.compare(runs[0], run, kind, unit); err != nil {
				return nil, err
			}
		}
	}
	alike := !slices.ContainsFunc(c.Machines, func(m machine) bool { return len(m.Differences) > 0 })
	c.Advice = adviseOn(runs, alike)
	if err := c.overlay(runs); err != nil {
		return nil, err
	}
	var err error
	if c.Explorer, err = page.Explorer(runs...); err != nil {
		return nil, err
	}
	t, err := template.New("compare").Parse(compareText)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, c); err != nil {
		return nil, fmt.Errorf("comparing runs: %w", err)
	}
	return b.Bytes(), nil
}

// environments notes in what the machines of the runs differ.
func (c *comparison) environments(runs []*results.Run) error {
	var all []results.Environment
	for i, run := range runs {
		e, err := run.Environment()
		if err != nil {
			return err
		}
		all = append(all, e)
		for _, w := range run.Manifest().Warnings {
			c.Warnings = append(c.Warnings, "Run "+run.Manifest().ID+": "+w)
		}
		if i > 0 {
			c.Machines = append(c.Machines, machine{
				Run: run.Manifest().ID, Differences: all[0].Differences(e), Timed: runs[0].Measured().Len() > 0 && run.Measured().Len() > 0,
			})
		}
	}
	// What a run is of is no property of its machine, but explains what differs.
	c.addProperty("commit", all, results.Environment.Revision)
	for i, p := range all[0].Machine() {
		c.addProperty(p.Key, all, func(e results.Environment) string { return e.Machine()[i].Value })
	}
	c.addProperty("load at start", all, func(e results.Environment) string { return e.LoadStart })
	return nil
}

func (c *comparison) addProperty(name string, all []results.Environment, of func(results.Environment) string) {
	p := compared{Name: name}
	known := false
	for _, e := range all {
		v := of(e)
		p.Values = append(p.Values, orNone(v))
		p.Differs = p.Differs || v != of(all[0])
		known = known || v != ""
	}
	if known {
		c.Properties = append(c.Properties, p)
	}
}

func orNone(v string) string {
	if v == "" {
		return quantity.None
	}
	return v
}

// ofKind returns a run's samples of a kind.
func ofKind(run *results.Run, kind results.Kind) results.Set {
	if kind == results.Modelled {
		return run.Modelled()
	}
	return run.Measured()
}

// compare adds a pair of runs of a kind, if both have samples of it.
func (c *comparison) compare(before, after *results.Run, kind results.Kind, unit string) error {
	old, new := ofKind(before, kind), ofKind(after, kind)
	if old.Len() == 0 || new.Len() == 0 {
		return nil
	}
	r, err := regress.Compare(old, new, unit, regress.Defaults())
	if err != nil {
		return err
	}
	p := pair{Report: r, Old: before.Manifest().ID, New: after.Manifest().ID}
	p.count()
	samples := map[string]results.Sample{}
	for s := range new.All() {
		samples[s.Name()] = s
	}
	var cells []group.Cell
	for _, row := range r.Rows {
		p.Rows = append(p.Rows, rowOf(row, kind))
		if row.Speed.N > 0 {
			cells = append(cells, group.Cell{Sample: samples[row.Name], Estimate: row.Speed})
		}
	}
	o := heatOptions{Name: "heat-" + p.New, What: "Speed", Subtitle: p.New + " against " + p.Old, Around1: true}
	if p.Maps, err = heatMaps(kind, o, cells); err != nil {
		return err
	}
	c.Pairs = append(c.Pairs, p)
	return nil
}

func (p *pair) count() {
	for _, v := range []regress.Verdict{regress.Better, regress.Worse, regress.Same, regress.Unknown} {
		n := 0
		for _, row := range p.Report.Rows {
			if row.Verdict == v {
				n++
			}
		}
		p.Counts = append(p.Counts, count{v, verdictClass(v), n})
	}
}

func rowOf(r regress.Row, kind results.Kind) pairRow {
	out := pairRow{
		Parts: strings.Split(r.Name, "/"), Old: quantity.Quantity(r.Old, r.Unit), New: quantity.Quantity(r.New, r.Unit), Ratio: quantity.None, Interval: quantity.None,
		P: quantity.None, Verdict: string(r.Verdict), Class: verdictClass(r.Verdict),
	}
	if r.Speed.N == 0 {
		return out
	}
	out.Ratio, out.Interval = quantity.Decimals(r.Speed.Center, 3)+" x", "exact"
	if kind == results.Measured {
		out.P = quantity.Decimals(r.P, 3)
		out.Interval = quantity.Decimals(r.Speed.Lo, 3) + " to " + quantity.Decimals(r.Speed.Hi, 3)
	}
	return out
}

// verdictClass returns the class of the style sheet that a verdict is shown by.
func verdictClass(v regress.Verdict) string {
	switch v {
	case regress.Better:
		return "met"
	case regress.Worse:
		return "not-met"
	case regress.Same:
		return "not-measured"
	}
	return "unclear"
}

// runKey is the setting that samples of several runs are told apart by.
const runKey = "run"

// together returns the samples of all runs, each with the run that it is of.
func together(runs []*results.Run, kind results.Kind) (results.Set, error) {
	var all []results.Sample
	for _, run := range runs {
		for s := range ofKind(run, kind).All() {
			s.Config = slices.Concat(s.Config, results.Conf(runKey, run.Manifest().ID))
			all = append(all, s)
		}
	}
	return results.NewSet(kind, all...)
}

// overlay makes the report's figures with the runs as lines: one for each of the lines
// that the report's figure has.
func (c *comparison) overlay(runs []*results.Run) error {
	for _, kind := range []results.Kind{results.Measured, results.Modelled} {
		set, err := together(runs, kind)
		if err != nil {
			return err
		}
		for _, s := range sections() {
			o := overlaid{Experiment: s.Experiment, Title: s.Title, Kind: kind}
			for _, f := range s.figures {
				items, err := f.overlaid(set)
				if err != nil {
					return err
				}
				o.Items = append(o.Items, items...)
			}
			if len(o.Items) > 0 {
				c.Sections = append(c.Sections, o)
			}
		}
	}
	return nil
}

// overlaid draws the figure for each value of its lines' key that two runs have.
func (f figure) overlaid(set results.Set) (items []item, err error) {
	g := f
	g.each = slices.Clone(f.each)
	if f.query.Line != "" {
		g.each = append(g.each, f.query.Line)
	}
	g.query.Line = runKey
	for _, part := range g.split(set) {
		if part.runs(set) < 2 {
			continue
		}
		it, _, err := part.make(set)
		if err != nil {
			return nil, err
		}
		if it != nil {
			it.Alt = joined(part.Title, part.Subtitle)
			items = append(items, *it)
		}
	}
	return items, nil
}

// runs returns how many runs have samples for the figure.
func (f figure) runs(set results.Set) int {
	seen := map[string]bool{}
	for s := range set.Filter(f.query.Where.Match).All() {
		seen[s.Config.Get(runKey)] = true
	}
	return len(seen)
}
