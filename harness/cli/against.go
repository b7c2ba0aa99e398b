// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/analysis/regress"
	"zumastor.org/zumastor/analysis/table"
	"zumastor.org/zumastor/harness/duel"
	"zumastor.org/zumastor/results"
)

// againstFlags are the flags of the command against.
type againstFlags struct {
	packages []string
	bench    string
	check    bool
	markdown bool
	duel     duel.Options
}

func (a *app) againstCommand() *cobra.Command {
	f := againstFlags{duel: duel.Defaults()}
	f.duel.Repeats = 10 // each makes its volume anew
	cmd := &cobra.Command{
		Use:   "against REVISION",
		Short: "Compare the speed of the working tree with that of a revision",
		Long: `Against builds the Go benchmarks of REVISION, in a git worktree that it removes again,
and those of the working tree, and runs them in turns, in processes of their own. A
sample is the fastest of some short repetitions on one processor. It prints the ratio of
each benchmark that both have with its interval, the U test's p, and a verdict: better,
worse, no difference (all of the interval is within 5 %), or too noisy to say.

It is run in the root of the repository and needs git and Go.`,
		Example: `  zbench against main
  zbench against HEAD~3 --packages engine/btree --bench Insert --pairs 40`,
		Args: between(1, 1, "a revision"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.against(cmd.Context(), args[0], f) },
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&f.packages, "packages", []string{"engine/volume", "engine/btree"}, "`directories` of the packages whose benchmarks are run")
	flags.StringVar(&f.bench, "bench", "^Benchmark(Rewrite|FirstWrite|Ceiling|Insert)$", "the `pattern` of benchmarks, as of go test")
	flags.IntVar(&f.duel.Pairs, "pairs", f.duel.Pairs, "samples of each side")
	flags.DurationVar(&f.duel.Slice, "slice", f.duel.Slice, "of a repetition, about")
	flags.IntVar(&f.duel.Repeats, "repeats", f.duel.Repeats, "repetitions, of which the fastest is a sample")
	flags.Uint64Var(&f.duel.Seed, "seed", f.duel.Seed, "of the order")
	flags.BoolVar(&f.check, "check", false, "exit with code 3 if anything got worse")
	flags.BoolVar(&f.markdown, "markdown", false, "print Markdown, for a pull request")
	return cmd
}

func (a *app) against(ctx context.Context, revision string, f againstFlags) (err error) {
	dir, err := os.MkdirTemp("", "zbench-against-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	tree := filepath.Join(dir, "tree")
	remove, err := duel.Worktree(ctx, revision, tree)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	all := regress.Report{Kind: results.Measured}
	for i, pkg := range f.packages {
		rows, err := a.duelOf(ctx, pkg, tree, dir, i, f)
		if err != nil {
			return err
		}
		all.Rows = append(all.Rows, rows...)
	}
	format := table.Text
	if f.markdown {
		format = table.Markdown
	}
	if err := table.OfComparison(all).Write(a.out, format); err != nil {
		return err
	}
	if worse := len(all.Worse()); f.check && worse > 0 {
		return fmt.Errorf("%w: %d benchmarks got worse", errCheck, worse)
	}
	return nil
}

// duelOf compares one package.
func (a *app) duelOf(ctx context.Context, pkg, tree, dir string, i int, f againstFlags) ([]regress.Row, error) {
	fmt.Fprintf(a.err, "%s: building both\n", pkg)
	old, err := duel.Build(ctx, tree, pkg, dir, fmt.Sprintf("old-%d", i))
	if err != nil {
		return nil, err
	}
	new, err := duel.Build(ctx, ".", pkg, dir, fmt.Sprintf("new-%d", i))
	if err != nil {
		return nil, err
	}
	if f.duel.Benchmarks, err = duel.Benchmarks(ctx, old, new, f.bench); err != nil {
		return nil, fmt.Errorf("%s: %w", pkg, err)
	}
	fmt.Fprintf(a.err, "%s: %d pairs of %d benchmarks\n", pkg, f.duel.Pairs, len(f.duel.Benchmarks))
	rows, err := duel.Run(ctx, old, new, f.duel)
	for j := range rows {
		rows[j].Name = pkg + " " + rows[j].Name
	}
	return rows, err
}

// paceCommand is one side of the experiment that measures the gate itself.
func (a *app) paceCommand() *cobra.Command {
	return &cobra.Command{
		Use: duel.PaceCommand, Hidden: true, Short: "Time writes to a volume in memory", Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error { return duel.RunPace(args, a.out) },
	}
}
