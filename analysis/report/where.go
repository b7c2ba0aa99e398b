// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"slices"
	"strings"

	"zumastor.org/zumastor/analysis/page"
	"zumastor.org/zumastor/analysis/table"
	"zumastor.org/zumastor/analysis/where"
	"zumastor.org/zumastor/results"
)

//go:embed where.html
var whereText string

// wherePart is where the time of one kind went, an experiment a section.
type wherePart struct {
	Title, Intro string
	Sections     []whereSection
	Unseen       string // experiments whose requests nobody saw, of a run that does not say why
}

// whereSection is an experiment's.
type whereSection struct {
	Experiment, Title string
	Looked            string // how, or why not
	Figures           []item
	Tables            []whereTable
	Warnings          []string
}

// whereTable is a table that is folded until somebody wants to see it.
type whereTable struct {
	where.Table
	Open bool
}

// Columns returns the classes of the table's columns.
func (t whereTable) Columns() []string {
	all := make([]string, len(t.Header))
	for i := range all {
		all[i] = "word"
		if i < len(t.Numeric) && t.Numeric[i] {
			all[i] = "num"
		}
	}
	return all
}

// buildWhere makes what the accounts of a run, and its probes, tell of where the time
// went.
func buildWhere(run *results.Run) (parts []wherePart, err error) {
	for _, part := range []struct {
		kind         results.Kind
		title, intro string
	}{
		{results.Measured, "Where the time went, measured", "Mean times of the requests that were looked at, from when the volume was asked until it answered. Stages follow one another, so they add up; in grey ones a request waits for others. Amplification and distances are of all operations. The wall time has the making of the content in it. The store is taken to be behind the origin on one disk."},
		{results.Modelled, "Where the time went, modelled", "The same on the models, exactly: requests are submitted in groups, and a group's time is divided among its requests. Only devices take time."},
	} {
		p := wherePart{Title: part.title, Intro: part.intro}
		var unseen []string
		for _, e := range experimentsOf(run) {
			s, err := whereSectionOf(run, e, part.kind)
			if err != nil {
				return nil, err
			}
			if len(s.Figures)+len(s.Tables) > 0 || s.Looked != "" {
				p.Sections = append(p.Sections, s)
			} else if part.kind == results.Measured && hasOps(run, e.Experiment) {
				unseen = append(unseen, e.Experiment)
			}
		}
		p.Unseen = strings.Join(unseen, ", ")
		if len(p.Sections)+len(unseen) > 0 {
			parts = append(parts, p)
		}
	}
	return parts, nil
}

// experimentsOf returns the experiments that a run has samples of, in the order of the
// report.
func experimentsOf(run *results.Run) []section {
	all := sections()
	for _, set := range []results.Set{run.Measured(), run.Modelled()} {
		for s := range set.All() {
			if !slices.ContainsFunc(all, func(have section) bool { return have.Experiment == s.Experiment }) {
				all = append(all, section{Experiment: s.Experiment})
			}
		}
	}
	return slices.DeleteFunc(all, func(s section) bool {
		found := false
		for _, set := range []results.Set{run.Measured(), run.Modelled()} {
			found = found || set.Filter(func(x results.Sample) bool { return x.Experiment == s.Experiment }).Len() > 0
		}
		return !found
	})
}

func whereSectionOf(run *results.Run, e section, kind results.Kind) (s whereSection, err error) {
	s = whereSection{Experiment: e.Experiment, Title: e.Title}
	accounts, err := run.Accounts(e.Experiment)
	if err != nil {
		return s, err
	}
	accounts = slices.DeleteFunc(accounts, func(a results.Account) bool { return a.Kind != kind })
	if len(accounts) > 0 {
		if err := s.add(accounts); err != nil {
			return s, err
		}
	}
	if kind != results.Measured {
		return s, nil
	}
	s.Looked = run.Manifest().Looked[e.Experiment]
	return s, s.addProbes(run, len(accounts) == 0)
}

// hasOps reports whether requests of an experiment were timed.
func hasOps(run *results.Run, experiment string) bool {
	return run.Measured().Filter(func(s results.Sample) bool {
		_, timed := s.Values[results.IOPS]
		return s.Experiment == experiment && timed
	}).Len() > 0
}

// draw adds a figure.
func (s *whereSection) draw(p where.Picture) (err error) {
	it := item{Name: p.Name, Alt: p.Title}
	if it.svg, err = p.Chart.SVG(); err != nil {
		return err
	}
	if it.png, err = p.Chart.PNG(); err != nil {
		return err
	}
	it.Image = page.Image(it.svg)
	s.Figures = append(s.Figures, it)
	return nil
}

// add makes the figures and tables of accounts.
func (s *whereSection) add(accounts []results.Account) error {
	for _, p := range append(where.Bars(accounts), where.Distances(accounts)...) {
		if err := s.draw(p); err != nil {
			return err
		}
	}
	for _, t := range where.Tables(accounts) {
		s.Tables = append(s.Tables, whereTable{Table: t, Open: strings.HasSuffix(t.Name, "-path-"+string(t.Kind))})
	}
	differ := 0
	for _, a := range accounts {
		if c, ok := where.Checked(a); ok && c.Verdict() == where.Differ {
			differ++
		}
	}
	if differ > 0 {
		s.Warnings = append(s.Warnings, fmt.Sprintf("The stages of %d of %d settings differ from their wall time by more than 5 %%: see the sums below.", differ, len(accounts)))
	}
	return nil
}

// writeWhere writes the figures and tables into the run's directory.
func writeWhere(run *results.Run, parts []wherePart) error {
	for _, p := range parts {
		for _, s := range p.Sections {
			if err := writeItems(run, s.Figures); err != nil {
				return err
			}
			for _, t := range s.Tables {
				for ext, format := range map[string]table.Format{".txt": table.Text, ".md": table.Markdown} {
					var b bytes.Buffer
					if err := t.Write(&b, format); err != nil {
						return err
					}
					if err := run.WriteFile("tables/"+t.Name+ext, b.Bytes()); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// renderWhere returns the parts as HTML.
func renderWhere(parts []wherePart) (template.HTML, error) {
	t, err := template.New("where").Parse(whereText)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, parts); err != nil {
		return "", err
	}
	return template.HTML(b.String()), nil
}

// addProbes makes the tables, and the figure if one is wanted, of what eBPF probes counted
// while an experiment was measured, if there were any.
func (s *whereSection) addProbes(run *results.Run, figure bool) error {
	var reading where.Probes
	err := run.ReadJSON("probes-"+s.Experiment+".json", &reading)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if p, ok := where.ProbeBars(s.Experiment, reading); ok && figure {
		if err := s.draw(p); err != nil {
			return err
		}
	}
	for _, t := range where.ProbeTables(s.Experiment, reading) {
		s.Tables = append(s.Tables, whereTable{Table: t})
	}
	return nil
}
