// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/cmd/ddsnap/service"
	"zumastor.org/zumastor/engine/backup"
	"zumastor.org/zumastor/engine/backup/storage"
	"zumastor.org/zumastor/engine/nbd"
)

// backupService is one run of backup serve.
type backupService struct {
	app        *app
	listen     string
	tlsDir     string
	tlsClients bool
}

func (a *app) backupServe() *cobra.Command {
	var f repositoryFlags
	b := &backupService{app: a}
	cmd := &cobra.Command{
		Use:   "serve [flags] REPO",
		Short: "Serve backups over NBD, without restoring them",
		Long: `Serve exports the backups of a repository, read-only, over NBD: each by its ID, by the tag or
name of its snapshot, or as any POINT, such as "latest". What is read is fetched, verified
and made on the way. Backups that are added meanwhile are exported, too; none can be pruned.
It holds 140 MiB of memory at most, and 100 MiB for each backup that is open, or more where
extents are larger than 1 MiB.

It runs in the foreground until SIGTERM or SIGINT.`,
		Example: `  ddsnap backup serve /mnt/backup/vm &
  nbdcopy 'nbd+unix:///latest?socket=/mnt/backup/vm.nbd' - | tar x
  ddsnap backup serve --listen localhost:10809 --key /root/backup.key s3://backups/vm`,
		Args: args(1, 1, "REPO"),
	}
	f.add(cmd)
	fl := cmd.Flags()
	fl.StringVarP(&b.listen, "listen", "l", "", "`address` to listen on: unix:PATH, PATH or HOST:PORT (default REPO.nbd)")
	fl.StringVar(&b.tlsDir, "tls", "", "insist on TLS, with server-cert.pem and server-key.pem of `directory`")
	fl.BoolVar(&b.tlsClients, "tls-clients", false, "insist on client certificates by ca-cert.pem of the --tls directory")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		cfg, addr, err := b.config(args[0])
		if err != nil {
			return err
		}
		ctx, stop := untilSignal(cmd.Context())
		defer stop()
		r, err := f.open(ctx, args[0])
		if err != nil {
			return err
		}
		held, l, err := r.Lock(ctx, "backup serve", false)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, l.Close()) }()
		cfg.Exports = &backupExports{held, r, r.NewReader()}
		return b.serve(ctx, held, cfg, addr)
	}
	return cmd
}

// servedMemory bounds the buffers for what clients asked for.
const servedMemory = 64 << 20

func (b *backupService) config(repo string) (cfg nbd.Config, addr service.Address, err error) {
	if b.listen == "" {
		if storage.IsS3(repo) {
			return cfg, addr, usageError{errors.New("say where to listen with --listen")}
		}
		b.listen = "unix:" + strings.TrimRight(repo, "/") + service.NBDSuffix
	}
	if addr, err = service.ParseAddress(b.listen); err != nil {
		return cfg, addr, usageError{fmt.Errorf("--listen: %w", err)}
	}
	cfg.Memory = servedMemory
	cfg.Logger = slog.New(slog.NewTextHandler(b.app.Err, nil))
	switch {
	case b.tlsDir != "":
		cfg.TLSMode = nbd.TLSRequired
		cfg.TLS, err = nbd.LoadTLS(b.tlsDir, b.tlsClients)
	case b.tlsClients:
		err = usageError{errors.New("--tls-clients needs --tls")}
	}
	return cfg, addr, err
}

// serve serves until ctx ends. If the lock is lost, that is the error.
func (b *backupService) serve(ctx, held context.Context, cfg nbd.Config, addr service.Address) error {
	s, err := nbd.NewServer(cfg)
	if err != nil {
		return err
	}
	ln, err := nbd.Listen(addr.Network, addr.Address)
	if err != nil {
		return err
	}
	fmt.Fprintf(b.app.Err, "serving %s\n", addr.URI(ln.Addr(), latest, cfg.TLS != nil))
	if err := s.Serve(held, ln); err != nil {
		return err
	}
	if ctx.Err() == nil {
		return context.Cause(held)
	}
	return nil
}

// backupExports are the backups of a repository.
type backupExports struct {
	ctx    context.Context // ends with the service
	r      *backup.Repository
	reader *backup.Reader
}

// List implements nbd.Exports.
func (x *backupExports) List() []string {
	points, _, err := x.r.Points(x.ctx)
	if err != nil {
		return nil
	}
	var names []string
	for _, p := range points {
		names = append(names, p.ID)
	}
	return names
}

// Open implements nbd.Exports. The default export is the newest backup.
func (x *backupExports) Open(name string) (*nbd.Export, error) {
	if name == "" {
		name = latest
	}
	points, _, err := x.r.Points(x.ctx)
	if err != nil {
		return nil, err
	}
	p, err := choosePoint(points, name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", nbd.ErrNoExport, err)
	}
	m, err := x.reader.Image(x.ctx, p.ID)
	if err != nil {
		return nil, err
	}
	return &nbd.Export{
		Name: p.ID, Description: fmt.Sprintf("snapshot %d of %s", p.Snapshot.Tag, formatTime(p.Created())), Device: readOnlyImage{m}, ReadOnly: true,
	}, nil
}

// readOnlyImage is a backup as a device.
type readOnlyImage struct{ *backup.Image }

// WriteAt implements device.Device.
func (readOnlyImage) WriteAt([]byte, int64) (int, error) { return 0, os.ErrPermission }

// Flush implements device.Device.
func (readOnlyImage) Flush() error { return nil }

// Discard implements device.Device.
func (readOnlyImage) Discard(int64, int64) error { return os.ErrPermission }
