// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/block"
)

func (a *app) list() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list [flags] SERVER|STORE",
		Short: "List the snapshots, oldest first",
		Long: `List prints the snapshots, oldest first, and indented under each those that were
taken of it: tag, when it was taken, the size of the origin then, its state, how
many clients have it open now, and what else there is: priority, persistent use
count, whether the store has its digest, group and name.

A state is live, squashed (its content was given up for space) or prepared (its
group is not complete). It may be followed by held, lossy (chunks of it are lost:
reading those is an error), damaged (other content may be lost, and show as wrong
bytes) and writer (one of the clients may write).`,
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

// column is a column of the list of snapshots.
type column struct {
	head string
	left bool
	cell func(admin.Snapshot) string // "" of what goes without saying
	must bool                        // show it even if all cells are empty
}

// columns are those that have something to say about some snapshot. indent is the
// depth of each in the tree.
func (a *app) columns(depth map[block.Generation]int) []column {
	return []column{
		{"TAG", true, func(s admin.Snapshot) string {
			return strings.Repeat("  ", depth[s.Generation]) + formatTag(s.Tag)
		}, true},
		{"CREATED", true, func(s admin.Snapshot) string { return formatTime(s.Created) }, true},
		{"AGE", false, func(s admin.Snapshot) string { return formatAge(a.now().Sub(s.Created)) }, true},
		{"SIZE", false, func(s admin.Snapshot) string { return formatSize(s.Size) }, true},
		{"STATE", true, stateOf, true},
		{"READERS", false, func(s admin.Snapshot) string { return strconv.Itoa(s.Readers) }, true},
		{"PRIO", false, func(s admin.Snapshot) string { return unlessZero(int64(s.Priority)) }, false},
		{"USES", false, func(s admin.Snapshot) string { return unlessZero(int64(s.UseCount)) }, false},
		{"DIGEST", true, func(s admin.Snapshot) string {
			if s.Digest {
				return "yes"
			}
			return ""
		}, false},
		{"GROUP", true, func(s admin.Snapshot) string { return s.Group[:min(8, len(s.Group))] }, false},
		{"NAME", true, func(s admin.Snapshot) string { return s.Name }, false},
	}
}

func unlessZero(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// stateOf returns a snapshot's state with what is unusual about it.
func stateOf(s admin.Snapshot) string {
	state := s.State
	for _, also := range []struct {
		is   bool
		name string
	}{{s.Held, "held"}, {s.Lossy, "lossy"}, {s.Damaged, "damaged"}, {s.Writer, "writer"}} {
		if also.is {
			state += "," + also.name
		}
	}
	return state
}

func (a *app) printSnapshots(snaps []admin.Snapshot) error {
	snaps, depth := tree(snaps)
	var head []string
	var left []bool
	rows := make([][]string, len(snaps))
	for _, c := range a.columns(depth) {
		cells, said := make([]string, len(snaps)), c.must
		for i, s := range snaps {
			cells[i] = c.cell(s)
			said = said || cells[i] != ""
		}
		if !said {
			continue
		}
		head, left = append(head, c.head), append(left, c.left)
		for i := range rows {
			rows[i] = append(rows[i], cells[i])
		}
	}
	return printColumns(a.Out, left, head, rows)
}

// tree puts snapshots that are sorted by age in the order of their tree, and
// returns how deep each is in it.
func tree(snaps []admin.Snapshot) ([]admin.Snapshot, map[block.Generation]int) {
	children := map[block.Generation][]admin.Snapshot{}
	for _, s := range snaps {
		children[s.Parent] = append(children[s.Parent], s)
	}
	list, depth := make([]admin.Snapshot, 0, len(snaps)), map[block.Generation]int{}
	var walk func(parent block.Generation, level int)
	walk = func(parent block.Generation, level int) {
		for _, s := range children[parent] {
			depth[s.Generation] = level
			list = append(list, s)
			walk(s.Generation, level+1)
		}
	}
	walk(0, 0)
	return list, depth
}

// completeTags completes a target's file name, and, if snapshots exist for the
// verb, their tags and names.
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
				if s.Name != "" {
					found = append(found, cobra.CompletionWithDesc(s.Name, formatTime(s.Created)))
				}
			}
			return err
		})
		if err != nil {
			cobra.CompDebugln(err.Error(), false)
		}
		return found, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	}
}
