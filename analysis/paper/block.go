// SPDX-License-Identifier: Apache-2.0

package paper

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"zumastor.org/zumastor/analysis/goals"
	"zumastor.org/zumastor/analysis/report"
	"zumastor.org/zumastor/analysis/table"
	"zumastor.org/zumastor/results"
)

// fill makes what a block says:
//
//	figure NAME             a figure of the report, with its caption
//	table NAME              the numbers of that figure
//	goals [measured|modelled] [EXPERIMENT...]
//	hypotheses              all, with verdicts
//	provenance              which run each experiment is of
func (r *renderer) fill(what string) (string, error) {
	words := strings.Fields(what)
	switch words[0] {
	case "figure", "table":
		if len(words) != 2 {
			return "", errors.New("it takes the name of one figure")
		}
		return r.exhibit(words[1], words[0] == "figure")
	case "goals":
		return r.goals(words[1:])
	case "hypotheses":
		return r.hypotheses()
	case "provenance":
		return markdown(r.book.provenance())
	}
	return "", fmt.Errorf("there is no block %q: figure, table, goals, hypotheses, provenance", words[0])
}

// exhibit shows a figure, or the table of its numbers.
func (r *renderer) exhibit(name string, drawn bool) (string, error) {
	x, experiment, ok, err := report.Exhibited(r.book.measured, r.book.modelled, name)
	switch {
	case err != nil:
		return "", err
	case experiment == "":
		return "", errors.New("the report has no figure of this name")
	case !ok && r.book.runs[experiment] != nil:
		return "", fmt.Errorf("the run of %s has no samples for this figure", experiment)
	case !ok:
		return fmt.Sprintf("*(%s is not measured yet.)*", experiment), nil
	case !drawn && x.Table == nil:
		return "", errors.New("the figure is of distributions and has no table")
	}
	m := r.book.runs[experiment].Manifest()
	title := x.Title
	if x.Subtitle != "" {
		title += ": " + x.Subtitle
	}
	caption := fmt.Sprintf("*%s. %s, experiment %s of run %s.*", title, capital(x.Kind), experiment, m.ID)
	if !drawn {
		text, err := markdown(*x.Table)
		return text + "\n" + caption, err
	}
	r.ed.Figures[name+".svg"] = x.SVG
	return fmt.Sprintf("![%s](%s/%s.svg)\n\n%s", title, r.folder, name, caption), nil
}

// hypotheses makes the table of all, with a link to the figure that shows each.
func (r *renderer) hypotheses() (string, error) {
	measured, modelled := table.OfFindings(r.book.findings)
	for _, t := range []*table.Table{&measured, &modelled} {
		t.Header = append(t.Header, "shown by")
		next := 0
		for _, f := range r.book.findings {
			if f.Kind != t.Kind {
				continue
			}
			link := ""
			if f.Verdict != goals.Untested {
				_, err := r.exhibit(f.Figure, true)
				if err != nil && !r.draft {
					return "", fmt.Errorf("figure %s of %s: %w", f.Figure, f.Name, err)
				}
				if err != nil {
					link = notInRun
				} else {
					link = fmt.Sprintf("[figure](%s/%s.svg)", r.folder, f.Figure)
				}
			}
			t.Rows[next] = append(t.Rows[next], link)
			next++
		}
	}
	return both(measured, modelled)
}

func capital(k results.Kind) string { return strings.ToUpper(string(k[:1])) + string(k[1:]) }

// goals makes the table of those of one kind, or of both; of the experiments named, or all.
func (r *renderer) goals(words []string) (string, error) {
	kind := results.Kind("")
	if len(words) > 0 && (words[0] == string(results.Measured) || words[0] == string(results.Modelled)) {
		kind, words = results.Kind(words[0]), words[1:]
	}
	for _, w := range words {
		if !slices.Contains(known(), w) {
			return "", fmt.Errorf("there is no experiment %q: zbench list names them", w)
		}
	}
	var rows []goals.Row
	for i, g := range goals.All() {
		if (kind == "" || g.Kind == kind) && (len(words) == 0 || slices.Contains(words, g.Query.Where["experiment"])) {
			rows = append(rows, r.book.rows[i])
		}
	}
	measured, modelled := table.OfGoals(rows)
	return both(measured, modelled)
}

// both writes two tables with what they are of, without one that is empty.
func both(measured, modelled table.Table) (string, error) {
	var out []string
	for _, t := range []table.Table{measured, modelled} {
		if len(t.Rows) == 0 {
			continue
		}
		text, err := markdown(t)
		if err != nil {
			return "", err
		}
		out = append(out, capital(t.Kind)+":\n\n"+text)
	}
	return strings.Join(out, "\n"), nil
}

func markdown(t table.Table) (string, error) {
	var b strings.Builder
	err := t.Write(&b, table.Markdown)
	return b.String(), err
}

// provenance says which run each experiment is of, and where that took place.
func (b *Book) provenance() table.Table {
	t := table.Table{
		Header:  []string{"experiment", "run", "suite", "revision", "date", "rounds", "machine", "noise before"},
		Numeric: []bool{false, false, false, false, false, true, false, false},
	}
	for _, name := range b.Experiments() {
		run := b.runs[name]
		m := run.Manifest()
		env, err := run.Environment()
		if err != nil {
			env = results.Environment{}
		}
		noise := "not checked"
		if env.Noise != nil {
			noise = env.Noise.String()
			if env.Noise.Noisy() {
				noise = "NOISY: " + noise
			}
		}
		revision := env.Commit
		if revision == "" {
			revision = "unknown"
		}
		revision, dirty, _ := strings.Cut(revision, "-")
		revision = revision[:min(12, len(revision))]
		if dirty != "" {
			revision += "-" + dirty
		}
		if env.RevisionSource == results.FromWorktree {
			revision += " (of the working directory)"
		}
		t.Rows = append(t.Rows, []string{
			name, m.ID, m.Suite, revision, m.Start.UTC().Format("2006-01-02"), fmt.Sprint(run.Rounds(name)),
			fmt.Sprintf("%s, %d CPUs, %s", env.CPU, env.CPUs, env.Kernel), noise,
		})
	}
	return t
}
