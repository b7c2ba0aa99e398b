// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/engine/admin"
)

func (a *app) usecount() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "usecount [flags] SERVER|STORE TAG|NAME [DELTA]",
		Short: "Print or change how many users a snapshot has that persist",
		Long: `Usecount adds DELTA, a number with a sign, to the snapshot's use count, and prints
what it is then. The count is kept in the store; clients that have the snapshot open
are counted apart, by list. While either is not zero, the snapshot is not deleted,
and a full store gives it up only after those that nobody uses.`,
		Example: `  ddsnap usecount /srv/vm.store 17
  ddsnap usecount /srv/vm.store 17 +1
  ddsnap usecount /srv/vm.store 17 -- -1`,
		Args: args(2, 3, "SERVER|STORE", "TAG|NAME"),
	}
	f := a.targetFlags(cmd)
	cmd.ValidArgsFunction = a.completeTags(f, true)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var c *admin.Change
		if len(args) == 3 {
			n, err := strconv.ParseInt(args[2], 10, 33)
			if err != nil {
				return usageError{fmt.Errorf("%q is no change of a use count: want a number such as +1", args[2])}
			}
			c = &admin.Change{Uses: n}
		}
		err := a.change(cmd.Context(), args, f, c, func(s admin.Snapshot) any { return s.UseCount })
		if errors.Is(err, admin.ErrRequest) {
			return codeError{err, exitUsage}
		}
		return err
	}
	return cmd
}
