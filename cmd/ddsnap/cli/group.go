// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/group"
	"zumastor.org/zumastor/engine/layout"
)

func (a *app) group() *cobra.Command {
	return family(&cobra.Command{
		Use:   "group",
		Short: "Snapshots of several volumes at one instant",
		Long: `A group is a snapshot of each of several volumes, all of one instant: whatever an
application has written to one before it wrote to another is in both or missing in
the later one. Either all are made, or none.`,
	}, a.groupCreate(), a.groupList(), a.groupDelete(), a.groupResolve())
}

// groupVerb completes a command whose arguments end with stores.
func (a *app) groupVerb(cmd *cobra.Command, before []string, run func(ctx context.Context, args []string, members []group.Named, offline bool) error) *cobra.Command {
	cmd.Flags().DurationVar(&a.timeout, "timeout", defaultTimeout, "how long to wait for a running server")
	a.jsonFlag(cmd)
	cmd.Args = args(len(before)+1, 1<<16, append(before, "SERVER|STORE")...)
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		ctx, cancel := context.WithTimeoutCause(cmd.Context(), a.timeout, fmt.Errorf("no answer within %v", a.timeout))
		defer cancel()
		if err := distinct(args[len(before):]...); err != nil {
			return err
		}
		var members []group.Named
		offline := false
		for _, name := range args[len(before):] {
			t, openErr := a.open(ctx, name, &targetFlags{}, false)
			if openErr != nil {
				return openErr
			}
			defer func() { err = errors.Join(err, t.close()) }()
			offline = offline || t.offline != nil
			m, listErr := admin.NewMember(ctx, t, a.timeout)
			if listErr != nil {
				return fmt.Errorf("listing the snapshots of %s: %w", t.name, listErr)
			}
			members = append(members, group.Named{Name: t.name, Member: m})
		}
		return run(ctx, args, members, offline)
	}
	return cmd
}

func (a *app) groupCreate() *cobra.Command {
	var o group.Options
	cmd := a.groupVerb(&cobra.Command{
		Use:   "create [flags] TAG SERVER|STORE...",
		Short: "Take a snapshot of each of several volumes",
		Long: `Create takes a snapshot of each volume, all at one instant, calls each TAG, and prints
the identity of the group. Writes to all of them are held until the last one is
prepared, at most for --limit. If create is killed, "group resolve" ends it.`,
		Example: `  ddsnap group create 17 /srv/data.store /srv/log.store`,
	}, []string{"TAG"}, func(ctx context.Context, args []string, members []group.Named, offline bool) (err error) {
		if o.Tag, err = parseTag(args[0]); err != nil {
			return err
		}
		if o.Name != "" {
			if err := checkName(o.Name); err != nil {
				return err
			}
		}
		if offline {
			unix.Sync() // what was written past a server is to be as durable as the snapshots
		}
		id, err := group.Create(ctx, members, o)
		switch {
		case err != nil:
			return fmt.Errorf("no group was made: %w", err)
		case a.json:
			return a.printJSON(map[string]string{"group": id.String()})
		}
		fmt.Fprintln(a.Out, id)
		return nil
	})
	fl := cmd.Flags()
	fl.StringVarP(&o.Name, "name", "n", "", "`name` for each of the snapshots")
	fl.Int8VarP(&o.Priority, "priority", "p", 0, "what a full store gives up first: -128 to 126; 127 never")
	fl.BoolVar(&o.Held, "hold", false, "keep them from being deleted until \"hold --release\"")
	fl.DurationVar(&o.Limit, "limit", group.DefaultLimit, "hold writes for so long at most")
	return cmd
}

func (a *app) groupList() *cobra.Command {
	return a.groupVerb(&cobra.Command{
		Use:     "list [flags] SERVER|STORE...",
		Short:   "List the groups of several volumes",
		Long:    `List prints the groups that the stores have snapshots of, oldest first.`,
		Example: `  ddsnap group list /srv/data.store /srv/log.store`,
	}, nil, func(_ context.Context, _ []string, members []group.Named, _ bool) error {
		return a.printGroups(group.List(members))
	})
}

// groupJSON is a group as --json prints it.
type groupJSON struct {
	ID        string       `json:"group"`
	Size      int          `json:"size"`
	Complete  bool         `json:"complete"`
	Snapshots []memberJSON `json:"snapshots"`
}

// memberJSON is a snapshot of a group.
type memberJSON struct {
	Store string `json:"store"`
	Tag   uint64 `json:"tag"`
	State string `json:"state"`
}

