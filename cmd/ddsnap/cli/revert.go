// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/store"
)

// restoring is one run of revert or merge.
type restoring struct {
	app               *app
	verb              admin.Verb
	ref               admin.Ref
	yes, dryRun, wait bool
	skipLost          bool
}

func (a *app) revert() *cobra.Command {
	return a.restore(admin.VerbRevert, &cobra.Command{
		Use:   "revert [flags] SERVER|STORE [TAG|NAME]",
		Short: "Give the origin back the content of a snapshot",
		Long: `Revert makes the origin what the snapshot is. What was written to the origin since
is lost, unless a snapshot taken since has it: all snapshots stay as they are.

When revert returns, the origin reads as the snapshot, durably. What differs is
copied in the background by the server, and writes to the origin wait until that is
done; --wait waits too, and "ddsnap status" shows how far it is. A crash does not
end it. On a store that no server has open, it is copied when one is started.

A snapshot with lost chunks is refused, and where a chunk cannot be read the copying
stops, and tries again for ever. With --skip-lost the origin keeps what it has there,
each such chunk is an event, and a merge keeps its snapshot. --skip-lost without TAG
says that of the restore under way. --abandon ends that where it is, a merge too: the
origin is then partly restored. Snapshots taken before stay, to go back to.

It is refused while a delta is being applied to the origin, or is half applied: "ddsnap
delta apply --abandon" gives that up. Unmount what is on the origin before. On a terminal
revert asks; elsewhere it needs --yes.`,
		Example: `  ddsnap revert --dry-run /srv/vm.store before-upgrade
  ddsnap revert --yes --wait /srv/vm.store before-upgrade
  ddsnap revert --skip-lost --dry-run /srv/vm.store before-upgrade
  ddsnap revert --abandon /srv/vm.store`,
	})
}

func (a *app) merge() *cobra.Command {
	return a.restore(admin.VerbMerge, &cobra.Command{
		Use:   "merge [flags] SERVER|STORE TAG|NAME",
		Short: "Make the origin what a snapshot is, and delete that",
		Long: `Merge is revert for a snapshot that was written to: it makes the origin what the
snapshot is now, and deletes the snapshot when all is copied. The snapshot may not
be held, in use, or have snapshots of its own. See "ddsnap help revert".`,
		Example: `  ddsnap merge --yes --wait /srv/vm.store tried-out`,
	})
}

// restore completes the command of a verb.
func (a *app) restore(verb admin.Verb, cmd *cobra.Command) *cobra.Command {
	r := &restoring{app: a, verb: verb}
	abandon, least := false, 2
	if verb == admin.VerbRevert {
		cmd.Flags().BoolVar(&abandon, "abandon", false, "end the restore under way, with the origin partly restored")
		least = 1
	}
	cmd.Args = args(least, 2, "SERVER|STORE", "TAG|NAME")
	f := a.targetFlags(cmd)
	cmd.Flags().BoolVar(&r.dryRun, "dry-run", false, "print what would be done, and do nothing")
	cmd.Flags().BoolVarP(&r.yes, "yes", "y", false, "don't ask")
	cmd.Flags().BoolVar(&r.skipLost, "skip-lost", false, "leave in the origin what cannot be read of the snapshot")
	cmd.Flags().BoolVar(&r.wait, "wait", false, "wait until all is copied")
	a.progressFlag(cmd)
	cmd.ValidArgsFunction = a.completeTags(f, true)
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		run := r.run
		switch {
		case len(args) == 1 && abandon != r.skipLost:
			if run = r.skip; abandon {
				run = r.abandon
			}
		case abandon || len(args) == 1:
			return usageError{errors.New("revert needs a TAG, or just one of --abandon and --skip-lost")}
		default:
			if r.ref, err = parseRef(args[1]); err != nil {
				return err
			}
		}
		ctx, stop := untilSignal(cmd.Context())
		defer stop()
		return a.with(ctx, args[0], f, r.dryRun, func(asking context.Context, t *target) error {
			if err := run(asking, t); err != nil || r.dryRun || !r.wait || abandon {
				return err
			}
			return r.await(ctx, t)
		})
	}
	return cmd
}

func (r *restoring) run(ctx context.Context, t *target) error {
	s, err := find(ctx, t, r.ref)
	if err != nil {
		return err
	}
	if err := notApplying(ctx, t); err != nil {
		return err
	}
	loss := fmt.Sprintf("What was written to the origin on %s since snapshot %s of %s", t.name, label(s), formatTime(s.Created))
	if s.Parent != 0 {
		loss = fmt.Sprintf("What the origin on %s holds", t.name)
	}
	switch {
	case r.dryRun:
		return r.print(ctx, t, s, loss)
	case !r.yes:
		if err := r.app.confirm(loss + " will be lost."); err != nil {
			return err
		}
	}
	_, err = t.Do(ctx, admin.Request{Verb: r.verb, Snapshot: &r.ref, SkipLost: r.skipLost})
	switch {
	case errors.Is(err, store.ErrRestoring):
		return codeError{fmt.Errorf("the origin on %s is being restored already: \"ddsnap status\" shows how far", t.name), exitInUse}
	case errors.Is(err, store.ErrSize):
		return codeError{fmt.Errorf("snapshot %v has %s, and the origin on %s another size: resize that first", r.ref, formatSize(s.Size), t.name), exitWrong}
	case errors.Is(err, store.ErrDamaged) && !s.Damaged:
		return codeError{fmt.Errorf("%w: with --skip-lost the origin keeps what it has there; --dry-run lists it", explain(t, r.ref, "restoring", err)), exitDamaged}
	case err != nil:
		return explain(t, r.ref, "restoring", err)
	}
	return nil
}

