// SPDX-License-Identifier: Apache-2.0

// Package cli is the command line of ddsnap.
//
// It owns the verbs, their flags, what they print and the exit codes. It does not
// own what they do: packages admin, check, store and service. Command ddsnap calls
// [Run], and so do tests. One Run at a time in a process: it handles signals. An
// error is printed once, in one line that names the thing and what to do, and
// decides the exit code. Manual pages and shell completions are generated from the
// verbs.
package cli

//go:generate go test -count=1 -run "TestManPages|TestCompletions" -rewrite .

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/engine/layout"
)

// Streams are a process's standard streams.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// app is one run of the command.
type app struct {
	Streams
	json    bool
	show    showProgress
	timeout time.Duration
	now     func() time.Time
}

// Run runs ddsnap with the arguments after its name and returns the exit code.
func Run(args []string, s Streams) int {
	a := &app{Streams: s, now: time.Now}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	cmd, err := root.ExecuteContextC(context.Background())
	if err == nil {
		return exitDone
	}
	if strings.HasPrefix(err.Error(), "unknown command") { // cobra has no type for it
		err = usageError{err}
	}
	code := exitCode(err)
	if text := message(err) + permissionHint(err, os.Geteuid()); text != "" {
		fmt.Fprintf(s.Err, "ddsnap: %s\n", text)
	}
	if code == exitUsage && cmd != nil {
		fmt.Fprintf(s.Err, "see \"%s --help\"\n", cmd.CommandPath())
	}
	return code
}

// message returns an error as one line.
func message(err error) string {
	lines := strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' })
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	text := strings.Join(lines, "; ")
	return strings.ReplaceAll(text, "?; ", "? ") // cobra's suggestions
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "ddsnap",
		Short: "Snapshots of block volumes",
		Long: `Ddsnap takes any number of snapshots of a block volume, the origin. Before a part
of the origin is overwritten for the first time after a snapshot, its old bytes
are copied to a separate device or file, the store.

"ddsnap initialize" makes a store, "ddsnap nbd" serves origin and snapshots to NBD
clients, "ddsnap attach" makes block devices of them, and most other verbs work on
the control socket of such a server, or on a store that no server has open.`,
		Example: `  ddsnap initialize --size 10g /srv/vm.store /srv/vm.img
  ddsnap nbd /srv/vm.store /srv/vm.img &
  ddsnap create /srv/vm.store 1
  nbdcopy 'nbd+unix:///snapshot/1?socket=/srv/vm.store.nbd' backup.img
  ddsnap status /srv/vm.store`,
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(flagError)
	root.SetVersionTemplate("ddsnap {{.Version}}\n")
	root.AddCommand(
		a.initialize(), a.create(), a.delete(), a.list(), a.status(), a.priority(), a.usecount(), a.hold(), a.policy(), a.revert(), a.merge(), a.resize(), a.group(),
		a.top(), a.events(), a.dump(), a.check(), a.repair(), a.scrub(), a.digest(), a.delta(), a.transmit(), a.verify(), a.key(), a.backup(), a.nbd(), a.server(), a.attach(), a.detach(),
		exitCodesTopic(),
	)
	return root
}

// version says what was built from which revision.
func version() string {
	v := "(development)"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if m := info.Main.Version; m != "" && m != "(devel)" {
		v = m
	}
	return fmt.Sprintf("%s, store format %d, %s", v, layout.Version, info.GoVersion)
}

// args returns a check of the number of arguments that names those missing.
func args(least, most int, names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, got []string) error {
		switch {
		case len(got) < least:
			return usageError{fmt.Errorf("missing argument: %s", strings.Join(names[len(got):least], " "))}
		case len(got) > most:
			return usageError{fmt.Errorf("superfluous argument %q", got[most])}
		}
		return nil
	}
}

// family makes a command of others, which does nothing by itself.
func family(cmd *cobra.Command, members ...*cobra.Command) *cobra.Command {
	cmd.AddCommand(members...)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usageError{fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath())}
		}
		return cmd.Help()
	}
	return cmd
}

// printJSON prints v as a JSON document of its own.
func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.Out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// jsonFlag adds --json to a verb.
func (a *app) jsonFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&a.json, "json", false, "print JSON")
}

// isTerminal reports whether a stream is a terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// untilSignal returns a context that ends at SIGINT or SIGTERM; a second one kills,
// as either does when no such context is alive.
func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}
