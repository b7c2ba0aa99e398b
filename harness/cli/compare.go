// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/analysis/regress"
	"zumastor.org/zumastor/analysis/report"
	"zumastor.org/zumastor/analysis/table"
	"zumastor.org/zumastor/results"
)

func (a *app) compareCommand() *cobra.Command {
	var check, across, markdown bool
	var unit, page string
	cmd := &cobra.Command{
		Use:   "compare OLD NEW [NEWER...]",
		Short: "Compare runs with the first of them, setting by setting",
		Long:  "Compare prints how each setting's speed has changed. Modelled figures must be equal;\nmeasured ones of one machine at two times say less than ratios within a run. Those of\nmachines that differ are compared with --across only, which says in what they differ.",
		Args:  between(2, 16, "the names of two runs or more"),
		RunE: func(_ *cobra.Command, args []string) error {
			format := table.Text
			if markdown {
				format = table.Markdown
			}
			var runs []*results.Run
			for i := range args {
				run, err := a.openRun(args[i:])
				if err != nil {
					return err
				}
				runs = append(runs, run)
			}
			worse, err := a.compareAll(runs, across, unit, format)
			if err == nil && page != "" {
				err = a.comparePage(page, runs, unit)
			}
			if err != nil {
				return err
			}
			if check && worse > 0 {
				return fmt.Errorf("%w: %d settings got worse", errCheck, worse)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "exit with code 3 if anything got worse")
	cmd.Flags().BoolVar(&markdown, "markdown", false, "print Markdown, for a pull request")
	cmd.Flags().StringVar(&page, "html", "", "write a page with tables and figures to a `file`, too")
	cmd.Flags().BoolVar(&across, "across", false, "compare measured values though the machines differ")
	cmd.Flags().StringVar(&unit, "unit", results.NsPerOp, "the `unit` to compare")
	return cmd
}

// compareAll prints each run against the first and returns how many settings got worse.
func (a *app) compareAll(runs []*results.Run, across bool, unit string, format table.Format) (worse int, err error) {
	for _, after := range runs[1:] {
		if err := a.sameMachine(runs[0], after, across); err != nil {
			return worse, err
		}
		n, err := a.compare(runs[0], after, unit, format)
		worse += n
		if err != nil {
			return worse, err
		}
	}
	return worse, nil
}

// comparePage writes the page of the comparison, which needs no other file.
func (a *app) comparePage(name string, runs []*results.Run, unit string) error {
	html, err := report.Comparison(runs, unit)
	if err != nil {
		return err
	}
	if err := os.WriteFile(name, html, 0o644); err != nil {
		return fmt.Errorf("writing the comparison: %w", err)
	}
	_, err = fmt.Fprintf(a.out, "%s\n", name)
	return err
}

// compare prints both kinds and returns how many settings got worse.
func (a *app) compare(before, after *results.Run, unit string, format table.Format) (worse int, err error) {
	for _, sets := range [][2]results.Set{{before.Measured(), after.Measured()}, {before.Modelled(), after.Modelled()}} {
		if sets[0].Len() == 0 || sets[1].Len() == 0 {
			continue
		}
		r, err := regress.Compare(sets[0], sets[1], unit, regress.Defaults())
		if err != nil {
			return worse, err
		}
		worse += len(r.Worse())
		fmt.Fprintf(a.out, "%s, %s against %s\n\n", r.Kind, after.Manifest().ID, before.Manifest().ID)
		if err := table.OfComparison(r).Write(a.out, format); err != nil {
			return worse, err
		}
		for _, only := range []struct {
			run   string
			names []string
		}{{before.Manifest().ID, r.OnlyOld}, {after.Manifest().ID, r.OnlyNew}} {
			if len(only.names) > 0 {
				fmt.Fprintf(a.out, "\nonly in run %s: %s\n", only.run, strings.Join(only.names, ", "))
			}
		}
		fmt.Fprintln(a.out)
	}
	return worse, nil
}

// sameMachine says what must be known of two runs that are compared, and refuses to
// compare measured values of machines that differ unless that is asked for.
func (a *app) sameMachine(before, after *results.Run, across bool) error {
	for _, run := range []*results.Run{before, after} {
		for _, w := range run.Manifest().Warnings {
			fmt.Fprintf(a.out, "note: run %s: %s\n", run.Manifest().ID, w)
		}
	}
	if before.Measured().Len() == 0 || after.Measured().Len() == 0 {
		return nil // models are the same everywhere
	}
	old, err := before.Environment()
	if err != nil {
		return err
	}
	new, err := after.Environment()
	if err != nil {
		return err
	}
	differences := old.Differences(new)
	if len(differences) == 0 {
		return nil
	}
	text := "the machines differ: " + strings.Join(differences, "; ")
	if !across {
		return fmt.Errorf("%s: --across compares their times all the same", text)
	}
	_, err = fmt.Fprintf(a.out, "note: %s\n", text)
	return err
}
