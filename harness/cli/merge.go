// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/analysis/report"
	"zumastor.org/zumastor/harness/fleet"
	"zumastor.org/zumastor/results"
)

// mergeFlags are the flags of the command merge.
type mergeFlags struct {
	output      string
	jobs        []string
	pool, check bool
}

func (a *app) mergeCommand() *cobra.Command {
	var f mergeFlags
	cmd := &cobra.Command{
		Use:   "merge FROM...",
		Short: "Merge the trials that machines have collected",
		Long: `Merge reads the trials that zbench run --collect has put into places: directories, or
buckets (s3://BUCKET/PREFIX). It makes a directory with a run for each machine, with its
report, and fleet.json, which says what went into which run and which trials are missing.

Trials are verified by their sums; all must be of one revision, suite and plan. A trial
that is at several places counts once; one that is there with different content, and a
round that a machine has twice, are refused. Machines are never averaged; those of one
kind, equal in all that zbench compare looks at, are one run with --pool.`,
		Example: `  zbench merge /mnt/lab -o chunks --job chunks
  zbench merge s3://bench/lab -o chunks --pool --check`,
		Args: between(1, 64, "the places of trials"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.output == "" {
				return fmt.Errorf("%w: -o is missing: the name of what is made", errUsage)
			}
			return a.merge(cmd.Context(), args, f)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.output, "output", "o", "", "the `name` of what is made, beside the runs, or the path of its directory")
	flags.StringSliceVar(&f.jobs, "job", nil, "the `names` of jobs (default all that are there)")
	flags.BoolVar(&f.pool, "pool", false, "one run for all machines of a kind")
	flags.BoolVar(&f.check, "check", false, "exit with code 3 if trials are missing")
	return cmd
}

func (a *app) merge(ctx context.Context, from []string, f mergeFlags) error {
	var places []fleet.Place
	for _, name := range from {
		s, err := fleet.Open(name)
		if err != nil {
			return err
		}
		places = append(places, fleet.Place{Name: name, Storage: s})
	}
	all, err := fleet.Gather(ctx, places, f.jobs)
	if err != nil {
		return err
	}
	dir := f.output
	if !strings.ContainsRune(dir, filepath.Separator) {
		dir = filepath.Join(a.root, dir)
	}
	s, err := fleet.Merge(all, fleet.MergeOptions{Dir: dir, Pool: f.pool})
	if err != nil {
		return err
	}
	for _, m := range s.Machines {
		run, err := results.Open(filepath.Join(dir, m.Run))
		if err != nil {
			return err
		}
		if err := report.Write(run); err != nil {
			return err
		}
	}
	return a.showMerge(s, dir, f.check)
}

// showMerge prints what was merged, and what is missing.
func (a *app) showMerge(s fleet.Summary, dir string, check bool) error {
	missing := 0
	for _, j := range s.Jobs {
		fmt.Fprintf(a.out, "job %s: %d of %d trials", j.Name, j.Count-len(j.Missing), j.Count)
		if len(j.Missing) > 0 {
			fmt.Fprintf(a.out, "; missing %s", strings.Trim(fmt.Sprint(j.Missing), "[]"))
		}
		fmt.Fprintln(a.out)
		missing += len(j.Missing)
	}
	for _, m := range s.Machines {
		fmt.Fprintf(a.out, "\n%s\n", filepath.Join(dir, m.Run, report.File))
		fmt.Fprintf(a.out, "  %d machines of kind %s: %s\n", len(m.Machines), m.Kind, m.Description)
		for _, e := range slices.Sorted(maps.Keys(m.Rounds)) {
			fmt.Fprintf(a.out, "  %s: rounds %s\n", e, m.Rounds[e])
		}
	}
	if check && missing > 0 {
		return fmt.Errorf("%w: %d trials are missing", errCheck, missing)
	}
	return nil
}
