// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/block"
)

// labSnapshotsCommand runs inside a guest, called by the benchmark: a process for
// each of a thousand snapshots takes minutes where a CPU is interpreted.
func (a *app) labSnapshotsCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "snapshots CONTROL FIRST LAST",
		Short:  "Take snapshots with the tags FIRST to LAST, in a guest",
		Hidden: true,
		Args:   between(3, 3, "a control socket and two tags"),
		RunE: func(cmd *cobra.Command, args []string) error {
			first, err1 := strconv.ParseUint(args[1], 10, 32)
			last, err2 := strconv.ParseUint(args[2], 10, 32)
			if err1 != nil || err2 != nil {
				return fmt.Errorf("%w: %q and %q are no tags", errUsage, args[1], args[2])
			}
			return takeSnapshots(cmd.Context(), args[0], first, last)
		},
	}
}

// takeSnapshots takes them one after the other, through one connection.
func takeSnapshots(ctx context.Context, control string, first, last uint64) error {
	c, err := admin.Dial(ctx, control)
	if err != nil {
		return err
	}
	defer c.Close()
	for tag := first; tag <= last; tag++ {
		request := admin.Request{Verb: admin.VerbCreate, New: &admin.NewSnapshot{Tag: block.Tag(tag)}}
		if _, err := c.Do(ctx, request); err != nil {
			return fmt.Errorf("taking snapshot %d: %w", tag, err)
		}
	}
	return nil
}
