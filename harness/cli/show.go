// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/analysis/goals"
	"zumastor.org/zumastor/analysis/report"
	"zumastor.org/zumastor/analysis/table"
	"zumastor.org/zumastor/harness/spec"
)

func (a *app) goalsCommand() *cobra.Command {
	var check, asJSON, hypotheses bool
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
			if hypotheses {
				return a.printFindings(goals.Test(goals.Hypotheses(), record.Measured(), record.Modelled()), asJSON)
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
	cmd.Flags().BoolVar(&hypotheses, "hypotheses", false, "print the original's claims in place of goals, and whether the run confirms or refutes them")
	return cmd
}

// printFindings prints what a run made of the hypotheses.
func (a *app) printFindings(findings []goals.Finding, asJSON bool) error {
	if asJSON {
		return a.printJSON(findings)
	}
	measured, modelled := table.OfFindings(findings)
	return a.printTables("Hypotheses, measured", measured, "Hypotheses, modelled", modelled)
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
	return a.printTables("Measured, run "+s.Run, measured, "Modelled, run "+s.Run, modelled)
}

func (a *app) printTables(measuredTitle string, measured table.Table, modelledTitle string, modelled table.Table) error {
	for _, t := range []struct {
		title string
		table table.Table
	}{{measuredTitle, measured}, {modelledTitle, modelled}} {
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
