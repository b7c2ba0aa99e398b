// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/engine/pattern"
	"zumastor.org/zumastor/harness/load"
	"zumastor.org/zumastor/harness/spec"
)

// labLoadCommands run inside a guest, called by the kernel tests.
func (a *app) labLoadCommands() []*cobra.Command {
	return []*cobra.Command{a.labLoadCommand(), a.labReplayCommand(), a.labOpsCommand(), a.labPromiseCommand(), a.labKeepsCommand()}
}

func (a *app) labLoadCommand() *cobra.Command {
	o := load.Options{Churn: pattern.Options{FlushEvery: 32}}
	var size string
	var spare []string
	cmd := &cobra.Command{
		Use: "load DIR DEVICE", Short: "Load a device, in a guest, and account for each byte", Hidden: true,
		Long: "Load writes to DEVICE and reads it, until SIGTERM or the first request that fails or\n" +
			"reads what it should not. DIR keeps the account; another load goes on with it.",
		Args: between(2, 2, "a directory and a device"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			o.Dir, o.Device = args[0], args[1]
			if o.Size, err = spec.ParseSize(strings.ToUpper(size)); err != nil {
				return fmt.Errorf("%w: --size: %w", errUsage, err)
			}
			if o.Spare, err = errnos(spare); err != nil {
				return fmt.Errorf("%w: --spare: %w", errUsage, err)
			}
			requests, spared, err := load.Serve(cmd.Context(), o)
			fmt.Fprintf(a.out, "%d requests, %d more failed as was expected\n", requests, spared)
			return err
		},
	}
	cmd.Flags().StringVar(&size, "size", "16M", "`bytes` from the device's begin on")
	cmd.Flags().IntVar(&o.Churn.Workers, "workers", 4, "`number` of requests at once")
	cmd.Flags().IntVar(&o.Churn.Align, "align", pattern.SectorSize, "`bytes` that requests are aligned to")
	cmd.Flags().IntVar(&o.Churn.MostBytes, "most", 64<<10, "most `bytes` of a request")
	cmd.Flags().Uint64Var(&o.Churn.Seed, "seed", 1, "`number` that decides what is written where")
	cmd.Flags().BoolVar(&o.Lost, "lost", false, "what was not flushed may be gone")
	cmd.Flags().StringSliceVar(&spare, "spare", nil, "`errors` after which the load goes on: ENOSPC, EIO")
	return cmd
}

// errnos returns the errors of names.
func errnos(names []string) ([]error, error) {
	known := map[string]error{"ENOSPC": unix.ENOSPC, "EIO": unix.EIO}
	var errs []error
	for _, n := range names {
		if known[n] == nil {
			return nil, fmt.Errorf("%q is neither ENOSPC nor EIO", n)
		}
		errs = append(errs, known[n])
	}
	return errs, nil
}

func (a *app) labOpsCommand() *cobra.Command {
	var more int64
	cmd := &cobra.Command{
		Use: "ops DIR", Short: "Print how many requests of a load have succeeded", Hidden: true,
		Args: between(1, 1, "a load's directory"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), time.Minute)
			defer cancel()
			first, err := load.Ops(ctx, args[0])
			for n := first; err == nil && n < first+more; n, err = load.Ops(ctx, args[0]) {
				time.Sleep(20 * time.Millisecond)
			}
			if err == nil && more == 0 {
				fmt.Fprintln(a.out, first)
			}
			return err
		},
	}
	cmd.Flags().Int64Var(&more, "more", 0, "print nothing, and wait for this `number` more")
	return cmd
}

func (a *app) labPromiseCommand() *cobra.Command {
	return &cobra.Command{
		Use: "promise DIR NAME -- COMMAND...", Short: "Run a command that makes a snapshot under a load, and note what that holds", Hidden: true,
		Args: between(3, 1<<20, "a load's directory, a name, and a command after --"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), time.Minute)
			defer cancel()
			return load.Promise(ctx, args[0], args[1], func() error {
				c := exec.CommandContext(cmd.Context(), args[2], args[3:]...)
				c.Stdout, c.Stderr = a.out, a.err
				return c.Run()
			})
		},
	}
}

func (a *app) labKeepsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "keeps DEVICE PROMISE...", Short: "Check that a device holds what was noted of it", Hidden: true,
		Long: "Keeps checks a device against files of \"zbench lab promise\". From then on they promise\nexactly what was found.",
		Args: between(2, 1<<20, "a device and promises"),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, promise := range args[1:] {
				if err := load.Keeps(args[0], promise); err != nil {
					return fmt.Errorf("%s: %w", promise, err)
				}
			}
			return nil
		},
	}
}
