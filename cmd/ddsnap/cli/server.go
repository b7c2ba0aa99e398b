// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"github.com/spf13/cobra"
)

func (a *app) server() *cobra.Command {
	var f nbdFlags
	var clients string
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

Users who may connect are root and the server's own. It runs in the foreground and logs
to standard error; systemd can keep its sockets, named "clients" and "control".`,
		Example: `  ddsnap server /dev/vg/store
  ddsnap nbd --server /run/ddsnap/vg-store.clients /dev/vg/store /dev/vg/origin`,
		Args: args(1, 2, "SNAPDEV", "METADEV"),
		RunE: func(cmd *cobra.Command, args []string) error {
			devices := []string{args[0], ""}
			cfg, err := a.serviceConfig(&f, append(devices, args[1:]...))
			if err != nil {
				return err
			}
			cfg.Serve, cfg.Clients = true, clients
			return serve(cmd.Context(), cfg)
		},
	}
	cmd.Flags().StringVar(&clients, "clients", "", "`path` of the socket for clients (default SNAPDEV.clients)")
	f.addCommon(cmd)
	return cmd
}
