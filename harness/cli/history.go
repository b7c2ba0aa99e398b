// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/analysis/table"
	"zumastor.org/zumastor/analysis/trend"
	"zumastor.org/zumastor/harness/baseline"
	"zumastor.org/zumastor/results"
	"zumastor.org/zumastor/results/history"
)

// historyFlags say what of is recorded or checked.
type historyFlags struct {
	dir, from, revision             string
	counters, force, json, markdown bool
}

func (a *app) historyCommand() *cobra.Command {
	var f historyFlags
	cmd := &cobra.Command{
		Use:   "history",
		Short: "Record runs over time, and check what changed",
		Long: `History keeps what revisions gave, in files that are committed: the exact counters of
revisions, the modelled figures of a suite, and its measured ones of one machine, each a
series of its own. Check finds where the level of a metric changed and whether that is
for the worse; results/history/accepted.txt says which of that is meant, and why.`,
		Args: between(1, 1, "add, list or check"),
	}
	cmd.PersistentFlags().StringVar(&f.dir, "history", history.Dir, "the `directory` of the history")
	cmd.AddCommand(a.historyAddCommand(&f), a.historyListCommand(&f), a.historyCheckCommand(&f))
	return cmd
}

func (a *app) historyAddCommand(f *historyFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "add [RUN]",
		Short: "Record a run, or the exact counters",
		Long: `Add records the figures of a run that has ended (the newest without RUN) or, with
--counters, the exact counters of this program, which it takes. Refused is a run of a dirty
tree, of a program that did not know its own revision, of a machine that was too noisy, or
of a part of the rounds; --force records it with a mark: it is shown, and does not count.
What is recorded never changes; commit the file.`,
		Example: `  zbench history add --counters
  zbench history add latest
  zbench history add --counters --from counters.txt --revision v1.2`,
		Args: between(0, 1, "at most the name of a run"),
		RunE: func(cmd *cobra.Command, args []string) error {
			records, err := a.toRecord(cmd.Context(), args, *f)
			if err != nil {
				return err
			}
			for _, r := range records {
				path, err := history.Add(f.dir, r)
				if err != nil {
					return err
				}
				fmt.Fprintf(a.out, "%s: %d settings of %s\n", path, len(r.Metrics), r.Short())
			}
			return nil
		},
	}
	a.sourceFlags(cmd, f)
	cmd.Flags().BoolVar(&f.force, "force", false, "record what is not fit to be judged, with a mark")
	return cmd
}

// sourceFlags say what is taken in place of a run.
func (a *app) sourceFlags(cmd *cobra.Command, f *historyFlags) {
	cmd.Flags().BoolVar(&f.counters, "counters", false, "the exact counters in place of a run")
	cmd.Flags().StringVar(&f.from, "from", "", "a `file` of counters, as of zbench baseline record, that another program wrote")
	cmd.Flags().StringVar(&f.revision, "revision", "", "the `revision` of that program")
}

func (a *app) historyListCommand(f *historyFlags) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List what is recorded",
		Args: between(0, 0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			h, err := history.Load(f.dir)
			if err != nil {
				return err
			}
			t := table.Table{Header: []string{"series", "revision", "committed", "recorded", "settings", "marks"}, Numeric: []bool{4: true}}
			for _, s := range h.Series {
				for _, r := range s.Records {
					t.Rows = append(t.Rows, []string{s.Name, r.Short(), r.Committed.Format(time.DateTime), r.Recorded.Format(time.DateTime),
						fmt.Sprint(len(r.Metrics)), strings.Join(r.Marks, "; ")})
				}
			}
			return t.Write(a.out, table.Text)
		},
	}
}

func (a *app) historyCheckCommand(f *historyFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check [RUN]",
		Short: "Exit with code 3 if anything got worse",
		Long: `Check finds the changes in the history, with a RUN or --counters as if it were recorded:
the revisions between which the level changed, by how much, and whether that is for the
worse, undone since, or accepted. Exact counters change by anything, modelled times by
0.1 %, measured medians by 5 % where a permutation test says that it is not chance.`,
		Example: `  zbench history check
  zbench history check latest
  zbench history check --counters --json`,
		Args: between(0, 1, "at most the name of a run"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.checkHistory(cmd.Context(), args, *f) },
	}
	a.sourceFlags(cmd, f)
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	cmd.Flags().BoolVar(&f.markdown, "markdown", false, "print Markdown")
	return cmd
}

