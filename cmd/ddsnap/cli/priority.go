// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/engine/admin"
)

func (a *app) priority() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "priority [flags] SERVER|STORE TAG|NAME [VALUE]",
		Short: "Print or set which snapshots a full store gives up first",
		Long: `Priority prints a snapshot's priority, or sets it to VALUE, a number from -128 to
127. It is durable when priority returns.

When a store with the policy drop is full, snapshots go until there is room: first
those that nobody uses, of those the ones of the lowest priority, of those the
oldest. A snapshot of priority 127 never goes.`,
		Example: `  ddsnap priority /srv/vm.store 17
  ddsnap priority /srv/vm.store before-upgrade 127
  ddsnap priority /srv/vm.store 18 -- -5`,
		Args: args(2, 3, "SERVER|STORE", "TAG|NAME"),
	}
	f := a.targetFlags(cmd)
	cmd.ValidArgsFunction = a.completeTags(f, true)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var c *admin.Change
		if len(args) == 3 {
			n, err := strconv.ParseInt(args[2], 10, 8)
			if err != nil {
				return usageError{fmt.Errorf("priority %q is not a number from -128 to 127", args[2])}
			}
			value := int8(n)
			c = &admin.Change{Priority: &value}
		}
		return a.change(cmd.Context(), args, f, c, func(s admin.Snapshot) any { return s.Priority })
	}
	return cmd
}

// change makes a change to the snapshot of the second argument, if it is not nil,
// and prints what show returns of it; all of it as JSON.
func (a *app) change(ctx context.Context, args []string, f *targetFlags, c *admin.Change, show func(admin.Snapshot) any) error {
	ref, err := parseRef(args[1])
	if err != nil {
		return err
	}
	return a.with(ctx, args[0], f, c == nil, func(ctx context.Context, t *target) error {
		s, err := changed(ctx, t, ref, c)
		if err != nil {
			return err
		}
		if a.json {
			return a.printJSON(s)
		}
		if text := show(s); text != nil {
			fmt.Fprintln(a.Out, text)
		}
		return nil
	})
}

// changed returns a snapshot, after a change to it if c is not nil.
func changed(ctx context.Context, t *target, ref admin.Ref, c *admin.Change) (admin.Snapshot, error) {
	if c == nil {
		return find(ctx, t, ref)
	}
	r, err := t.Do(ctx, admin.Request{Verb: admin.VerbChange, Snapshot: &ref, Change: c})
	if err != nil {
		return admin.Snapshot{}, explain(t, ref, "changing", err)
	}
	return *r.Snapshot, nil
}
