// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/analysis/paper"
	"zumastor.org/zumastor/results"
)

// paperFlags are those of zbench paper.
type paperFlags struct {
	file, record, figures string
	from                  []string
	check                 bool
}

func (a *app) paperCommand() *cobra.Command {
	var f paperFlags
	cmd := &cobra.Command{
		Use:   "paper",
		Short: "Fill PAPER.md with the numbers and figures of runs, or check it",
		Long: `Paper makes every number, table and figure in the marks of PAPER.md anew, from the
runs that the record in git holds: for each experiment, the samples of one run.
--from takes the experiments of a run into the record first; give it more than
once for experiments of several runs. Later ones replace earlier ones. A run of
the suite smoke is too short for that: a draft with it goes into its directory,
paper/PAPER.md, with a note wherever the run lacks what the paper shows.

--check changes nothing and exits with code 3 if a number or figure is not what its
run gives, a mark refers to nothing, or a result stands outside of the marks.`,
		Args: between(0, 0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			if f.check && len(f.from) > 0 {
				return fmt.Errorf("%w: --check changes nothing, so that it takes no --from", errUsage)
			}
			if len(f.from) > 0 {
				return a.recordForPaper(f)
			}
			return a.renderPaper(f)
		},
	}
	cmd.Flags().StringSliceVar(&f.from, "from", nil, "`runs` whose experiments are taken into the record: names, directories or \"latest\"")
	cmd.Flags().BoolVar(&f.check, "check", false, "change nothing; exit with code 3 if the paper is not what its runs give")
	cmd.Flags().StringVar(&f.file, "file", "PAPER.md", "the `paper`")
	cmd.Flags().StringVar(&f.record, "record", "results/paper", "the `directory` with the record of the paper's runs")
	cmd.Flags().StringVar(&f.figures, "figures", "docs/paper", "the `directory` of figures, relative to the paper's")
	return cmd
}

// recordForPaper takes runs into the record and renders the paper. Both are tried on a copy of
// the record before: a paper that cannot be made of the runs leaves the record as it was.
func (a *app) recordForPaper(f paperFlags) error {
	tried, err := os.MkdirTemp("", "zbench-paper-")
	if err != nil {
		return fmt.Errorf("trying the record: %w", err)
	}
	defer os.RemoveAll(tried)
	if err := os.CopyFS(tried, os.DirFS(f.record)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("trying the record: %w", err)
	}
	runs, err := a.takeInto(tried, f.from)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(runs, paper.TooShort) {
		return errors.Join(a.renderPaper(f), a.draftPaper(f, tried, runs))
	}
	if _, _, err := edition(f, tried); err != nil {
		return err
	}
	for _, run := range runs {
		taken, err := paper.Record(run, f.record)
		if err != nil {
			return err
		}
		fmt.Fprintf(a.err, "%s: of run %s\n", strings.Join(taken, " "), run.Manifest().ID)
	}
	return a.renderPaper(f)
}

// takeInto takes runs into a record, and returns them.
func (a *app) takeInto(record string, names []string) ([]*results.Run, error) {
	var runs []*results.Run
	for _, name := range names {
		run, err := a.openRun([]string{name})
		if err != nil {
			return nil, err
		}
		if _, err := paper.Take(run, record); err != nil {
			return nil, err
		}
		runs = append(runs, run)
	}
	return runs, nil
}

// draftPaper writes the paper of a record with runs too short for the real one into the
// directory of the last run, and says what is not in it.
func (a *app) draftPaper(f paperFlags, record string, runs []*results.Run) error {
	text, err := os.ReadFile(f.file)
	if err != nil {
		return fmt.Errorf("reading the paper: %w", err)
	}
	book, err := paper.Load(record)
	if err != nil {
		return err
	}
	var names []string
	for _, run := range runs {
		names = append(names, fmt.Sprintf("%s (suite %s)", run.Manifest().ID, run.Manifest().Suite))
	}
	of := strings.Join(names, ", ")
	folder := path.Clean(filepath.ToSlash(f.figures))
	ed := book.Draft(text, folder)
	into := filepath.Join(runs[len(runs)-1].Dir(), "paper")
	file := filepath.Join(into, filepath.Base(f.file))
	banner := fmt.Sprintf("> **A draft**, not to be cited: with the experiments of %s, too short for the paper; all else is of the runs under Provenance.\n\n", of)
	if err := os.RemoveAll(into); err != nil {
		return fmt.Errorf("removing the draft before: %w", err)
	}
	for name, data := range ed.Figures {
		drawn := filepath.Join(into, filepath.FromSlash(folder), name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(drawn), 0o755), os.WriteFile(drawn, data, 0o644)); err != nil {
			return err
		}
	}
	if err := errors.Join(os.MkdirAll(into, 0o755), os.WriteFile(file, append([]byte(banner), ed.Text...), 0o644)); err != nil {
		return err
	}
	if len(ed.Problems) > 0 {
		fmt.Fprintf(a.err, "not in the draft:\n%s\n", listed(ed.Problems))
	}
	fmt.Fprintf(a.err, "%s keeps the runs that it has: those of %s are too short for it. A draft with them: %s\n", f.file, of, file)
	return nil
}

// edition renders the paper from a record. Without --check, a paper with problems is an error.
func edition(f paperFlags, record string) (ed paper.Edition, have map[string][]byte, err error) {
	text, err := os.ReadFile(f.file)
	if err != nil {
		return ed, nil, fmt.Errorf("reading the paper: %w", err)
	}
	book, err := paper.Load(record)
	if err != nil {
		return ed, nil, err
	}
	if have, err = drawings(f.drawn()); err != nil {
		return ed, nil, err
	}
	ed = book.Render(text, path.Clean(filepath.ToSlash(f.figures)))
	if len(ed.Problems) > 0 && !f.check {
		return ed, nil, fmt.Errorf("%s and its record stay as they were:\n%s", f.file, listed(ed.Problems))
	}
	return ed, have, nil
}

// drawn is the directory of figures.
func (f paperFlags) drawn() string { return filepath.Join(filepath.Dir(f.file), f.figures) }

// renderPaper makes the paper, or with --check compares it with what is there.
func (a *app) renderPaper(f paperFlags) error {
	ed, have, err := edition(f, f.record)
	if err != nil {
		return err
	}
	dir := f.drawn()
	if f.check {
		if found := append(ed.Problems, ed.Differences(have)...); len(found) > 0 {
			return fmt.Errorf("%w: %s:\n%s\nmake paper renders it anew", errCheck, f.file, listed(found))
		}
		return nil
	}
	for name := range have {
		if ed.Figures[name] == nil {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				return fmt.Errorf("removing a figure that the paper no longer has: %w", err)
			}
		}
	}
	for name, data := range ed.Figures {
		if err := results.Replace(filepath.Join(dir, name), data); err != nil {
			return err
		}
	}
	return results.Replace(f.file, ed.Text)
}

func listed(problems []paper.Problem) string {
	lines := make([]string, len(problems))
	for i, p := range problems {
		lines[i] = "  " + p.String()
	}
	return strings.Join(lines, "\n")
}

// drawings reads the figures in dir by name; none if there is no such directory.
func drawings(dir string) (map[string][]byte, error) {
	out := map[string][]byte{}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the paper's figures: %w", err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".svg") {
			continue
		}
		if out[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			return nil, fmt.Errorf("reading the paper's figures: %w", err)
		}
	}
	return out, nil
}