func (a *app) checkHistory(ctx context.Context, args []string, f historyFlags) error {
	h, err := history.Load(f.dir)
	if err != nil {
		return err
	}
	if len(args) > 0 || f.counters {
		f.force = true // what is marked does not count, and is not recorded
		records, err := a.toRecord(ctx, args, f)
		if err != nil {
			return err
		}
		for _, r := range records {
			for _, mark := range r.Marks {
				fmt.Fprintf(a.err, "note: it does not count: %s\n", mark)
			}
			h = h.With(r)
		}
	}
	r := trend.Judge(h)
	switch {
	case f.json:
		err = a.printJSON(r)
	case f.markdown:
		err = r.Write(a.out, table.Markdown)
	default:
		err = r.Write(a.out, table.Text)
	}
	if n := r.Worse(); err == nil && n > 0 {
		err = fmt.Errorf("%w: %d metrics got worse: if that is meant, say why in %s: series, revision, reason", errCheck, n, filepath.Join(f.dir, "accepted.txt"))
	}
	return err
}

// toRecord makes records of what arguments and flags name.
func (a *app) toRecord(ctx context.Context, args []string, f historyFlags) ([]history.Record, error) {
	switch {
	case len(args) > 0 && f.counters, (f.from == "") != (f.revision == ""), f.from != "" && !f.counters:
		return nil, fmt.Errorf("%w: a run, or --counters, or --counters with --from and --revision", errUsage)
	case f.counters:
		return a.countersRecord(ctx, f)
	}
	run, err := a.openRun(args)
	if err != nil {
		return nil, err
	}
	env, err := run.Environment()
	if err != nil {
		return nil, err
	}
	revision, committed, err := commitOf(ctx, strings.TrimSuffix(env.Commit, "-dirty"))
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", run.Manifest().ID, err)
	}
	return trend.OfRun(run, revision, committed, f.force)
}

// countersRecord takes the counters, or reads those that another program took.
func (a *app) countersRecord(ctx context.Context, f historyFlags) ([]history.Record, error) {
	name, marks := f.revision, []string(nil)
	if name == "" {
		commit, source := results.Revision()
		dirty := false
		if name, dirty = strings.CutSuffix(commit, "-dirty"); dirty {
			marks = append(marks, "files in git had changed")
		}
		if source == results.FromWorktree {
			marks = append(marks, trend.WorktreeMark)
		}
	}
	revision, committed, err := commitOf(ctx, name)
	if err != nil {
		return nil, err
	}
	r := history.Record{
		Kind: results.Modelled, Suite: history.Counters, Revision: revision, Committed: committed,
		Recorded: time.Now().UTC().Truncate(time.Second), Marks: marks, Metrics: map[string]map[string]history.Value{},
	}
	if len(marks) > 0 && !f.force {
		return nil, fmt.Errorf("counters of %s: %w: %s: --force records them, marked, and they do not count", r.Short(), trend.ErrRefused, strings.Join(marks, "; "))
	}
	counters, err := counters(ctx, f.from)
	for _, c := range counters {
		if r.Metrics[c.Setting] == nil {
			r.Metrics[c.Setting] = map[string]history.Value{}
		}
		r.Metrics[c.Setting][c.Name] = history.Exact(float64(c.Value))
	}
	return []history.Record{r}, err
}

func counters(ctx context.Context, file string) (baseline.Record, error) {
	if file == "" {
		return baseline.Take(ctx)
	}
	in, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	r, err := baseline.Read(in)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return r, nil
}

// commitOf asks git for the full name of a revision and the date of its commit.
func commitOf(ctx context.Context, revision string) (full string, committed time.Time, err error) {
	if revision == "" || strings.HasPrefix(revision, "-") {
		return "", committed, fmt.Errorf("revision %q: the program was built without one, outside of a git checkout: make build in one", revision)
	}
	out, err := exec.CommandContext(ctx, "git", "show", "--no-patch", "--format=%H %cI", revision+"^{commit}").Output()
	if err != nil {
		return "", committed, fmt.Errorf("revision %s is not in this repository: %w", revision, err)
	}
	full, date, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	committed, err = time.Parse(time.RFC3339, date)
	return full, committed.UTC(), err
}
