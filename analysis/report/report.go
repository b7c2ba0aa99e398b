// SPDX-License-Identifier: Apache-2.0

// Package report makes what a run leaves for its readers: report.html, the
// figures, the tables and summary.json.
//
// It owns which figures and tables there are and the sentences beside them
// (sections.go, and where.go for where the time went) and the page (page.html). It
// measures nothing and computes only through goals, group and where. zbench calls [Write] at the end of a run and at any
// time later; the same record gives the same files. The page needs no network:
// figures and styles are in it. Measured and modelled figures have sections of
// their own. A figure that cannot be made of the samples becomes a warning, not
// a failure; errors are those of writing.
package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"slices"
	"strings"

	"zumastor.org/zumastor/analysis/goals"
	"zumastor.org/zumastor/analysis/group"
	"zumastor.org/zumastor/analysis/page"
	"zumastor.org/zumastor/analysis/plot"
	"zumastor.org/zumastor/analysis/quantity"
	"zumastor.org/zumastor/analysis/table"
	"zumastor.org/zumastor/results"
)

//go:embed page.html
var pageText string

// File is the name of the report in a run's directory.
const File = "report.html"

// view is what page.html shows.
type view struct {
	Style       template.CSS
	Manifest    results.Manifest
	Environment results.Environment
	Rows        []property
	Verdict     verdict
	Goals       []goalTable
	Findings    []findingRow // without those that the run has no samples for
	Explorer    template.HTML
	Parts       []part
	Where       template.HTML // where the time went
}

// property is a line of the environment.
type property struct{ Name, Value string }

// verdict counts the goals by status.
type verdict struct{ Met, NotMet, Unclear, NotMeasured int }

// goalTable is the goals of one kind.
type goalTable struct {
	Kind results.Kind
	Rows []goalRow
}

// goalRow is a goal with its numbers written out.
type goalRow struct {
	goals.Row
	Value, Samples, Wanted, Class string
}

// part is the sections of one kind.
type part struct {
	Title, Intro string
	Maps         []heatMap
	Sections     []filled
}

// filled is a section with what its samples made of it.
type filled struct {
	section
	Items    []item
	Warnings []string
}

// item is a figure, with the table of its numbers if it has one.
type item struct {
	Name   string
	Alt    string
	Image  template.URL
	Header []string
	Rows   [][]string

	svg, png []byte
	table    *table.Table
}

// Write makes the report of a run and all that belongs to it, in the run's
// directory.
func Write(run *results.Run) error {
	summary := goals.Evaluate(run)
	if err := run.WriteJSON(results.SummaryFile, summary); err != nil {
		return err
	}
	p, times, err := compose(run, summary)
	if err != nil {
		return fmt.Errorf("making the report of run %s: %w", run.Manifest().ID, err)
	}
	for _, part := range p.Parts {
		if err := writeMaps(run, part.Maps); err != nil {
			return err
		}
		for _, s := range part.Sections {
			if err := writeItems(run, s.Items); err != nil {
				return err
			}
		}
	}
	if err := writeWhere(run, times); err != nil {
		return err
	}
	html, err := render(p)
	if err != nil {
		return fmt.Errorf("making the report of run %s: %w", run.Manifest().ID, err)
	}
	return run.WriteFile(File, html)
}

// Page makes the page that [Write] leaves as report.html, and writes no file.
func Page(run *results.Run) ([]byte, error) {
	p, _, err := compose(run, goals.Evaluate(run))
	if err == nil {
		var html []byte
		if html, err = render(p); err == nil {
			return html, nil
		}
	}
	return nil, fmt.Errorf("making the report of run %s: %w", run.Manifest().ID, err)
}

// compose makes all that the page shows.
func compose(run *results.Run, summary goals.Summary) (view, []wherePart, error) {
	p, err := build(run, summary)
	if err != nil {
		return view{}, nil, err
	}
	times, err := buildWhere(run)
	if err != nil {
		return view{}, nil, err
	}
	p.Where, err = renderWhere(times)
	return p, times, err
}

func writeItems(run *results.Run, items []item) error {
	for _, it := range items {
		files := map[string][]byte{"figures/" + it.Name + ".svg": it.svg, "figures/" + it.Name + ".png": it.png}
		if it.table != nil {
			for ext, format := range map[string]table.Format{".txt": table.Text, ".md": table.Markdown} {
				var b bytes.Buffer
				if err := it.table.Write(&b, format); err != nil {
					return err
				}
				files["tables/"+it.Name+ext] = b.Bytes()
			}
		}
		for name, data := range files {
			if err := run.WriteFile(name, data); err != nil {
				return err
			}
		}
	}
	return nil
}

func render(p view) ([]byte, error) {
	t, err := template.New("page").Parse(pageText)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, p); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func build(run *results.Run, summary goals.Summary) (view, error) {
	env, err := run.Environment()
	if err != nil {
		return view{}, err
	}
	p := view{Style: page.Style(), Manifest: run.Manifest(), Environment: env, Rows: properties(env)}
	p.Goals, p.Verdict = goalTables(summary.Goals)
	p.Findings = tested(goals.Test(goals.Hypotheses(), run.Measured(), run.Modelled()))
	if p.Explorer, err = page.Explorer(run); err != nil {
		return view{}, err
	}
	for _, kind := range []results.Kind{results.Measured, results.Modelled} {
		part, err := buildPart(run, kind)
		if err != nil {
			return view{}, err
		}
		if len(part.Sections) > 0 {
			p.Parts = append(p.Parts, part)
		}
	}
	return p, nil
}

