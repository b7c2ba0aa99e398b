// SPDX-License-Identifier: Apache-2.0

// Package cli is the command line of zbench.
//
// It owns commands, flags, help and exit codes. It does not own what the commands
// do: packages runner, report, goals, regress, record and trace do. Command
// zbench and its tests call [Main]. Nothing here is kept between calls. An error
// is printed once, as a sentence that says what to do, and becomes an exit code.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/harness/lab"
	"zumastor.org/zumastor/harness/runner"
)

// Exit codes.
const (
	ExitOK          = 0
	ExitError       = 1   // something failed
	ExitUsage       = 2   // a command or flag was not understood
	ExitNotMet      = 3   // --check: a goal is not met, or something got worse
	ExitUnavailable = 4   // the lab has no QEMU, or no Debian mirror
	ExitInterrupted = 130 // a run was interrupted, and can be resumed
)

const about = `zbench runs the experiments of this repository, and shows what they gave.

A run takes a suite of experiments (smoke: under a minute, quick: minutes, full:
hours), measures them on files, on a block device or in disk models, and leaves a
directory under results/runs with samples, figures, tables and report.html.

Exit codes: 0 done; 1 something failed; 2 the command line was not understood;
3 with --check, a goal is not met or something got worse; 4 the lab's tools or
packages are not to be had; 130 interrupted.`

// errUsage is wrapped by errors about the command line itself.
var errUsage = errors.New("usage")

// errCheck is wrapped when --check finds what it looks for.
var errCheck = errors.New("check failed")

// app is what commands share.
type app struct {
	in       io.Reader
	out, err io.Writer
	root     string // of runs
	args     []string
}

// Main runs the command that args name and returns the exit code.
func Main(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	a := &app{in: in, out: out, err: errOut, args: args}
	err := a.run(ctx, args)
	var exit *codeError
	if errors.As(err, &exit) {
		return exit.code
	}
	if err != nil {
		fmt.Fprintf(errOut, "zbench: %s\n", strings.TrimPrefix(err.Error(), errUsage.Error()+": "))
	}
	switch {
	case err == nil:
		return ExitOK
	case errors.Is(err, errUsage):
		return ExitUsage
	case errors.Is(err, lab.ErrUnavailable):
		return ExitUnavailable
	case errors.Is(err, errCheck):
		return ExitNotMet
	case errors.Is(err, runner.ErrInterrupted):
		return ExitInterrupted
	}
	return ExitError
}

func (a *app) run(ctx context.Context, args []string) error {
	root := &cobra.Command{
		Use: "zbench", Short: "Run experiments and show what they gave", Long: about,
		SilenceErrors: true, SilenceUsage: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("%w: unknown command %q: zbench --help lists them", errUsage, args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.PersistentFlags().StringVar(&a.root, "results", "results/runs", "the `directory` of runs")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w: %w: %s --help lists the flags", errUsage, err, cmd.CommandPath())
	})
	root.AddCommand(a.runCommand(), a.goalsCommand(), a.reportCommand(), a.compareCommand(),
		a.listCommand(), a.recordCommand(), a.traceCommand(), a.envCommand(), a.labCommand(), a.exportCommand(), a.partCommand(), a.probeCommand(), a.baselineCommand(), a.againstCommand(), a.paceCommand(), a.tuneCommand(), a.historyCommand(), a.trendCommand(),
		a.fleetCommand(), a.mergeCommand(), a.paperCommand(), a.serveCommand())
	root.SetArgs(args)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	return root.ExecuteContext(ctx)
}

// between wants from least to most arguments, of the names given.
func between(least, most int, names string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < least || len(args) > most {
			return fmt.Errorf("%w: %s takes %s, not %d arguments", errUsage, cmd.CommandPath(), names, len(args))
		}
		return nil
	}
}
