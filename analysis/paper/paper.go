// SPDX-License-Identifier: Apache-2.0

// Package paper fills the marks of PAPER.md with numbers, tables and figures of runs, and
// says where the paper and its runs differ.
//
// It owns the syntax of marks (marks.go), what they may refer to (number.go, block.go),
// the record of the runs behind the paper ([Book], results/paper in git), and the rule
// that no result stands outside a mark (stray.go). It computes through goals, group and
// report only, so that the paper says what a run's report says. zbench paper calls it.
// A Book is immutable once loaded. A mark that refers to nothing is a [Problem] that
// names its line, never a panic; what was not measured yet says so in the text.
package paper

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"zumastor.org/zumastor/analysis/goals"
	"zumastor.org/zumastor/results"
)

// Book is the runs that the paper's numbers are from, one for each experiment.
type Book struct {
	runs               map[string]*results.Run
	measured, modelled results.Set
	rows               []goals.Row
	findings           []goals.Finding
}

// Load reads the record in dir: a folder for each experiment. A folder that does not
// exist is an empty book.
func Load(dir string) (*Book, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the paper's runs: %w", err)
	}
	b := &Book{runs: map[string]*results.Run{}}
	var measured, modelled []results.Sample
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		run, err := results.Open(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("reading the paper's runs: %w", err)
		}
		b.runs[e.Name()] = run
		measured = slices.AppendSeq(measured, run.Measured().All())
		modelled = slices.AppendSeq(modelled, run.Modelled().All())
	}
	if b.measured, err = results.NewSet(results.Measured, measured...); err != nil {
		return nil, err
	}
	if b.modelled, err = results.NewSet(results.Modelled, modelled...); err != nil {
		return nil, err
	}
	b.rows = goals.EvaluateAll(goals.All(), b.measured, b.modelled)
	b.findings = goals.Test(goals.Hypotheses(), b.measured, b.modelled)
	return b, nil
}

// Record takes the experiments that the run completed into the record in dir, in place of
// what it has of them, and returns their names. A run of the smoke suite, which is too short
// for figures, one that is a part of a run, and one that completed nothing are errors.
func Record(run *results.Run, dir string) ([]string, error) {
	if m := run.Manifest(); TooShort(run) {
		return nil, fmt.Errorf("run %s is of the suite %s, which is too short for the paper's figures: name another run", m.ID, m.Suite)
	}
	return Take(run, dir)
}

// TooShort says whether a run is of a suite that only tries whether everything works.
func TooShort(run *results.Run) bool { return run.Manifest().Suite == "smoke" }

// Take is [Record] for drafts, which may be of any suite.
func Take(run *results.Run, dir string) ([]string, error) {
	m := run.Manifest()
	if partial := run.Partial(); partial != "" && !(m.Merged && len(m.Completed) > 0) {
		return nil, fmt.Errorf("run %s is no run for the paper: %s", m.ID, partial)
	}
	if len(m.Completed) == 0 {
		return nil, fmt.Errorf("run %s completed no experiment: zbench run --resume %s goes on with it", m.ID, m.ID)
	}
	for _, e := range m.Completed {
		if err := run.Excerpt(filepath.Join(dir, e), e); err != nil {
			return nil, err
		}
	}
	return m.Completed, nil
}

// Experiments returns what the book has runs of, in the order of the names.
func (b *Book) Experiments() []string { return slices.Sorted(maps.Keys(b.runs)) }

// Problem is what is wrong with the paper at a line; 0 for a figure's file.
type Problem struct {
	Line int
	Text string
}

func (p Problem) String() string {
	if p.Line == 0 {
		return p.Text
	}
	return fmt.Sprintf("line %d: %s", p.Line, p.Text)
}

// Edition is a paper with its marks filled.
type Edition struct {
	Text []byte
	// Figures are the drawings by their file's name.
	Figures map[string][]byte
	// Problems are marks that cannot be filled and results outside of marks.
	Problems []Problem
	changes  []Problem
}

// Render fills the marks of text; figures are referred to in the folder that the link
// from the paper names, "docs/paper".
func (b *Book) Render(text []byte, folder string) Edition {
	return b.render(text, &renderer{folder: folder})
}

// Draft renders, too, but where a mark cannot be filled, the text says so in place of what
// it had. Its problems are what is not in the draft.
func (b *Book) Draft(text []byte, folder string) Edition {
	return b.render(text, &renderer{folder: folder, draft: true})
}

func (b *Book) render(text []byte, r *renderer) Edition {
	r.book, r.ed = b, Edition{Figures: map[string][]byte{}}
	lines := strings.Split(string(text), "\n")
	r.ed.Problems = stray(lines)
	for i := 0; i < len(lines); {
		i = r.line(lines, i)
	}
	r.ed.Text = []byte(strings.Join(r.out, "\n"))
	slices.SortStableFunc(r.ed.Problems, func(a, b Problem) int { return a.Line - b.Line })
	return r.ed
}

// Differences says what of the paper is not what its runs give: numbers and blocks by
// their lines, then figures whose files, in have by name, differ, lack or are not used.
func (e Edition) Differences(have map[string][]byte) []Problem {
	out := slices.Clone(e.changes)
	for _, name := range slices.Sorted(maps.Keys(e.Figures)) {
		switch data, there := have[name]; {
		case !there:
			out = append(out, Problem{Text: fmt.Sprintf("figure %s is not there", name)})
		case !bytes.Equal(data, e.Figures[name]):
			out = append(out, Problem{Text: fmt.Sprintf("figure %s is not what its run gives", name)})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(have)) {
		if _, used := e.Figures[name]; !used {
			out = append(out, Problem{Text: fmt.Sprintf("figure %s is not in the paper", name)})
		}
	}
	return out
}
