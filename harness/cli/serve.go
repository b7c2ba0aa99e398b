// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/harness/serve"
)

func (a *app) serveCommand() *cobra.Command {
	var listen string
	cmd := &cobra.Command{
		Use:   "serve [RUN]",
		Short: "Show runs to a browser on this machine",
		Long: `Serve lists the runs and shows their reports, made anew, and comparisons of them, until
it is interrupted. It listens on a loopback address only, and changes no run.
With RUN, it prints the address of that run's report.`,
		Args: between(0, 1, "at most the name of a run"),
		RunE: func(cmd *cobra.Command, args []string) error {
			root, path := a.root, ""
			if len(args) > 0 {
				run, err := a.openRun(args)
				if err != nil {
					return err
				}
				root, path = filepath.Dir(run.Dir()), "run/"+filepath.Base(run.Dir())
			}
			if !serve.Loopback(listen) {
				return fmt.Errorf("%w: --listen %s is no address of this machine only: 127.0.0.1:0 is one", errUsage, listen)
			}
			return a.serve(cmd.Context(), listen, root, path)
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "the loopback `address` to listen on; port 0 takes any that is free")
	return cmd
}

// serve answers until ctx is done, which is no error.
func (a *app) serve(ctx context.Context, listen, root, path string) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("serving runs: %w", err)
	}
	s := &http.Server{Handler: serve.Handler(root), ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	fmt.Fprintf(a.out, "http://%s/%s\n", l.Addr(), path)
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving runs: %w", err)
	}
	return nil
}
