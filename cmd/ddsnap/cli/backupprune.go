// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/engine/backup"
	"zumastor.org/zumastor/engine/delta/codec"
)

func (a *app) backupPrune() *cobra.Command {
	var f repositoryFlags
	o := backup.PruneOptions{Codecs: []codec.ID{codec.Raw, codec.Zstd, codec.ZstdPatch}, Chooser: pruneChooser}
	how := "deltas"
	cmd := &cobra.Command{
		Use:   "prune [flags] REPO",
		Short: "Remove the backups that are not to be kept",
		Long: `Prune keeps, of each volume, the newest backup of each of the last so many days, weeks, months
and years that have one, and the newest so many, and removes all others. Without any --keep it
removes no backup. In any case it removes what is left of backups that were cut off.

What is kept stays whole. If it is a delta that leads from a backup which is to go, --rewrite
says what is done: with "deltas" its delta is made anew from one that stays, and full images
that are needed stay, too; with "all" new full images are made as well; with "nothing" all that
is needed stays. Nobody else can use the repository meanwhile. It may be killed at any time.`,
		Example: `  ddsnap backup prune --keep-last 3 --keep-daily 7 --keep-monthly 12 --dry-run /mnt/backup/vm`,
		Args:    args(1, 1, "REPO"),
	}
	fl := cmd.Flags()
	for _, k := range []struct {
		n    *int
		name string
		what string
	}{
		{&o.Last, "last", "the `n` newest backups"}, {&o.Daily, "daily", "the newest of each of the last `n` days"},
		{&o.Weekly, "weekly", "the newest of each of the last `n` weeks"}, {&o.Monthly, "monthly", "the newest of each of the last `n` months"},
		{&o.Yearly, "yearly", "the newest of each of the last `n` years"},
	} {
		fl.IntVar(k.n, "keep-"+k.name, 0, "keep "+k.what)
	}
	fl.StringVar(&how, "rewrite", how, "remake `what` so that more can go: deltas, all or nothing")
	_ = cmd.RegisterFlagCompletionFunc("rewrite", cobra.FixedCompletions([]string{"deltas", "all", "nothing"}, cobra.ShellCompDirectiveNoFileComp))
	fl.BoolVar(&o.DryRun, "dry-run", false, "say what would become of each backup, and do nothing")
	f.add(cmd)
	a.jsonFlag(cmd)
	a.progressFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.Zone = time.Local
		var err error
		if o.Rewrite, err = parseRewrite(how); err != nil {
			return err
		}
		for _, n := range []int{o.Last, o.Daily, o.Weekly, o.Monthly, o.Yearly} {
			if n < 0 {
				return usageError{fmt.Errorf("%d backups cannot be kept", n)}
			}
		}
		ctx, stop := untilSignal(cmd.Context())
		defer stop()
		r, err := f.open(ctx, args[0])
		if err != nil {
			return err
		}
		show, finish := a.progress("rewriting")
		if show != nil {
			o.Progress = func(_ string, done, total int64) { show(uint64(done), uint64(total)) }
		}
		res, err := r.Prune(ctx, o)
		finish()
		if err != nil {
			return fmt.Errorf("pruning %s: %w", args[0], err)
		}
		return a.printPruned(res, o.DryRun)
	}
	return cmd
}

func parseRewrite(text string) (backup.Rewrite, error) {
	switch text {
	case "deltas":
		return backup.RewriteDeltas, nil
	case "all":
		return backup.RewriteAll, nil
	case "nothing":
		return backup.RewriteNothing, nil
	}
	return 0, usageError{fmt.Errorf("--rewrite %q is none of deltas, all and nothing", text)}
}

// pruneChooser codes what is made anew.
func pruneChooser(extent int, full bool) (codec.Chooser, error) {
	id := codec.ZstdPatch
	if full {
		id = codec.Zstd
	}
	return codec.NewFixed(id, codec.Options{Extent: extent})
}

// prunedBackup is what became of a backup, as prune --json prints it.
type prunedBackup struct {
	ID        string   `json:"id"`
	Kept      []string `json:"kept,omitempty"` // why; none: it goes
	Rewritten bool     `json:"rewritten,omitempty"`
	Base      string   `json:"base,omitempty"`
}

// prunedBackups is what prune --json prints.
type prunedBackups struct {
	Backups   []prunedBackup `json:"backups"`
	Garbage   int            `json:"garbage_objects"`
	Freed     int64          `json:"freed_bytes"`
	Rewritten int64          `json:"rewritten_bytes"`
	DryRun    bool           `json:"dry_run,omitempty"`
}

func (a *app) printPruned(res *backup.PruneResult, dry bool) error {
	out := prunedBackups{[]prunedBackup{}, res.Garbage, res.FreedBytes, res.RewrittenBytes, dry}
	var rows [][]string
	for _, p := range res.Points {
		b := prunedBackup{p.ID, p.Kept, p.Rewritten, p.Base}
		if p.Rewritten {
			b.Base = p.NewBase
		}
		out.Backups = append(out.Backups, b)
		text := "removed"
		switch {
		case p.Rewritten && b.Base == "":
			text = "made a full image"
		case p.Rewritten:
			text = "made anew from " + b.Base
		case len(p.Kept) > 0:
			text = "kept"
		}
		rows = append(rows, []string{p.ID, formatTime(p.Created()), text, strings.Join(p.Kept, ", ")})
	}
	if a.json {
		return a.printJSON(out)
	}
	if len(rows) > 0 {
		if err := printTable(a.Out, 4, []string{"ID", "CREATED", "IS", "WHY"}, rows); err != nil {
			return err
		}
	}
	if res.Garbage > 0 {
		fmt.Fprintf(a.Out, "%s of backups that were cut off removed\n", plural(res.Garbage, "object"))
	}
	if dry {
		fmt.Fprintln(a.Out, "nothing was done (--dry-run)")
	}
	return nil
}
