// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/store"
)

// deletion is one run of delete.
type deletion struct {
	app                    *app
	ref                    admin.Ref
	recursive, dryRun, yes bool
}

func (a *app) delete() *cobra.Command {
	d := &deletion{app: a}
	cmd := &cobra.Command{
		Use:   "delete [flags] SERVER|STORE TAG|NAME",
		Short: "Delete a snapshot",
		Long: `Delete deletes a snapshot. It is gone when delete returns. A running server then
frees what only it needed in the background; on a store that no server has open,
delete does so before it returns, and if it is interrupted, whoever opens the store
next goes on.

A snapshot that is held, that a client has open or that has a use count is not
deleted, and one that has snapshots of its own only with --recursive: then they are
deleted too, from the newest on.

On a terminal it asks, unless --yes is given.`,
		Example: `  ddsnap delete /srv/vm.store 17
  ddsnap delete --dry-run --recursive /srv/vm.store before-upgrade`,
		Args: args(2, 2, "SERVER|STORE", "TAG|NAME"),
	}
	f := a.targetFlags(cmd)
	cmd.Flags().BoolVarP(&d.recursive, "recursive", "r", false, "delete its own snapshots too")
	cmd.Flags().BoolVar(&d.dryRun, "dry-run", false, "print what would be deleted, and delete nothing")
	cmd.Flags().BoolVarP(&d.yes, "yes", "y", false, "don't ask")
	cmd.ValidArgsFunction = a.completeTags(f, true)
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if d.ref, err = parseRef(args[1]); err != nil {
			return err
		}
		return a.with(cmd.Context(), args[0], f, d.dryRun, func(ctx context.Context, t *target) error {
			if err := d.run(ctx, t); err != nil || t.offline == nil || d.dryRun {
				return err
			}
			return free(cmd.Context(), t)
		})
	}
	return cmd
}

func (d *deletion) run(ctx context.Context, t *target) error {
	if d.dryRun || !d.yes && isTerminal(d.app.In) {
		snaps, err := t.list(ctx)
		if err != nil {
			return err
		}
		doomed := under(snaps, d.ref)
		if err := d.check(t, doomed); err != nil {
			return err
		}
		if d.dryRun {
			return d.print(ctx, t, doomed)
		}
		if err := d.app.confirm(lossOf(doomed)); err != nil {
			return err
		}
	}
	_, err := t.Do(ctx, admin.Request{Verb: admin.VerbDelete, Snapshot: &d.ref, Recursive: d.recursive})
	if errors.Is(err, store.ErrHeld) || errors.Is(err, store.ErrInUse) || errors.Is(err, store.ErrHasSnapshots) {
		snaps, listErr := t.list(ctx)
		if why := d.check(t, under(snaps, d.ref)); listErr == nil && why != nil {
			return why
		}
	}
	return explain(t, d.ref, "deleting", err)
}

// check says why snapshots would not be deleted, or nil.
func (d *deletion) check(t *target, doomed []admin.Snapshot) error {
	if len(doomed) == 0 {
		return absent(t, d.ref)
	}
	if n := len(doomed) - 1; n > 0 && !d.recursive {
		return refusal{fmt.Errorf("snapshot %v on %s has %s of its own: delete those first, or all with --recursive", d.ref, t.name, plural(n, "snapshot"))}
	}
	for _, s := range doomed {
		var err error
		switch {
		case s.Held:
			err = fmt.Errorf("snapshot %d is held on %s: let it go with \"ddsnap hold --release\" first", s.Tag, t.name)
		case s.Readers > 0:
			err = fmt.Errorf("snapshot %d is in use on %s: disconnect its clients first (\"ddsnap list\" counts them)", s.Tag, t.name)
		case s.UseCount > 0:
			err = fmt.Errorf("snapshot %d is in use on %s: its use count is %d, see \"ddsnap usecount\"", s.Tag, t.name, s.UseCount)
		}
		if err != nil {
			return codeError{err, exitInUse}
		}
	}
	return nil
}

// lossOf says what deleting the snapshots loses.
func lossOf(doomed []admin.Snapshot) string {
	text := fmt.Sprintf("Snapshot %s of %s", label(doomed[0]), formatTime(doomed[0].Created))
	if n := len(doomed) - 1; n > 0 {
		text += fmt.Sprintf(" and %s under it", plural(n, "snapshot"))
	}
	return text + " will be lost."
}

// print says what would be deleted. What only one snapshot reads is freed for sure.
func (d *deletion) print(ctx context.Context, t *target, doomed []admin.Snapshot) error {
	r, err := t.ask(ctx, admin.VerbSharing)
	if err != nil {
		return fmt.Errorf("reading the index: %w", err)
	}
	alone := uint64(0)
	for _, row := range r.Sharing {
		if slices.ContainsFunc(doomed, func(s admin.Snapshot) bool { return s.Tag == row.Tag }) {
			alone += row.Chunks[0]
		}
	}
	if r, err = t.ask(ctx, admin.VerbStatus); err != nil {
		return err
	}
	freed := int64(alone) * int64(r.Status.ChunkSize)
	slices.Reverse(doomed)
	if d.app.json {
		return d.app.printJSON(struct {
			Snapshots []admin.Snapshot `json:"would_delete"`
			Freed     int64            `json:"would_free_at_least_bytes"`
		}{doomed, freed})
	}
	for _, s := range doomed {
		fmt.Fprintf(d.app.Out, "would delete snapshot %s of %s\n", label(s), formatTime(s.Created))
	}
	fmt.Fprintf(d.app.Out, "would free at least %s\nnothing was deleted (--dry-run)\n", formatSize(freed))
	return nil
}

// label returns a snapshot's tag, and its name if it has one.
func label(s admin.Snapshot) string {
	if s.Name != "" {
		return fmt.Sprintf("%d (%s)", s.Tag, s.Name)
	}
	return formatTag(s.Tag)
}

// plural returns a number of things.
func plural(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return formatCount(n) + " " + thing
}

// free does the background work of a store that is open for one verb.
func free(ctx context.Context, t *target) error {
	ctx, stop := untilSignal(ctx)
	defer stop()
	for ctx.Err() == nil {
		if more, err := t.offline.Maintain(); err != nil || !more {
			return err
		}
	}
	return nil // the snapshot is gone, and freeing goes on another time
}

func formatTag(t block.Tag) string { return fmt.Sprint(uint64(t)) }
