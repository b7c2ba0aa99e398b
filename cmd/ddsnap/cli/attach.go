// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/attach"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/store"
)

// attaching is one run of attach.
type attaching struct {
	app      *app
	flags    nbdFlags
	target   targetFlags
	backend  string
	snapshot string
	write    bool
	dm       bool

	batchKiB    int
	holdTimeout time.Duration
}

func (a *app) attach() *cobra.Command {
	x := &attaching{app: a}
	cmd := &cobra.Command{
		Use:   "attach [flags] SNAPDEV ORGDEV [METADEV]\n  ddsnap attach --snapshot TAG|NAME [flags] SERVER|STORE\n  ddsnap attach --dm --snapshot TAG|NAME [flags] SNAPDEV [ORGDEV]",
		Short: "Make a volume or a snapshot a block device",
		Long: `Attach opens the store on SNAPDEV and makes the origin ORGDEV a block device, whose
path it prints, to make file systems on and to mount. It serves the device, and the
control socket, in the foreground until SIGTERM or SIGINT. While the device is
mounted or open it waits with that; a second signal kills, and what is mounted gets
I/O errors. With --listen, it exports over NBD too.

With --server, the store is that of a "ddsnap server", which may be stopped, killed
and replaced under what is mounted: that waits meanwhile, and gets no errors. The
control socket is the server's then, and all verbs work on that.

With --snapshot, it has such a process make the snapshot a block device as well,
read-only unless --write is given, prints its path and is done. See "ddsnap detach".

With --dm, no process serves the block device but the kernel's own targets do, of the
module dm-ddsnap, beside a "ddsnap server"; attach makes them and is done. So it does
by default where such a server runs. With --snapshot, ORGDEV is to be named if the
kernel does not have the origin. The store, and the origin, may be files: then they get
loop devices, which go with the last target. The store must be of placement inline.

It needs root, and of the kernel what the --backend needs; by default it takes the
best that there is.`,
		Example: `  ddsnap attach /dev/vg/store /dev/vg/origin &
  ddsnap attach --server /run/ddsnap/vg-store.clients /dev/vg/store /dev/vg/origin
  ddsnap create --freeze /mnt/vm /dev/vg/store 17
  mount -o ro $(ddsnap attach --snapshot 17 /dev/vg/store) /mnt/old`,
		Args: args(1, 3, "SNAPDEV", "ORGDEV", "METADEV"),
	}
	fl := cmd.Flags()
	fl.StringVar(&x.snapshot, "snapshot", "", "attach the `snapshot` with this tag or name")
	fl.BoolVarP(&x.write, "write", "w", false, "let the snapshot be written to")
	fl.BoolVar(&x.dm, "dm", false, "have the kernel's own targets serve it: as --backend dm")
	fl.IntVar(&x.batchKiB, "batch-kib", 0, "with --dm: `size` of a batch of copies in KiB, at most (default 8192)")
	fl.DurationVar(&x.holdTimeout, "hold-timeout", 0, "with --dm: fail what waits for a server for this `time` (default never)")
	fl.StringVar(&x.backend, "backend", "", "`how`: "+backends()+" (default the best there is)")
	fl.StringVarP(&x.flags.listen, "listen", "l", "", "export over NBD at this `address` too: unix:PATH, PATH or HOST:PORT")
	x.flags.addServer(cmd)
	x.flags.add(cmd)
	fl.DurationVar(&a.timeout, "timeout", defaultTimeout, "how long to wait for a running server")
	a.jsonFlag(cmd)
	_ = cmd.RegisterFlagCompletionFunc("backend", cobra.FixedCompletions(backendNames(), cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if x.backend != "" && !slices.Contains(backendNames(), x.backend) {
			return usageError{fmt.Errorf("--backend %q is none of %s", x.backend, backends())}
		}
		if x.dm && x.backend != "" && x.backend != string(attach.DM) {
			return usageError{errors.New("choose one of --dm and --backend")}
		}
		if x.backend == string(attach.DM) {
			x.dm = true
		}
		if x.dm || x.byDefaultDM(cmd, args) {
			return x.runDM(cmd, args)
		}
		switch {
		case x.batchKiB != 0 || x.holdTimeout != 0:
			return usageError{errors.New("--batch-kib and --hold-timeout are for --dm")}
		case x.snapshot != "" && len(args) > 1:
			return usageError{fmt.Errorf("superfluous argument %q: with --snapshot, name the server or the store", args[1])}
		case x.snapshot != "" && cmd.Flags().Changed("server"):
			return usageError{errors.New("--server is for the process that attaches the origin: with --snapshot, name the store or its control socket")}
		case x.snapshot != "":
			return x.attachSnapshot(cmd.Context(), args[0])
		case x.write:
			return usageError{errors.New("--write is for --snapshot: the origin is always written to")}
		case len(args) < 2:
			return usageError{errors.New("missing argument: ORGDEV")}
		}
		return x.serve(cmd, args)
	}
	return cmd
}

// ofProcess are the flags of a process that serves a block device.
var ofProcess = []string{"server", "backend", "listen", "tls", "control", "metrics", "cache", "page-cache", "journal"}

// byDefaultDM reports whether the kernel's targets are the best way.
func (x *attaching) byDefaultDM(cmd *cobra.Command, args []string) bool {
	return !slices.ContainsFunc(ofProcess, cmd.Flags().Changed) && len(args) < 3 && x.app.kernelServed(cmd.Context(), args[0]) &&
		(x.snapshot == "" || !x.app.processServes(cmd.Context(), args[0]))
}

// runDM is attach by the kernel's targets.
func (x *attaching) runDM(cmd *cobra.Command, args []string) error {
	for _, name := range ofProcess {
		if name != "backend" && cmd.Flags().Changed(name) {
			return usageError{fmt.Errorf("--%s is for a process that serves the block device, and not for the kernel's targets", name)}
		}
	}
	switch {
	case len(args) > 2:
		return usageError{fmt.Errorf("superfluous argument %q: the server has the metadata", args[2])}
	case x.write && x.snapshot == "":
		return usageError{errors.New("--write is for --snapshot: the origin is always written to")}
	case len(args) < 2 && x.snapshot == "":
		return usageError{errors.New("missing argument: ORGDEV")}
	}
	if err := x.checkFeatures(); err != nil {
		return err
	}
	if err := rootOnly(); err != nil {
		return err
	}
	if err := attach.DM.Probe(); err != nil {
		return err
	}
	return x.attachDM(cmd.Context(), args)
}

func backendNames() []string {
	names := []string{string(attach.DM)}
	for _, b := range attach.Backends() {
		names = append(names, string(b))
	}
	return names
}

func backends() string {
	names := backendNames()
	text := names[0]
	for _, name := range names[1:] {
		text += ", " + name
	}
	return text
}

func (x *attaching) serve(cmd *cobra.Command, args []string) error {
	cfg, err := x.app.serviceConfig(&x.flags, args)
	if err != nil {
		return err
	}
	if err := x.flags.join(cmd, &cfg); err != nil {
		return err
	}
	if err := rootOnly(); err != nil {
		return err
	}
	if err := attach.HoldMemory(); err != nil {
		cfg.Logger.Warn("may deadlock when memory is short", "error", err)
	}
	cfg.Attach, cfg.Backend = true, x.backend
	cfg.Ready = func(path string) { fmt.Fprintln(x.app.Out, path) }
	return serve(cmd.Context(), cfg)
}

// rootOnly is the error of all but root.
func rootOnly() error {
	if os.Geteuid() != 0 {
		return errors.New("only root can make block devices: see \"ddsnap nbd\" for a way without")
	}
	return nil
}

func (x *attaching) attachSnapshot(ctx context.Context, name string) error {
	ref, err := parseRef(x.snapshot)
	if err != nil {
		return err
	}
	return x.app.with(ctx, name, &x.target, true, func(ctx context.Context, t *target) error {
		if t.offline != nil {
			return noAttacher(t)
		}
		r, err := t.Do(ctx, admin.Request{Verb: admin.VerbAttach, Snapshot: &ref, Attach: &admin.Attach{Backend: x.backend, Write: x.write}})
		switch {
		case errors.Is(err, admin.ErrRequest):
			return noAttacher(t)
		case err != nil:
			return explain(t, ref, "attaching", err)
		case x.app.json:
			return x.app.printJSON(r.Device)
		}
		fmt.Fprintln(x.app.Out, r.Device.Path)
		return nil
	})
}

// nothingAttached says that there is nothing to detach.
func nothingAttached(t *target) error {
	return codeError{fmt.Errorf("nothing of %s is a block device: \"ddsnap attach\" does not serve it", t.name), exitWrong}
}

func noAttacher(t *target) error {
	return codeError{fmt.Errorf("%s is not served by \"ddsnap attach\", which makes the block devices: start that first", t.name), exitWrong}
}

func (a *app) detach() *cobra.Command {
	var force, stale bool
	cmd := &cobra.Command{
		Use:   "detach [flags] SERVER|STORE [TAG|NAME]\n  ddsnap detach --stale",
		Short: "End a block device of attach",
		Long: `Detach ends the block device that a snapshot, or without TAG the origin, is
attached as. One that is mounted, held or open is not detached, unless --force is
given: then whoever uses it gets I/O errors. The process that serves the store goes
on. One that the kernel's targets serve is removed without asking the server.

With --stale, it removes the block devices of this machine that were left by
processes which were killed, whatever their store, and prints their paths. Those
that are mounted or open stay, and are an error: unmount them first.`,
		Example: `  ddsnap detach /dev/vg/store 17
  ddsnap detach --stale`,
	}
	some := args(1, 2, "SERVER|STORE", "TAG|NAME")
	cmd.Args = func(cmd *cobra.Command, got []string) error {
		switch {
		case !stale:
			return some(cmd, got)
		case len(got) > 0:
			return usageError{fmt.Errorf("superfluous argument %q: --stale is about all stores", got[0])}
		case force:
			return usageError{errors.New("--force is not for --stale: unmount what is mounted")}
		}
		return nil
	}
	f := a.targetFlags(cmd)
	cmd.Flags().BoolVar(&force, "force", false, "detach it under those who use it")
	cmd.Flags().BoolVar(&stale, "stale", false, "remove what killed processes left")
	cmd.ValidArgsFunction = a.completeTags(f, true)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if stale {
			return a.cleanUp()
		}
		r := admin.Request{Verb: admin.VerbDetach, Force: force}
		what := "the origin"
		if len(args) == 2 {
			ref, err := parseRef(args[1])
			if err != nil {
				return err
			}
			r.Snapshot, what = &ref, "snapshot "+ref.String()
		}
		if found, err := a.detachDM(cmd.Context(), args[0], f, r.Snapshot, force); found || err != nil {
			return err
		}
		return a.with(cmd.Context(), args[0], f, true, func(ctx context.Context, t *target) error {
			if t.offline != nil {
				return nothingAttached(t)
			}
			_, err := t.Do(ctx, r)
			switch {
			case errors.Is(err, store.ErrNoSnapshot):
				return codeError{fmt.Errorf("%s is not attached by %s: \"ddsnap status\" shows what is", what, t.name), exitAbsent}
			case errors.Is(err, admin.ErrRequest):
				return nothingAttached(t)
			case errors.Is(err, store.ErrInUse):
				return codeError{fmt.Errorf("detaching %s: %w: unmount it first, or insist with --force", what, err), exitInUse}
			case err != nil:
				return fmt.Errorf("detaching %s: %w", what, err)
			}
			return nil
		})
	}
	return cmd
}

// cleanUp removes block devices whose processes were killed.
func (a *app) cleanUp() error {
	if os.Geteuid() != 0 {
		return errors.New("only root can remove block devices")
	}
	removed, err := attach.Cleanup()
	list := []admin.Device{}
	for _, d := range removed {
		list = append(list, admin.Device{Path: d.Path, Backend: string(d.Backend)})
	}
	switch {
	case a.json:
		err = errors.Join(a.printJSON(list), err)
	default:
		for _, d := range list {
			fmt.Fprintln(a.Out, d.Path)
		}
	}
	switch {
	case errors.Is(err, device.ErrInUse):
		return fmt.Errorf("removing what killed processes left: %w: unmount and close what is in use first", err)
	case err != nil:
		return fmt.Errorf("removing what killed processes left: %w", err)
	}
	return nil
}
