// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/cmd/ddsnap/service"
	"zumastor.org/zumastor/engine/attach"
)

func (a *app) server() *cobra.Command {
	var f nbdFlags
	var clients string
	var takeover bool
	var kernel string
	cmd := &cobra.Command{
		Use:        "server [flags] SNAPDEV [METADEV]",
		SuggestFor: []string{"daemon", "agent", "serve"},
		Short:      "Be the metadata server of volumes in other processes",
		Long: `Server opens the store on SNAPDEV and serves clients in other processes on a Unix
socket: one for the origin, any number for snapshots ("ddsnap nbd --server"). The
other verbs work on its control socket.

It may be stopped, killed or replaced at any time. The origin's client goes on as
long as it has room that it was given in advance, and holds what needs the server
after that; reads, and writes that need no copy, go on. The next server takes in what
the clients did meanwhile, and they go on with it. No request fails for it.

With --takeover, it takes the place of the "ddsnap server" of this store that runs: it
makes sure that it can open the store, has that one write a checkpoint and end, and
goes on with its sockets. Clients and verbs wait meanwhile. This is how to upgrade;
under systemd, restart the unit instead, whose sockets stay.

Where the kernel's module dm-ddsnap is loaded, it also serves the targets of the store
that "ddsnap attach --dm" makes, locks its memory, and is not killed when memory is
short. With --kernel=required it loads the module, and does not start without; with
--kernel=off it leaves the kernel alone. Whether it is loaded when the server starts
is what counts.

It computes the digests of new snapshots in the background, of the origin that the kernel
or its client has, for "ddsnap verify" and deltas (--digest-rate off: it does not).

Users who may connect are root and the server's own. It runs in the foreground and logs
to standard error; systemd can keep its sockets, named "clients" and "control".`,
		Example: `  ddsnap server /dev/vg/store
  ddsnap server --takeover /dev/vg/store
  ddsnap nbd --server /run/ddsnap/vg-store.clients /dev/vg/store /dev/vg/origin`,
		Args: args(1, 2, "SNAPDEV", "METADEV"),
		RunE: func(cmd *cobra.Command, args []string) error {
			devices := []string{args[0], ""}
			cfg, err := a.serviceConfig(&f, append(devices, args[1:]...))
			if err != nil {
				return err
			}
			if takeover && clients != "" {
				return usageError{errors.New("--clients is not for --takeover, which goes on with the sockets that there are")}
			}
			cfg.Serve, cfg.Clients, cfg.TakeOver = true, clients, takeover
			if cfg.Kernel = service.Kernel(kernel); !slices.Contains(service.Kernels(), cfg.Kernel) {
				return usageError{fmt.Errorf("--kernel=%s is none of %v", kernel, service.Kernels())}
			}
			if err := holdForKernel(&cfg); err != nil {
				return err
			}
			return serve(cmd.Context(), cfg)
		},
	}
	cmd.Flags().StringVar(&clients, "clients", "", "`path` of the socket for clients (default SNAPDEV.clients)")
	cmd.Flags().BoolVar(&takeover, "takeover", false, "replace the server that runs, whose control socket is --control")
	cmd.Flags().StringVar(&kernel, "kernel", string(service.KernelAuto), "serve the kernel's targets: auto, off or required")
	_ = cmd.RegisterFlagCompletionFunc("kernel", cobra.FixedCompletions([]string{"auto", "off", "required"}, cobra.ShellCompDirectiveNoFileComp))
	f.digests.add(cmd)
	f.addCommon(cmd)
	return cmd
}

// holdForKernel keeps a server that serves the kernel in memory, whatever happens: a
// volume may hold what the machine swaps to, and what it needs to free memory.
func holdForKernel(cfg *service.Config) error {
	serves, err := cfg.ServesKernel()
	if err != nil || !serves {
		return err
	}
	if err := attach.HoldMemory(); err != nil {
		cfg.Logger.Warn("the machine may deadlock when memory is short: do not swap to a volume of this server", "error", err)
	}
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0); err != nil {
		cfg.Logger.Warn("the kernel may kill this server when memory is short; volumes wait until it is started again", "error", err)
	}
	return nil
}
