// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/store"
)

func (a *app) create() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create [flags] SERVER|STORE TAG",
		Short: "Take a snapshot",
		Long: `Create takes a snapshot of the origin as it is now, and calls it TAG, a number
from 0 to 4294967295. It is durable when create returns, and takes no time to
speak of, however large the origin and however many the snapshots.

The first argument is the control socket of a running server, or a store that no
server has open. In the second case the origin must not be written to except
through "ddsnap nbd" from then on, and what is written to it must be durable
before: name it with --origin, or the whole system is flushed as by sync(1), which
can take long.`,
		Example: `  ddsnap create /srv/vm.store 17
  ddsnap create --origin /srv/vm.img /srv/vm.store $(date +%s)`,
		Args: args(2, 2, "SERVER|STORE", "TAG"),
	}
	f := a.targetFlags(cmd)
	var origin string
	cmd.Flags().StringVar(&origin, "origin", "", "`device` of the origin, to be flushed first; a running server knows it")
	cmd.ValidArgsFunction = a.completeTags(f, false)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		tag, err := parseTag(args[1])
		if err != nil {
			return err
		}
		return a.with(cmd.Context(), args[0], f, false, func(ctx context.Context, t *target) error {
			if t.offline != nil {
				if err := flushOrigin(t, origin); err != nil {
					return err
				}
			}
			r, err := t.ask(ctx, admin.VerbCreate, tag)
			switch {
			case errors.Is(err, store.ErrExists):
				return codeError{fmt.Errorf("snapshot %d exists already on %s: choose another tag, or delete it first", tag, t.name), exitExists}
			case err != nil:
				return fmt.Errorf("creating snapshot %d: %w", tag, err)
			case a.json:
				return a.printJSON(r.Snapshot)
			}
			return nil
		})
	}
	return cmd
}

// flushOrigin makes what was written to the origin as durable as the snapshot will
// be. If it is not named, that takes flushing everything.
func flushOrigin(t *target, origin string) error {
	if origin == "" {
		unix.Sync()
		return nil
	}
	f, err := device.OpenFile(origin, device.FileOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	if want := t.offline.Geometry().Size(); f.Size() < want {
		err = fmt.Errorf("%w: origin %s has %d bytes, and the store on %s is for one of %d: is it the right device?",
			block.ErrGeometry, origin, f.Size(), t.name, want)
		return errors.Join(err, f.Close())
	}
	return errors.Join(f.Flush(), f.Close())
}

func (a *app) delete() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete [flags] SERVER|STORE TAG",
		Short: "Delete a snapshot",
		Long: `Delete deletes the snapshot TAG. It is gone when delete returns. A running server
then frees what only it needed in the background; on a store that no server has
open, delete does so before it returns, and if it is interrupted, whoever opens
the store next goes on. A snapshot that a client reads is not deleted.`,
		Example: `  ddsnap delete /srv/vm.store 17`,
		Args:    args(2, 2, "SERVER|STORE", "TAG"),
	}
	f := a.targetFlags(cmd)
	cmd.ValidArgsFunction = a.completeTags(f, true)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		tag, err := parseTag(args[1])
		if err != nil {
			return err
		}
		return a.with(cmd.Context(), args[0], f, false, func(ctx context.Context, t *target) error {
			_, err := t.ask(ctx, admin.VerbDelete, tag)
			switch {
			case errors.Is(err, store.ErrNoSnapshot):
				return absent(t, tag)
			case errors.Is(err, store.ErrInUse):
				return codeError{fmt.Errorf("snapshot %d is in use on %s: disconnect its NBD clients first (\"ddsnap list\" counts them)", tag, t.name), exitInUse}
			case err != nil:
				return fmt.Errorf("deleting snapshot %d: %w", tag, err)
			}
			if t.offline != nil {
				return free(cmd.Context(), t)
			}
			return nil
		})
	}
	return cmd
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

func (a *app) list() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list [flags] SERVER|STORE",
		Short: "List the snapshots, oldest first",
		Long: `List prints the snapshots, oldest first: tag, when each was taken, the origin's
size then, and how many NBD connections read it now.`,
		Example: `  ddsnap list /srv/vm.store
  ddsnap list --json /srv/vm.store | jq '.[].tag'`,
		Args: args(1, 1, "SERVER|STORE"),
	}
	f := a.targetFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.with(cmd.Context(), args[0], f, true, func(ctx context.Context, t *target) error {
			snaps, err := t.list(ctx)
			switch {
			case err != nil:
				return fmt.Errorf("listing the snapshots: %w", err)
			case a.json:
				return a.printJSON(append([]admin.Snapshot{}, snaps...))
			case len(snaps) == 0:
				fmt.Fprintln(a.Out, "no snapshots")
				return nil
			}
			return a.printSnapshots(snaps)
		})
	}
	return cmd
}

func (a *app) printSnapshots(snaps []admin.Snapshot) error {
	rows := make([][]string, len(snaps))
	for i, s := range snaps {
		rows[i] = []string{
			formatTag(s.Tag), formatTime(s.Created), formatAge(a.now().Sub(s.Created)), formatSize(s.Size), strconv.Itoa(s.Readers),
		}
	}
	return printTable(a.Out, 0, []string{"TAG", "CREATED", "AGE", "SIZE", "READERS"}, rows)
}

func formatTag(t block.Tag) string { return strconv.FormatUint(uint64(t), 10) }

// completeTags completes a target's file name, and, if tags exist for the verb,
// their numbers.
func (a *app) completeTags(f *targetFlags, tags bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return nil, cobra.ShellCompDirectiveDefault
		}
		var found []cobra.Completion
		if len(args) > 1 || !tags {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		err := a.with(cmd.Context(), args[0], f, true, func(ctx context.Context, t *target) error {
			snaps, err := t.list(ctx)
			for _, s := range snaps {
				found = append(found, cobra.CompletionWithDesc(formatTag(s.Tag), formatTime(s.Created)))
			}
			return err
		})
		if err != nil {
			cobra.CompDebugln(err.Error(), false)
		}
		return found, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	}
}