func buildPart(run *results.Run, kind results.Kind) (part, error) {
	p := part{Title: "Measured", Intro: "Wall-clock times of this machine. Ratios are of samples taken in turns: the median over rounds, with the interval in which the true median lies with 95 % confidence."}
	set := run.Measured()
	if kind == results.Modelled {
		p = part{Title: "Modelled", Intro: "Exact I/O sequences put through stated device models. The same on every machine and in every run; not comparable with measured times."}
		set = run.Modelled()
	}
	var err error
	if p.Maps, err = heatMaps(kind, heatOptions{Name: "heat", What: "Time against raw"}, costs(set)); err != nil {
		return part{}, err
	}
	for _, s := range sections() {
		f, err := fill(s, set)
		if err != nil {
			return part{}, err
		}
		if len(f.Items)+len(f.Warnings) > 0 {
			p.Sections = append(p.Sections, f)
		}
	}
	return p, nil
}

// fill makes the section's figures from samples of one kind. Figures without
// samples are left out.
func fill(s section, set results.Set) (filled, error) {
	out := filled{section: s}
	if set.Kind() == results.Modelled && s.Modelled != "" {
		out.Says = s.Modelled
	}
	for _, f := range s.figures {
		for _, part := range f.split(set) {
			it, warnings, err := part.make(set)
			if err != nil {
				return filled{}, err
			}
			out.Warnings = append(out.Warnings, warnings...)
			if it == nil {
				continue
			}
			out.Items = append(out.Items, *it)
		}
	}
	return out, nil
}

// make draws the figure; nil when there are no samples for it.
func (f figure) make(set results.Set) (it *item, warnings []string, err error) {
	var chart *plot.Chart
	it = &item{Name: fmt.Sprintf("%s-%s", f.Name, set.Kind()), Alt: f.Title}
	if f.shape == percentiles {
		d, err := group.Latencies(set, f.query.Where, f.query.Line)
		if err != nil {
			return nil, []string{fmt.Sprintf("figure %q: %v", f.Title, err)}, nil
		}
		if len(d.List) == 0 {
			return nil, nil, nil
		}
		chart = plot.Percentiles(f.Figure, d)
	} else {
		s, err := group.Select(set, f.query)
		if err != nil {
			return nil, []string{fmt.Sprintf("figure %q: %v", f.Title, err)}, nil
		}
		warnings = s.AllWarnings()
		if len(s.Lines) == 0 {
			return nil, warnings, nil
		}
		t := table.OfSeries(s, f.X.Label, f.X.Unit)
		it.table, it.Header, it.Rows = &t, t.Header, t.Rows
		s.Lines = slices.DeleteFunc(s.Lines, func(l group.Line) bool { return l.Name == f.apart })
		chart = plot.Lines(f.Figure, s)
		if f.shape == bars {
			chart = plot.Bars(f.Figure, s)
		}
	}
	if it.svg, err = chart.SVG(); err != nil {
		return nil, nil, err
	}
	if it.png, err = chart.PNG(); err != nil {
		return nil, nil, err
	}
	it.Image = page.Image(it.svg)
	return it, warnings, nil
}

func goalTables(rows []goals.Row) (tables []goalTable, v verdict) {
	for _, kind := range []results.Kind{results.Measured, results.Modelled} {
		t := goalTable{Kind: kind}
		for _, r := range rows {
			if r.Kind == kind {
				t.Rows = append(t.Rows, writtenOut(r))
			}
		}
		tables = append(tables, t)
	}
	for _, r := range rows {
		switch r.Status {
		case goals.Met:
			v.Met++
		case goals.NotMet:
			v.NotMet++
		case goals.Unclear:
			v.Unclear++
		default:
			v.NotMeasured++
		}
	}
	return tables, v
}

func writtenOut(r goals.Row) goalRow {
	samples := fmt.Sprintf("n = %d", r.N)
	switch {
	case r.N == 0:
		samples = ""
	case r.Kind == results.Modelled:
		samples = "exact"
	}
	return goalRow{
		Row: r, Value: quantity.Quantity(r.Estimate, r.Unit), Samples: samples,
		Wanted: strings.NewReplacer(">=", "≥", "<=", "≤").Replace(r.Wanted()),
		Class:  strings.ReplaceAll(string(r.Status), " ", "-"),
	}
}

func properties(e results.Environment) []property {
	direct := "no: the page cache is in the numbers"
	if e.Storage.Direct {
		direct = "yes"
	}
	var steal, noise string
	if e.StealPercent > 0 {
		steal = quantity.Decimals(e.StealPercent, 1) + " %"
	}
	if e.Noise != nil {
		noise = e.Noise.String()
	}
	all := []property{
		{"Processor", fmt.Sprintf("%s, %d CPUs", e.CPU, e.CPUs)}, {"Memory", quantity.Value(float64(e.MemoryBytes), "B")},
		{"CPU quota", e.CPUQuota}, {"Memory limit", e.MemoryLimit}, {"I/O limit", e.IOLimit}, {"Governor", e.Governor}, {"Huge pages", e.HugePages}, {"Virtualisation", e.Virtualisation},
		{"Kernel", e.Kernel}, {"Distribution", e.Distribution}, {"Go", e.Go}, {"Commit", e.Revision()},
		{"File system", strings.TrimSpace(e.Storage.FileSystem + " " + e.Storage.MountOptions)}, {"O_DIRECT", direct},
		{"Device", strings.TrimSpace(e.Storage.Device + " " + e.Storage.Model)}, {"Scheduler", e.Storage.Scheduler},
		{"Rotational", e.Storage.Rotational}, {"Write cache", e.Storage.WriteCache},
		{"Load at start", e.LoadStart}, {"Load at end", e.LoadEnd}, {"Stolen by the host", steal}, {"Noise before", noise},
	}
	var out []property
	for _, p := range all {
		if p.Value != "" {
			out = append(out, p)
		}
	}
	return out
}
