// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/analysis/table"
	"zumastor.org/zumastor/harness/baseline"
)

// countersFile is where the counters are kept, from the root of the repository.
const countersFile = "results/baseline/counters.txt"

func (a *app) baselineCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "baseline",
		Short: "Compare exact counters with those in git, or record them",
		Long: `Baseline counts exactly what a small set of experiments on disk models asks of the
devices and of the metadata server: I/Os, bytes, flushes, messages, index pages,
allocations, and the models' time. It takes seconds, and the counts are the same on
every machine.`,
		Args: between(1, 1, "record or check"),
	}
	cmd.PersistentFlags().StringVar(&file, "file", countersFile, "the `file` of counters")
	cmd.AddCommand(
		&cobra.Command{
			Use: "record", Short: "Write the file of counters anew",
			Args: between(0, 0, "no arguments"),
			RunE: func(cmd *cobra.Command, _ []string) error { return a.recordBaseline(cmd.Context(), file) },
		},
		&cobra.Command{
			Use: "check", Short: "Exit with code 3 if a counter has moved",
			Args: between(0, 0, "no arguments"),
			RunE: func(cmd *cobra.Command, _ []string) error { return a.checkBaseline(cmd.Context(), file) },
		})
	return cmd
}

func (a *app) recordBaseline(ctx context.Context, file string) error {
	now, err := baseline.Take(ctx)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := now.Write(&b); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.out, "%s: %d counters\n", file, len(now))
	return err
}

func (a *app) checkBaseline(ctx context.Context, file string) error {
	in, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("%w: make it with zbench baseline record", err)
	}
	defer in.Close()
	old, err := baseline.Read(in)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	now, err := baseline.Take(ctx)
	if err != nil {
		return err
	}
	return a.showMoves(file, baseline.Diff(old, now), len(now))
}

// showMoves prints what has moved, if anything, which is an error then.
func (a *app) showMoves(file string, moves []baseline.Move, all int) error {
	if len(moves) == 0 {
		_, err := fmt.Fprintf(a.out, "%d counters are as in %s\n", all, file)
		return err
	}
	t := table.Table{Header: []string{"experiment", "counter", "recorded", "now", "change"}, Numeric: []bool{false, false, true, true, true}}
	for _, m := range moves {
		t.Rows = append(t.Rows, []string{m.Setting, m.Name, fmt.Sprint(m.Old), fmt.Sprint(m.Value), m.Change()})
	}
	if err := t.Write(a.out, table.Text); err != nil {
		return err
	}
	return fmt.Errorf("%w: %d of %d counters moved: if that is meant, run zbench baseline record and commit %s with the change that moves them",
		errCheck, len(moves), all, file)
}
