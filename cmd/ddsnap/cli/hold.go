// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"github.com/spf13/cobra"

	"zumastor.org/zumastor/engine/admin"
)

func (a *app) hold() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "hold [flags] SERVER|STORE TAG|NAME",
		Short: "Keep a snapshot from being deleted",
		Long: `Hold keeps a snapshot from being deleted, by anybody, until hold --release. A full
store with the policy drop gives up its content only when no snapshot is left that
nobody uses or holds; see "ddsnap help priority". To hold what is held already
changes nothing.`,
		Example: `  ddsnap hold /srv/vm.store 17
  ddsnap hold --release /srv/vm.store 17`,
		Args: args(2, 2, "SERVER|STORE", "TAG|NAME"),
	}
	f := a.targetFlags(cmd)
	release := cmd.Flags().Bool("release", false, "let it go")
	cmd.ValidArgsFunction = a.completeTags(f, true)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		held := !*release
		return a.change(cmd.Context(), args, f, &admin.Change{Held: &held}, func(admin.Snapshot) any { return nil })
	}
	return cmd
}
