// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/layout"
)

// policies are the names of what can be done about a full store.
var policies = []string{layout.PolicyDrop.String(), layout.PolicyBlock.String(), layout.PolicyFailWrites.String()}

func (a *app) policy() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy [flags] SERVER|STORE [drop|block|fail-writes]",
		Short: "Print or set what is done about a full store",
		Long: `Policy prints, or sets, what becomes of a write to the origin that needs a chunk
copied out when the store is full:

With drop, snapshots are given up until there is room: first those that nobody uses
or holds, of those the ones of the lowest priority, of those the oldest; if there is
none, one that is in use is squashed: it stays in the list, and reading it is an
error. A snapshot of priority 127 is never given up.
With block, the write waits until there is room.
With fail-writes, it fails with "no space" and changes nothing.`,
		Example: `  ddsnap policy /srv/vm.store
  ddsnap policy /srv/vm.store fail-writes`,
		Args: args(1, 2, "SERVER|STORE", "POLICY"),
	}
	f := a.targetFlags(cmd)
	cmd.ValidArgsFunction = func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) == 1 {
			return policies, cobra.ShellCompDirectiveNoFileComp
		}
		return nil, cobra.ShellCompDirectiveDefault
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		set := len(args) == 2
		if set {
			if _, err := layout.ParsePolicy(args[1]); err != nil {
				return usageError{err}
			}
		}
		return a.with(cmd.Context(), args[0], f, !set, func(ctx context.Context, t *target) error {
			if set {
				if _, err := t.Do(ctx, admin.Request{Verb: admin.VerbPolicy, Policy: args[1]}); err != nil {
					return fmt.Errorf("setting the policy of %s: %w", t.name, err)
				}
				return nil
			}
			return a.printPolicy(ctx, t)
		})
	}
	return cmd
}

func (a *app) printPolicy(ctx context.Context, t *target) error {
	r, err := t.ask(ctx, admin.VerbStatus)
	switch {
	case err != nil:
		return fmt.Errorf("asking for the status: %w", err)
	case a.json:
		return a.printJSON(map[string]string{"policy": r.Status.Policy})
	}
	fmt.Fprintln(a.Out, r.Status.Policy)
	return nil
}
