// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/analysis/goals"
	"zumastor.org/zumastor/analysis/regress"
	"zumastor.org/zumastor/analysis/report"
	"zumastor.org/zumastor/analysis/table"
	"zumastor.org/zumastor/harness/spec"
	"zumastor.org/zumastor/results"
)

func (a *app) goalsCommand() *cobra.Command {
	var check, asJSON bool
	cmd := &cobra.Command{
		Use:   "goals [RUN]",
		Short: "Show what is to be reached and what a run reached",
		Long:  "Goals prints a row for each goal: its value with the interval, and whether it is met.\nRUN is a run's name or directory; the newest without it.",
		Args:  between(0, 1, "at most the name of a run"),
		RunE: func(_ *cobra.Command, args []string) error {
			record, err := a.openRun(args)
			if err != nil {
				return err
			}
			summary := goals.Evaluate(record)
			if asJSON {
				err = a.printJSON(summary)
			} else {
				err = a.printGoals(summary)
			}
			if err == nil && check {
				err = checkGoals(summary)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "exit with code 3 if a goal is not met (unclear and not measured ones pass)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func checkGoals(s goals.Summary) error {
	var missed []string
	for _, g := range s.Goals {
		if g.Status == goals.NotMet {
			missed = append(missed, g.Name)
		}
	}
	if len(missed) > 0 {
		return fmt.Errorf("%w: not met: %s", errCheck, strings.Join(missed, ", "))
	}
	return nil
}

// printGoals prints measured goals and modelled ones, each in a table.
func (a *app) printGoals(s goals.Summary) error {
	measured, modelled := table.OfGoals(s.Goals)
	for _, t := range []struct {
		title string
		table table.Table
	}{{"Measured, run " + s.Run, measured}, {"Modelled, run " + s.Run, modelled}} {
		fmt.Fprintln(a.out, t.title)
		if err := t.table.Write(a.out, table.Text); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) reportCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "report [RUN]",
		Short: "Make figures, tables and report.html of a run anew",
		Args:  between(0, 1, "at most the name of a run"),
		RunE: func(_ *cobra.Command, args []string) error {
			record, err := a.openRun(args)
			if err != nil {
				return err
			}
			if err := report.Write(record); err != nil {
				return err
			}
			_, err = fmt.Fprintln(a.out, filepath.Join(record.Dir(), report.File))
			return err
		},
	}
}

func (a *app) compareCommand() *cobra.Command {
	var check bool
	var unit string
	cmd := &cobra.Command{
		Use:   "compare OLD NEW",
		Short: "Compare two runs, setting by setting",
		Long:  "Compare prints how each setting's speed has changed. Modelled figures must be equal;\nmeasured ones of two machines, or of one at two times, say less than ratios within a run.",
		Args:  between(2, 2, "the names of two runs"),
		RunE: func(_ *cobra.Command, args []string) error {
			before, err := a.openRun(args[:1])
			if err != nil {
				return err
			}
			after, err := a.openRun(args[1:])
			if err != nil {
				return err
			}
			worse, err := a.compare(before, after, unit)
			if err == nil && check && worse > 0 {
				err = fmt.Errorf("%w: %d settings got worse", errCheck, worse)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "exit with code 3 if anything got worse")
	cmd.Flags().StringVar(&unit, "unit", results.NsPerOp, "the `unit` to compare")
	return cmd
}

// compare prints both kinds and returns how many settings got worse.
func (a *app) compare(before, after *results.Run, unit string) (worse int, err error) {
	for _, sets := range [][2]results.Set{{before.Measured(), after.Measured()}, {before.Modelled(), after.Modelled()}} {
		if sets[0].Len() == 0 || sets[1].Len() == 0 {
			continue
		}
		r, err := regress.Compare(sets[0], sets[1], unit, regress.Defaults())
		if err != nil {
			return worse, err
		}
		worse += len(r.Worse())
		fmt.Fprintln(a.out, r.Kind)
		if err := table.OfComparison(r).Write(a.out, table.Text); err != nil {
			return worse, err
		}
		for text, names := range map[string][]string{"only in the old run": r.OnlyOld, "only in the new run": r.OnlyNew} {
			if len(names) > 0 {
				fmt.Fprintf(a.out, "%s: %s\n", text, strings.Join(names, ", "))
			}
		}
	}
	return worse, nil
}

func (a *app) listCommand() *cobra.Command {
	var suite string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the experiments",
		Args:  between(0, 0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			all, err := spec.Load(spec.Suite(suite))
			if err != nil {
				return err
			}
			for _, e := range all {
				fmt.Fprintf(a.out, "%-5s %s\n      %s.\n      variants %s; %d rounds", e.Name, e.Title, e.Shows, strings.Join(e.Variants, " "), e.Rounds)
				if len(e.Models) > 0 {
					fmt.Fprintf(a.out, "; models %s", strings.Join(e.Models, " "))
				}
				fmt.Fprintln(a.out)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&suite, "suite", string(spec.Quick), "smoke, quick, full or delta")
	return cmd
}
