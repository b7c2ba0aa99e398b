// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/engine/ring"
	"zumastor.org/zumastor/harness/hostile"
)

// labHostileCommand runs inside a guest, called by the kernel tests.
func (a *app) labHostileCommand() *cobra.Command {
	var seed uint64
	var limit time.Duration
	cmd := &cobra.Command{
		Use:   "hostile UUID",
		Short: "Serve the kernel's targets of a store with garbage, in a guest",
		Long: "Hostile is a metadata server that means ill: it tests that the kernel trusts nothing.\n" +
			"What is behind the targets of the store is lost. It is for a virtual machine.",
		Hidden: true,
		Args:   between(1, 1, "the uuid of a store"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var uuid ring.UUID
			b, err := hex.DecodeString(strings.ReplaceAll(args[0], "-", ""))
			if err != nil || len(b) != len(uuid) {
				return fmt.Errorf("%w: %q is no uuid", errUsage, args[0])
			}
			copy(uuid[:], b)
			ctx, cancel := context.WithTimeout(cmd.Context(), limit)
			defer cancel()
			r, err := hostile.Run(ctx, uuid, seed)
			fmt.Fprintf(a.out, "%d connections, %d messages sent, %d heard, %d connections refused\n", r.Connections, r.Messages, r.Heard, r.Refused)
			return err
		},
	}
	cmd.Flags().Uint64Var(&seed, "seed", 1, "`number` that decides what is sent")
	cmd.Flags().DurationVar(&limit, "time", 10*time.Second, "how `long`")
	return cmd
}