func describeGroups(groups []group.Group) []groupJSON {
	list := []groupJSON{}
	for _, g := range groups {
		d := groupJSON{ID: g.ID.String(), Size: g.Size, Complete: g.Complete()}
		for _, s := range g.Snapshots {
			d.Snapshots = append(d.Snapshots, memberJSON{s.Member, uint64(s.Tag), s.State.String()})
		}
		list = append(list, d)
	}
	return list
}

func (a *app) printGroups(groups []group.Group) error {
	if a.json {
		return a.printJSON(describeGroups(groups))
	}
	if len(groups) == 0 {
		fmt.Fprintln(a.Out, "no groups")
		return nil
	}
	var rows [][]string
	for _, g := range groups {
		state := "complete"
		if !g.Complete() {
			state = fmt.Sprintf("%d of %d found or readable", len(g.Snapshots), g.Size)
		}
		for _, s := range g.Snapshots {
			rows = append(rows, []string{g.ID.String(), formatTag(s.Tag), formatTime(time.Unix(0, s.Created)), s.State.String(), state, s.Member})
		}
	}
	return printTable(a.Out, 6, []string{"GROUP", "TAG", "CREATED", "STATE", "GROUP IS", "STORE"}, rows)
}

func (a *app) groupDelete() *cobra.Command {
	var yes, dryRun bool
	cmd := a.groupVerb(&cobra.Command{
		Use:   "delete [flags] GROUP SERVER|STORE...",
		Short: "Delete the snapshots of a group",
		Long: `Delete deletes the snapshots that the stores have of a group; the beginning of its
identity will do. Those that are held or in use stay, and are named. On a terminal it
asks, unless --yes is given.`,
		Example: `  ddsnap group delete 27850584 /srv/data.store /srv/log.store`,
	}, []string{"GROUP"}, func(_ context.Context, args []string, members []group.Named, _ bool) error {
		g, err := pickGroup(args[0], group.List(members))
		switch {
		case err != nil:
			return err
		case dryRun && a.json:
			return a.printJSON(map[string]any{"would_delete": describeGroups([]group.Group{g})[0]})
		case dryRun:
			for _, s := range g.Snapshots {
				fmt.Fprintf(a.Out, "would delete snapshot %d of %s\n", s.Tag, s.Member)
			}
			fmt.Fprintln(a.Out, "nothing was deleted (--dry-run)")
			return nil
		case !yes && isTerminal(a.In):
			if err := a.confirm(fmt.Sprintf("%s of group %v will be lost.", plural(len(g.Snapshots), "snapshot"), g.ID)); err != nil {
				return err
			}
		}
		return group.Delete(members, g.ID)
	})
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print what would be deleted, and delete nothing")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "don't ask")
	return cmd
}

// pickGroup returns the group whose identity begins with the text.
func pickGroup(text string, groups []group.Group) (found group.Group, err error) {
	for _, g := range groups {
		if text == "" || !strings.HasPrefix(g.ID.String(), text) {
			continue
		}
		if found.ID != (layout.UUID{}) {
			return found, usageError{fmt.Errorf("%q is the beginning of more than one group: give more of it", text)}
		}
		found = g
	}
	if found.ID == (layout.UUID{}) {
		return found, codeError{fmt.Errorf("the stores have no snapshot of a group %s: see \"ddsnap group list\"", strconv.Quote(text)), exitAbsent}
	}
	return found, nil
}

func (a *app) groupResolve() *cobra.Command {
	var dryRun bool
	cmd := a.groupVerb(&cobra.Command{
		Use:   "resolve [flags] SERVER|STORE...",
		Short: "End the making of groups that was interrupted",
		Long: `Resolve ends what "group create" could not: a group whose snapshots are all there is
completed, and the snapshots of any other are deleted. All stores of the group must
be named.`,
		Example: `  ddsnap group resolve --dry-run /srv/data.store /srv/log.store`,
	}, nil, func(_ context.Context, _ []string, members []group.Named, _ bool) error {
		done, err := group.Resolve(members, dryRun)
		if a.json {
			list := []map[string]any{}
			for _, r := range done {
				list = append(list, map[string]any{"group": r.ID.String(), "completed": r.Committed, "dry_run": dryRun})
			}
			return errors.Join(a.printJSON(list), err)
		}
		would := ""
		if dryRun {
			would = "would be "
		}
		for _, r := range done {
			end := "deleted"
			if r.Committed {
				end = "completed"
			}
			fmt.Fprintf(a.Out, "group %v %s%s\n", r.ID, would, end)
		}
		if err == nil && len(done) == 0 {
			fmt.Fprintln(a.Out, "nothing to resolve")
		}
		return err
	})
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print what would be done, and do nothing")
	return cmd
}
