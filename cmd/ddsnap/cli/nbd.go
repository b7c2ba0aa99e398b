// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/cmd/ddsnap/service"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/nbd"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
)

// nbdFlags are the flags of nbd.
type nbdFlags struct {
	listen, control, journal string
	server                   string
	metrics                  string
	tlsDir                   string
	tlsClients, tlsOptional  bool
	cache                    size
	deleteRate               uint
	digests                  digestFlags
	readOnly, noDirect       bool
	level                    string
	onFailure                string
	onUnreadable             string
}

func (a *app) nbd() *cobra.Command {
	var f nbdFlags
	cmd := &cobra.Command{
		Use:        "nbd [flags] SNAPDEV ORGDEV [METADEV]",
		SuggestFor: []string{"export"},
		Short:      "Serve a volume and its snapshots over NBD",
		Long: `Nbd opens the store on SNAPDEV and serves the origin ORGDEV as the NBD export
"origin", and each snapshot, read-only, as "snapshot/TAG", or to be written to as
"writable/TAG". Instead of its tag, its name will do. Snapshots come and go as they
are taken and deleted through the control socket. From when the store has its first
snapshot, the origin must be written to through this server only.

The metadata context "qemu:dirty-bitmap:since-TAG" of an export says which parts
may differ from the older snapshot TAG; "base:allocation" says where an origin that
is a file has holes.

Where the origin cannot be read, a first write that a snapshot needs the old content
of goes on, and the snapshot loses that chunk; with --unreadable=fail-write it fails.

It runs in the foreground and logs to standard error. On SIGTERM or SIGINT it
answers what is under way, flushes, writes a checkpoint and exits; a second signal
kills it. It may be killed at any time: the store recovers when it is next opened.`,
		Example: `  ddsnap nbd /srv/vm.store /srv/vm.img
  ddsnap nbd --listen localhost:10809 /dev/vg/store /dev/vg/origin
  ddsnap nbd --listen :10809 --tls /etc/pki/ddsnap --tls-clients /dev/vg/store /dev/vg/origin
  ddsnap nbd --read-only /srv/vm.store /srv/vm.img`,
		Args: args(2, 3, "SNAPDEV", "ORGDEV", "METADEV"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := a.serviceConfig(&f, args)
			if err != nil {
				return err
			}
			if err := f.join(cmd, &cfg); err != nil {
				return err
			}
			return serve(cmd.Context(), cfg)
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.listen, "listen", "l", "", "`address` to listen on: unix:PATH, PATH or HOST:PORT (default SNAPDEV.nbd)")
	f.addServer(cmd)
	fl.BoolVar(&f.readOnly, "read-only", false, "export the snapshots only, and write nothing to any device")
	f.add(cmd)
	return cmd
}

// addServer adds the flag of the verbs that can be clients of a server.
func (f *nbdFlags) addServer(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.server, "server", "", "be a client of the \"ddsnap server\" that listens on `socket`")
}

// join makes a service a client of a server if the flags say so.
func (f *nbdFlags) join(cmd *cobra.Command, cfg *service.Config) error {
	if !cmd.Flags().Changed("server") {
		return nil
	}
	switch {
	case f.server == "":
		return usageError{errors.New("--server needs the path of a socket, such as SNAPDEV.clients")}
	case strings.HasSuffix(f.server, service.ControlSuffix):
		return usageError{fmt.Errorf("--server %s is for verbs: the socket for clients is %s",
			f.server, strings.TrimSuffix(f.server, service.ControlSuffix)+service.ClientsSuffix)}
	case f.readOnly:
		return usageError{errors.New("--read-only needs the store for itself, not a --server")}
	case f.metrics != "":
		return usageError{errors.New("--metrics is for \"ddsnap server\", where this is its client")}
	case f.digests.given():
		return usageError{errors.New("--digest-rate and --digest-age are for \"ddsnap server\", which computes the digests, where this is its client")}
	case f.cache != 0:
		return usageError{errors.New("--cache is for \"ddsnap server\", which has the metadata, where this is its client")}
	}
	cfg.Join, cfg.Clients = true, f.server
	return nil
}

// add adds the flags of all verbs that serve a volume.
func (f *nbdFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.tlsDir, "tls", "", "insist on TLS, with server-cert.pem and server-key.pem of `directory`")
	fl.BoolVar(&f.tlsClients, "tls-clients", false, "insist on client certificates by ca-cert.pem of the --tls directory")
	fl.BoolVar(&f.tlsOptional, "tls-optional", false, "offer TLS, but don't insist")
	fl.StringVar(&f.onUnreadable, "unreadable", volume.LoseChunk.String(), "`policy` of a bad origin: lose-chunk or fail-write")
	f.digests.add(cmd)
	_ = cmd.RegisterFlagCompletionFunc("unreadable", cobra.FixedCompletions([]string{"lose-chunk", "fail-write"}, cobra.ShellCompDirectiveNoFileComp))
	f.addCommon(cmd)
}

