// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/harness/export"
	"zumastor.org/zumastor/results"
	"zumastor.org/zumastor/workloads/record"
	"zumastor.org/zumastor/workloads/trace"
	"zumastor.org/zumastor/workloads/traces"
)

func (a *app) recordCommand() *cobra.Command {
	var o record.Options
	var about string
	for _, r := range record.Recipes() {
		about += fmt.Sprintf("\n  %-16s %s", r.Name, r.About)
	}
	cmd := &cobra.Command{
		Use:   "record NAME",
		Short: "Record the block operations of real programs",
		Long:  "Record runs real programs on a real ext4 on a loop device and writes a trace of what\nthe device was asked. It needs root. NAME is one of:\n" + about,
		Args:  between(1, 1, "the name of a recording"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.OnStatus = func(text string) { fmt.Fprintln(a.err, text) }
			if o.Output == "" {
				o.Output = args[0] + ".trace"
			}
			r, err := record.Run(cmd.Context(), args[0], o)
			if err != nil {
				return err
			}
			fmt.Fprintf(a.out, "wrote %s\n", o.Output)
			return r.Info.WriteText(a.out)
		},
	}
	cmd.Flags().StringVarP(&o.Output, "output", "o", "", "the `file` to write (default NAME.trace)")
	cmd.Flags().StringVar(&o.WorkDir, "dir", "", "the `directory` for image and sources, several GiB")
	return cmd
}

func (a *app) traceCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "trace", Short: "Look into traces", Args: between(0, 0, "a command")}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	info := &cobra.Command{
		Use: "info FILE", Short: "Say what a trace amounts to; FILE may be the name of a built-in one",
		Args: between(1, 1, "a file or the name of a trace"),
		RunE: func(_ *cobra.Command, args []string) error {
			t, err := openTrace(args[0])
			if err != nil {
				return err
			}
			return writeInfo(a.out, t)
		},
	}
	dump := &cobra.Command{
		Use: "dump FILE", Short: "Print a trace as text; FILE may be the name of a built-in one",
		Args: between(1, 1, "a file or the name of a trace"),
		RunE: func(_ *cobra.Command, args []string) error {
			t, err := openTrace(args[0])
			if err != nil {
				return err
			}
			return t.Dump(a.out)
		},
	}
	cmd.AddCommand(info, dump)
	return cmd
}

// openTrace reads a file, or a built-in trace where there is no such file.
func openTrace(name string) (*trace.Trace, error) {
	t, err := trace.Open(name)
	if !errors.Is(err, os.ErrNotExist) {
		return t, err
	}
	t, berr := traces.Load(name)
	if berr != nil {
		return nil, errors.Join(err, berr)
	}
	return t, nil
}

func writeInfo(w io.Writer, t *trace.Trace) error {
	fmt.Fprintf(w, "trace        %s, of a device of %d bytes\n", t.Name, t.Size)
	for _, p := range t.Phases() {
		fmt.Fprintf(w, "phase        %-20q %d ops\n", p.Name, len(p.Ops))
	}
	in, err := trace.Stat(t.Stream())
	if err != nil {
		return err
	}
	return in.WriteText(w)
}

func (a *app) envCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: "env", Short: "Print the environment that a run would record", Args: between(0, 0, "no arguments"),
		RunE: func(*cobra.Command, []string) error { return a.printJSON(results.CollectEnvironment(dir)) },
	}
	cmd.Flags().StringVar(&dir, "dir", os.TempDir(), "the `directory` that files would be made in")
	return cmd
}

// partCommand is a part of an experiment in a process of its own.
func (a *app) partCommand() *cobra.Command {
	return &cobra.Command{
		Use: export.PartCommand, Hidden: true, Short: "Be a part of an experiment", Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return export.RunPart(context.WithoutCancel(cmd.Context()), args, a.in, a.out)
		},
	}
}

// exportCommand is the child process of experiments that compare servers.
func (a *app) exportCommand() *cobra.Command {
	var c export.Config
	cmd := &cobra.Command{
		Use: export.Command, Hidden: true, Short: "Serve an origin over NBD until standard input ends", Args: between(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.Check(); err != nil {
				return fmt.Errorf("%w: %w", errUsage, err)
			}
			return export.Serve(context.WithoutCancel(cmd.Context()), c, a.in, a.out)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&c.Origin, "origin", "", "the `file` or device of the origin")
	flags.StringVar(&c.Store, "store", "", "the `file` or device to make a store on")
	flags.Int64Var(&c.ChunkSize, "chunk", 64<<10, "chunk size in `bytes`")
	flags.StringVar(&c.Variant, "variant", "inline", "the `placement`")
	flags.StringVar(&c.Socket, "socket", "", "the `path` of the Unix socket")
	return cmd
}
