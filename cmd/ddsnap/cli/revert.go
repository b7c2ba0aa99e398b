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
}

func (a *app) revert() *cobra.Command {
	return a.restore(admin.VerbRevert, &cobra.Command{
		Use:   "revert [flags] SERVER|STORE TAG|NAME",
		Short: "Give the origin back the content of a snapshot",
		Long: `Revert makes the origin what the snapshot is. What was written to the origin since
is lost, unless a snapshot taken since has it: all snapshots stay as they are.

When revert returns, the origin reads as the snapshot, durably. What differs is
copied in the background by the server, and writes to the origin wait until that is
done; --wait waits too, and "ddsnap status" shows how far it is. A crash does not
end it. On a store that no server has open, it is copied when one is started.

Unmount what is on the origin before. On a terminal revert asks; elsewhere it needs
--yes.`,
		Example: `  ddsnap revert --dry-run /srv/vm.store before-upgrade
  ddsnap revert --yes --wait /srv/vm.store before-upgrade`,
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
	cmd.Args = args(2, 2, "SERVER|STORE", "TAG|NAME")
	f := a.targetFlags(cmd)
	cmd.Flags().BoolVar(&r.dryRun, "dry-run", false, "print what would be done, and do nothing")
	cmd.Flags().BoolVarP(&r.yes, "yes", "y", false, "don't ask")
	cmd.Flags().BoolVar(&r.wait, "wait", false, "wait until all is copied")
	a.progressFlag(cmd)
	cmd.ValidArgsFunction = a.completeTags(f, true)
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if r.ref, err = parseRef(args[1]); err != nil {
			return err
		}
		ctx, stop := untilSignal(cmd.Context())
		defer stop()
		return a.with(ctx, args[0], f, r.dryRun, func(asking context.Context, t *target) error {
			if err := r.run(asking, t); err != nil || r.dryRun || !r.wait {
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
	loss := fmt.Sprintf("What was written to the origin on %s since snapshot %s of %s", t.name, label(s), formatTime(s.Created))
	if s.Parent != 0 {
		loss = fmt.Sprintf("What the origin on %s holds", t.name)
	}
	switch {
	case r.dryRun:
		return r.print(s, loss)
	case !r.yes:
		if err := r.app.confirm(loss + " will be lost."); err != nil {
			return err
		}
	}
	_, err = t.Do(ctx, admin.Request{Verb: r.verb, Snapshot: &r.ref})
	switch {
	case errors.Is(err, store.ErrRestoring):
		return codeError{fmt.Errorf("the origin on %s is being restored already: \"ddsnap status\" shows how far", t.name), exitInUse}
	case errors.Is(err, store.ErrSize):
		return codeError{fmt.Errorf("snapshot %v has %s, and the origin on %s another size: resize that first", r.ref, formatSize(s.Size), t.name), exitWrong}
	case err != nil:
		return explain(t, r.ref, "restoring", err)
	}
	return nil
}

// print says what would be done.
func (r *restoring) print(s admin.Snapshot, loss string) error {
	then := ""
	if r.verb == admin.VerbMerge {
		then = ", and delete that"
	}
	if r.app.json {
		return r.app.printJSON(map[string]any{"would_restore": s, "would_delete": r.verb == admin.VerbMerge})
	}
	fmt.Fprintf(r.app.Out, "would make the origin what snapshot %s is (%s)%s\n", label(s), formatSize(s.Size), then)
	fmt.Fprintf(r.app.Out, "%s would be lost, but for what other snapshots have\nnothing was done (--dry-run)\n", loss)
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
			return fmt.Errorf("restoring snapshot %v on %s does not go on: %s", r.ref, t.name, got.Status.Restore.Trouble)
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