// notApplying returns an error while a delta is applied to the origin, which whoever does
// that would go on with: the newer snapshot would be neither.
func notApplying(ctx context.Context, t *target) error {
	r, err := t.ask(ctx, admin.VerbList)
	if err != nil {
		return err
	}
	for _, s := range r.List {
		if s.Applying != "" {
			return codeError{fmt.Errorf("%w to the origin on %s: let that end, or end it and \"ddsnap delta apply --abandon %[2]s\"", store.ErrApplying, t.name), exitInUse}
		}
	}
	return nil
}

// print says what would be done.
func (r *restoring) print(ctx context.Context, t *target, s admin.Snapshot, loss string) error {
	got, err := t.Do(ctx, admin.Request{Verb: admin.VerbLost, Snapshot: &r.ref})
	if err != nil {
		return explain(t, r.ref, "looking for lost chunks of", err)
	}
	then := ""
	if r.verb == admin.VerbMerge {
		then = ", and delete that"
	}
	if r.app.json {
		return r.app.printJSON(map[string]any{"would_restore": s, "would_delete": r.verb == admin.VerbMerge, "lost": got.Lost})
	}
	fmt.Fprintf(r.app.Out, "would make the origin what snapshot %s is (%s)%s\n", label(s), formatSize(s.Size), then)
	fmt.Fprintf(r.app.Out, "%s would be lost, but for what other snapshots have\n", loss)
	if n := got.Lost.Count; n > 0 {
		what := "without --skip-lost that is refused"
		if r.skipLost {
			what = "the origin would keep what it has there"
		}
		fmt.Fprintf(r.app.Out, "%s of the snapshot cannot be read, and %s: %d\n", plural(int(n), "chunk"), what, got.Lost.Chunks)
	}
	fmt.Fprintln(r.app.Out, "nothing was done (--dry-run)")
	return nil
}

// underWay returns the restore that is under way.
func underWay(ctx context.Context, t *target) (*admin.Restore, error) {
	got, err := t.ask(ctx, admin.VerbStatus)
	switch {
	case err != nil:
		return nil, fmt.Errorf("asking for the status: %w", err)
	case got.Status.Restore == nil:
		return nil, codeError{fmt.Errorf("the origin on %s is not being restored", t.name), exitAbsent}
	}
	return got.Status.Restore, nil
}

// skip has the restore under way go on without what cannot be read.
func (r *restoring) skip(ctx context.Context, t *target) error {
	now, err := underWay(ctx, t)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("What cannot be read of snapshot %d stays on the origin on %s as it is.", now.Snapshot, t.name)
	if r.dryRun {
		return r.nothing(now, text)
	}
	if !r.yes {
		if err := r.app.confirm(text); err != nil {
			return err
		}
	}
	if _, err := t.ask(ctx, admin.VerbSkipLost); err != nil {
		return fmt.Errorf("skipping what cannot be read: %w", err)
	}
	return nil
}

// abandon ends the restore under way.
func (r *restoring) abandon(ctx context.Context, t *target) error {
	now, err := underWay(ctx, t)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("The origin on %s will be neither what it was nor snapshot %d: %d of its %d chunks are restored, and others as they were.",
		t.name, now.Snapshot, now.Done, now.Chunks)
	if r.dryRun {
		return r.nothing(now, text)
	}
	if !r.yes {
		if err := r.app.confirm(text); err != nil {
			return err
		}
	}
	got, err := t.ask(ctx, admin.VerbAbandon)
	switch {
	case err != nil:
		return fmt.Errorf("abandoning the restore: %w", err)
	case r.app.json:
		return r.app.printJSON(got.Restore)
	}
	fmt.Fprintf(r.app.Out, "the origin is partly restored: %d of %d chunks are those of snapshot %d, which is kept; revert to a snapshot before you use it\n",
		got.Restore.Done, got.Restore.Chunks, got.Restore.Snapshot)
	return nil
}

// nothing prints what would be said of the restore under way.
func (r *restoring) nothing(now *admin.Restore, text string) error {
	if r.app.json {
		return r.app.printJSON(now)
	}
	fmt.Fprintf(r.app.Out, "%s\nnothing was done (--dry-run)\n", text)
	return nil
}

// pollInterval is how often progress in a server is asked for.
const pollInterval = 200 * time.Millisecond

// await waits until all is copied. A signal ends the wait, not the copying.
func (r *restoring) await(ctx context.Context, t *target) error {
	if t.offline != nil {
		return codeError{fmt.Errorf("no server has the store on %s open: the copying begins when one is started", t.name), exitWrong}
	}
	show, finish := r.app.progress("restoring")
	defer finish()
	for {
		got, err := t.ask(ctx, admin.VerbStatus)
		switch {
		case ctx.Err() != nil:
			return errors.New("interrupted: the copying goes on, \"ddsnap status\" shows how far it is")
		case err != nil:
			return fmt.Errorf("asking for the status: %w", err)
		case got.Status.Restore == nil:
			return nil
		case got.Status.Restore.Trouble != "":
			return fmt.Errorf("restoring snapshot %d on %s does not go on: %s (\"ddsnap help revert\": --skip-lost, --abandon)",
				got.Status.Restore.Snapshot, t.name, got.Status.Restore.Trouble)
		}
		if show != nil {
			show(got.Status.Restore.Done, got.Status.Restore.Chunks)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pollInterval):
		}
	}
}