// addCommon adds the flags of all verbs that open a store and stay.
func (f *nbdFlags) addCommon(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.control, "control", "", "`path` of the control socket (default SNAPDEV.control)")
	fl.StringVarP(&f.journal, "journal", "j", "", "journal `device`, of placements nvram and pmem")
	fl.StringVar(&f.metrics, "metrics", "", "`address` to serve Prometheus metrics on: unix:PATH, PATH or HOST:PORT")
	fl.VarP(&f.cache, "cache", "k", "memory for metadata (default 64m)")
	fl.UintVar(&f.deleteRate, "delete-rate", 0, fmt.Sprintf("chunks that deletions look at in a second, at least `n` (default %d)", store.DefaultDeleteRate))
	fl.BoolVar(&f.noDirect, "page-cache", false, "go through the page cache instead of O_DIRECT")
	fl.StringVar(&f.onFailure, "on-failure", store.HoldWrites.String(), "`policy` of a failing store: hold, fail-writes or let-go")
	fl.StringVar(&f.level, "log-level", "info", "least `level` to log: debug, info, warn or error")
	_ = cmd.RegisterFlagCompletionFunc("on-failure", cobra.FixedCompletions([]string{"hold", "fail-writes", "let-go"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("log-level", cobra.FixedCompletions([]string{"debug", "info", "warn", "error"}, cobra.ShellCompDirectiveNoFileComp))
}

// serve runs a service until a signal.
func serve(ctx context.Context, cfg service.Config) error {
	signal.Ignore(syscall.SIGHUP)
	defer signal.Reset(syscall.SIGHUP)
	ctx, stop := untilSignal(ctx)
	defer stop()
	err := swapHint(cfg.Origin, serverHint(cfg.Paths, service.Run(ctx, cfg)))
	if errors.Is(err, store.ErrNoStore) && cfg.Meta == "" {
		if part := partHint(cfg.Store); part != nil {
			return part
		}
	}
	return err
}

// swapHint adds to the error of a device without a store that the other one has it.
func swapHint(origin string, err error) error {
	if !errors.Is(err, store.ErrNoStore) {
		return err
	}
	if found, ok := errors.AsType[*device.SignatureError](device.CheckUnused(origin)); ok && isStore(found) {
		return fmt.Errorf("%w: %s holds a %s: the store comes first, then the origin", store.ErrNoStore, origin, found.Signature)
	}
	return err
}

// isStore reports whether a signature is that of a store or a part of one.
func isStore(found *device.SignatureError) bool {
	return strings.Contains(found.Signature, "snapshot store")
}

// serviceConfig turns flags and arguments into what to serve.
func (a *app) serviceConfig(f *nbdFlags, args []string) (service.Config, error) {
	cfg := service.Config{
		Paths: service.Paths{Store: args[0], Journal: f.journal}, Origin: args[1],
		Control: f.control, CacheBytes: int64(f.cache), DeleteRate: int(min(f.deleteRate, math.MaxInt32)), ReadOnly: f.readOnly, Direct: !f.noDirect,
	}
	if len(args) == 3 {
		cfg.Meta = args[2]
	}
	if err := distinct(cfg.Store, cfg.Origin, cfg.Meta, cfg.Journal); err != nil {
		return cfg, err
	}
	var err error
	if cfg.OnFailure, err = store.ParseFailurePolicy(f.onFailure); err != nil {
		return cfg, usageError{fmt.Errorf("--on-failure: %w", err)}
	}
	if cfg.DigestRate, err = f.digests.config(); err != nil {
		return cfg, usageError{err}
	}
	cfg.DigestAge = f.digests.age
	if f.onUnreadable != "" { // the verb has the flag
		if cfg.Unreadable, err = volume.ParseUnreadablePolicy(f.onUnreadable); err != nil {
			return cfg, usageError{fmt.Errorf("--unreadable: %w", err)}
		}
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.level)); err != nil {
		return cfg, usageError{fmt.Errorf("--log-level %q is none of debug, info, warn and error", f.level)}
	}
	cfg.Logger = slog.New(slog.NewTextHandler(a.Err, &slog.HandlerOptions{Level: level}))
	if f.metrics != "" {
		var err error
		if cfg.Metrics, err = service.ParseAddress(f.metrics); err != nil {
			return cfg, usageError{fmt.Errorf("--metrics: %w", err)}
		}
	}
	if f.listen != "" {
		var err error
		if cfg.Listen, err = service.ParseAddress(f.listen); err != nil {
			return cfg, usageError{fmt.Errorf("--listen: %w", err)}
		}
	}
	if f.cache != 0 && f.cache < minCache {
		return cfg, usageError{fmt.Errorf("--cache %v is less than %s", &f.cache, formatSize(minCache))}
	}
	if f.tlsDir == "" {
		if f.tlsClients || f.tlsOptional {
			return cfg, usageError{fmt.Errorf("--tls-clients and --tls-optional need --tls")}
		}
		return cfg, nil
	}
	cfg.TLSMode = nbd.TLSRequired
	if f.tlsOptional {
		cfg.TLSMode = nbd.TLSOffered
	}
	cfg.TLS, err = nbd.LoadTLS(f.tlsDir, f.tlsClients)
	return cfg, err
}

// minCache is the least memory for metadata.
const minCache = 1 << 20
