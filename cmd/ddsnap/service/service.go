// SPDX-License-Identifier: Apache-2.0

// Package service is the process behind "ddsnap nbd", "attach" and "server": a store
// with its server, the volume, its export over NBD or as a block device, and the
// control socket; or, with "ddsnap server", the first and the last in a process apart.
//
// It owns how these are put together, in which order they start and stop, and
// what the exports are called. It does not own how any of them works, nor the
// command line; package cli is its caller, and uses [OpenDevices] for the verbs
// that work on a store that no server has open. One [Run] serves one store, which
// it locks. When a part cannot start, those before it are stopped again; when a
// listener fails later, all stop in order, and Run returns the error.
package service

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/client"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/digest/compute"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/nbd"
	"zumastor.org/zumastor/engine/server"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
)

// Config says what to serve and where.
type Config struct {
	Paths
	Origin  string
	Listen  Address // default: the store's NBD socket
	Control string  // default: the store's control socket
	// Serve makes this the metadata server of clients in other processes, which
	// connect to the socket Clients. There is then no origin, nor any export.
	Serve   bool
	Clients string // default: the store's socket for clients
	// TakeOver has the server that listens on Control stop, and goes on with its
	// sockets. Serve is true.
	TakeOver bool
	// Quiet is how long a client may take to let its writes end for a snapshot; zero:
	// the default of [server.ListenOptions].
	Quiet time.Duration
	// Join makes this a client of the server that listens on the socket Clients.
	Join       bool
	TLS        *tls.Config // nil for none
	TLSMode    nbd.TLSMode
	CacheBytes int64 // of metadata; default store.DefaultCacheBytes
	OnFailure  store.FailurePolicy
	Unreadable volume.UnreadablePolicy
	DeleteRate int // exceptions a second; default store.DefaultDeleteRate
	// DigestRate is how many bytes a second are read for digests that are computed in the
	// background; zero: compute.DefaultRate; NoDigests: none are.
	DigestRate int64
	DigestAge  time.Duration // how old their snapshots must be; zero: compute.DefaultAge
	ReadOnly   bool          // export snapshots only, and write nothing to any device
	Direct     bool
	Metrics    Address // where Prometheus asks; zero: nowhere
	// Attach makes the origin a block device, and snapshots as they are asked for.
	// NBD is then served only if Listen says where.
	Attach  bool
	Backend string            // to attach the origin with; empty: the best
	Ready   func(path string) // is told the origin's block device; not nil if Attach
	// Kernel says whether the server of other processes serves the kernel's targets.
	Kernel Kernel
	Logger *slog.Logger // not nil
}

// service is what runs.
type service struct {
	cfg     Config
	devs    *Devices
	device  *device.File     // the origin's
	server  *server.Server   // nil if it is another process
	clients *server.Listener // nil for none
	waiting *net.UnixListener
	remote  *client.Client     // nil if the server is this process
	joined  *layout.Superblock // as it was when this became the remote server's client
	origin  *volume.Origin
	counted counted // the origin
	holes   *holes
	exports *exports
	devices *attachments        // nil if none are made
	digests *compute.Background // nil if none are computed
	nbd     *nbd.Server         // nil if it is not served
	ln      net.Listener
	control *net.UnixListener
	metrics net.Listener     // nil for none
	kernel  bool             // the kernel's targets are served
	bound   server.Transport // the first connection with them, until it is served
	manager *manager
	unlink  map[string]string // listeners' paths to remove at the end, by name
	yield   context.CancelCauseFunc
	resizes atomic.Int64   // under way
	undo    []func() error // of what has started, in order
}

// Run serves until ctx is done. It then answers the requests that are under way,
// flushes the origin, writes the last checkpoint and returns nil.
func Run(ctx context.Context, cfg Config) error {
	s := &service{cfg: cfg, unlink: make(map[string]string)}
	ctx, s.yield = context.WithCancelCause(ctx)
	defer s.yield(nil)
	if cfg.Attach {
		s.devices = &attachments{service: s}
	}
	var err error
	if s.manager, err = managedBy(os.Getenv); err != nil {
		return err
	}
	s.undo = append(s.undo, s.manager.close)
	for _, start := range s.steps(ctx) {
		if err := start(); err != nil {
			return errors.Join(err, s.stop())
		}
	}
	s.announce()
	s.tell("READY=1")
	err = s.serve(ctx)
	cfg.Logger.Info("stopping", "store", cfg.Store)
	s.tell("STOPPING=1")
	if err = errors.Join(err, s.stop()); err == nil {
		cfg.Logger.Info("stopped", "store", cfg.Store)
	}
	return err
}

// steps are what starts, in order.
func (s *service) steps(ctx context.Context) []func() error {
	switch {
	case s.cfg.TakeOver:
		return []func() error{func() error { return s.takeOver(ctx) }}
	case s.cfg.Serve:
		return []func() error{s.openShared, s.openAwaited, s.openDigests, s.bindKernel, s.listen, s.listenToClients}
	case s.cfg.Join:
		return []func() error{s.openAsClient, s.openOrigin, s.join, s.openVolume, s.openExports, s.listen, s.attach}
	}
	return []func() error{s.openDevices, s.openOrigin, s.openStore, s.openVolume, s.openExports, s.openDigests, s.listen, s.attach}
}

// tell tells the service manager of a state.
func (s *service) tell(state string) {
	if err := s.manager.notify(state); err != nil {
		s.cfg.Logger.Warn("the service manager does not hear", "error", err)
	}
}

// stop ends what has started, in reverse order.
func (s *service) stop() error {
	var errs []error
	for i := len(s.undo) - 1; i >= 0; i-- {
		errs = append(errs, s.undo[i]())
	}
	s.undo = nil
	return errors.Join(errs...)
}

func (s *service) openDevices() (err error) {
	if s.devs, err = OpenDevices(s.cfg.Paths, Access{ReadOnly: s.cfg.ReadOnly, Direct: s.cfg.Direct}); err != nil {
		return err
	}
	s.undo = append(s.undo, s.devs.Close)
	return nil
}

func (s *service) openOrigin() (err error) {
	if s.device, err = device.OpenFile(s.cfg.Origin, device.FileOptions{ReadOnly: s.cfg.ReadOnly, Direct: s.cfg.Direct}); err != nil {
		return err
	}
	s.undo = append(s.undo, s.device.Close)
	for _, f := range []*device.File{s.devs.StoreFile, s.device} {
		if ok, reason := f.Direct(); !ok && s.cfg.Direct {
			s.cfg.Logger.Warn("going through the page cache", "device", f.Path(), "reason", reason)
		}
	}
	return nil
}

func (s *service) openStore() (err error) {
	s.server, err = server.Open(s.devs.Devices, server.Options{
		Store:  store.Options{ReadOnly: s.cfg.ReadOnly, CacheBytes: s.cfg.CacheBytes, OnFailure: s.cfg.OnFailure, DeleteRate: s.cfg.DeleteRate},
		Logger: s.cfg.Logger,
	})
	if err != nil {
		return fmt.Errorf("opening the store on %s: %w", s.cfg.Store, err)
	}
	s.undo = append(s.undo, s.server.Close)
	return nil
}

func (s *service) openVolume() (err error) {
	switch size := s.catalogue().Geometry().Size(); {
	case s.device.Size() < size:
		return fmt.Errorf("%w: origin %s has %d bytes, and the store on %s is for one of %d: is it the right device?",
			block.ErrGeometry, s.cfg.Origin, s.device.Size(), s.cfg.Store, size)
	case s.device.Size() > size:
		s.cfg.Logger.Warn("the origin is larger than the store is for; the rest is not exported",
			"origin", s.cfg.Origin, "bytes", s.device.Size(), "exported", size)
	}
	if s.cfg.ReadOnly {
		return nil
	}
	if s.holes, err = openHoles(s.cfg.Origin); err != nil {
		return err
	}
	s.undo = append(s.undo, s.holes.Close)
	s.origin, err = volume.OpenOrigin(s.metadata(), s.device, s.devs.Devices, volume.Options{Unreadable: s.cfg.Unreadable})
	if err != nil {
		return fmt.Errorf("opening the volume on %s: %w", s.cfg.Origin, err)
	}
	s.counted.Device = s.origin
	s.undo = append(s.undo, func() error { return errors.Join(s.origin.Flush(), s.origin.Close()) })
	return nil
}

// openExports readies what clients can open.
func (s *service) openExports() (err error) {
	s.exports = &exports{
		server: s.catalogue(), origin: s.origin, counted: &s.counted, holes: s.holes,
		source: volume.SnapshotSource{
			Server: s.metadata(), Origin: s.device, Store: s.devs.Devices,
			ChunkSize: s.catalogue().Geometry().ChunkSize(), DataOffset: s.dataOffset(),
		},
	}
	if s.cfg.Attach {
		s.undo = append(s.undo, s.devices.detachAll)
	}
	if s.cfg.Attach && s.cfg.Listen == (Address{}) {
		return nil
	}
	s.nbd, err = nbd.NewServer(nbd.Config{Exports: s.exports, TLS: s.cfg.TLS, TLSMode: s.cfg.TLSMode, Logger: s.cfg.Logger})
	return err
}

// attach makes the origin a block device.
func (s *service) attach() error {
	if s.devices == nil {
		return nil
	}
	_, err := s.devices.attach(nil, admin.Attach{Backend: s.cfg.Backend})
	return err
}

func (s *service) listen() (err error) {
	if err := s.defaultSockets(); err != nil {
		return err
	}
	if s.nbd != nil {
		if s.ln, err = s.listener("nbd", s.cfg.Listen); err != nil {
			return err
		}
	}
	if s.cfg.Join {
		return nil // the server has the control socket
	}
	ln, err := s.listener("control", Address{"unix", s.cfg.Control})
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	var ok bool
	if s.control, ok = ln.(*net.UnixListener); !ok {
		return errors.New("control socket: the service manager hands over one that is not of the family unix")
	}
	if s.cfg.Metrics == (Address{}) {
		return nil
	}
	if s.metrics, err = s.listener("metrics", s.cfg.Metrics); err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}

// listener returns the listener of that name that the service manager hands over, or
// a new one at the address.
func (s *service) listener(name string, a Address) (net.Listener, error) {
	ln := s.manager.listener(name)
	if ln == nil {
		var err error
		if ln, err = s.bind(name, a); err != nil {
			return nil, err
		}
	}
	s.undo = append(s.undo, func() error { return errors.Join(closeOnce(ln)(), s.unlinked(name)) })
	return ln, nil
}

// bind makes a listener. Its path is removed when the service ends, unless another
// process has taken the listener over.
func (s *service) bind(name string, a Address) (net.Listener, error) {
	ln, err := nbd.Listen(a.Network, a.Address)
	if u, ok := ln.(*net.UnixListener); ok && err == nil {
		u.SetUnlinkOnClose(false)
		s.unlink[name], err = filepath.Abs(a.Address)
	}
	return ln, err
}

// unlinked removes the path of a listener.
func (s *service) unlinked(name string) error {
	path := s.unlink[name]
	if path == "" {
		return nil
	}
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// closeOnce closes a listener that serving it may have closed already.
func closeOnce(ln net.Listener) func() error {
	return func() error {
		if err := ln.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	}
}

// defaultSockets fills in where to listen, and checks it.
func (s *service) defaultSockets() (err error) {
	if s.cfg.Serve && s.cfg.Clients == "" {
		if s.cfg.Clients, err = s.makeSocketDir(ClientsSuffix); err != nil {
			return err
		}
	}
	if s.cfg.Listen == (Address{}) && s.nbd != nil {
		s.cfg.Listen.Network = "unix"
		if s.cfg.Listen.Address, err = s.makeSocketDir(NBDSuffix); err != nil {
			return err
		}
	}
	if s.cfg.Control == "" && !s.cfg.Join {
		if s.cfg.Control, err = s.makeSocketDir(ControlSuffix); err != nil {
			return err
		}
	}
	if s.cfg.Listen.Network == "unix" {
		if err := checkSocketPath(s.cfg.Listen.Address, "--listen"); err != nil {
			return err
		}
	}
	return checkSocketPath(s.cfg.Control, "--control")
}

// makeSocketDir returns the store's default socket and makes its directory.
func (s *service) makeSocketDir(suffix string) (string, error) {
	path, err := Socket(s.cfg.Store, suffix)
	if err != nil {
		return "", err
	}
	return path, os.MkdirAll(filepath.Dir(path), 0o700)
}

// announce logs what is served where.
func (s *service) announce() {
	if s.server == nil {
		s.cfg.Logger.Info("with the server", "socket", s.cfg.Clients, "store", s.cfg.Store, "uuid", s.remote.UUID())
	} else {
		st := s.server.Status()
		s.cfg.Logger.Info("store open", "store", s.cfg.Store, "uuid", st.UUID, "placement", st.Placement,
			"chunk", st.ChunkSize, "snapshots", st.SnapshotsLive, "mode", st.Mode)
	}
	if s.devices != nil {
		for _, d := range s.devices.devices() {
			s.cfg.Logger.Info("serving", "device", d.Path)
			s.cfg.Ready(d.Path)
		}
	}
	switch {
	case s.server == nil: // it has the control socket
	case s.clients != nil:
		s.cfg.Logger.Info("serving", "clients", s.cfg.Clients, "control", s.cfg.Control)
	default:
		s.cfg.Logger.Info("serving", "control", s.cfg.Control)
	}
	s.announceExports()
}

// announceExports logs where NBD is served.
func (s *service) announceExports() {
	if s.nbd == nil {
		return
	}
	export := OriginExport
	if s.origin == nil {
		export = SnapshotPrefix + "TAG"
	}
	host, _, _ := net.SplitHostPort(s.ln.Addr().String())
	if ip := net.ParseIP(host); s.cfg.Listen.Network == "tcp" && s.cfg.TLS == nil && !ip.IsLoopback() {
		s.cfg.Logger.Warn("whoever reaches this address can read and write the volume: use --tls or a local address", "address", s.ln.Addr())
	}
	s.cfg.Logger.Info("serving", "nbd", s.cfg.Listen.URI(s.ln.Addr(), export, s.cfg.TLS != nil))
}

// serve runs both listeners until ctx is done or one of them fails.
func (s *service) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if s.server != nil && s.devices == nil { // what is mounted is not to get errors
		defer context.AfterFunc(ctx, s.server.StopWaiting)()
	}
	var parts sync.WaitGroup
	var nbdErr, controlErr error
	if s.nbd != nil {
		parts.Go(func() {
			defer cancel()
			nbdErr = s.nbd.Serve(ctx, s.ln)
		})
	}
	// A server that yields first ends the requests under way, some of which need clients.
	toEnd, endClients := context.WithCancel(context.WithoutCancel(ctx))
	defer endClients()
	defer context.AfterFunc(ctx, func() {
		if !errors.Is(context.Cause(ctx), errYielded) {
			endClients()
		}
	})()
	var clientsErr error
	if s.clients != nil {
		parts.Go(func() {
			defer cancel()
			clientsErr = s.clients.Serve(toEnd, s.waiting)
		})
	}
	if s.kernel {
		parts.Go(func() { s.serveKernel(toEnd) })
	}
	if s.server == nil {
		<-ctx.Done()
		parts.Wait()
		return nbdErr
	}
	parts.Go(func() {
		defer cancel()
		defer endClients()
		control := admin.Server{Manager: requests{admin.Local{Store: s.server, Volume: s.counted.served, Held: &admin.Held{}}, s}, Logger: s.cfg.Logger}
		controlErr = control.Serve(ctx, s.control)
	})
	if s.metrics != nil {
		parts.Go(func() { // figures that cannot be had stop nothing
			if err := serveMetrics(ctx, s.metrics, newCollector(s.server.Status, s.counted.served, s.kernelStatus)); err != nil {
				s.cfg.Logger.Warn("metrics are not served any more", "error", err)
			}
		})
	}
	if s.digests != nil {
		parts.Go(func() { s.computeDigests(ctx) })
	}
	parts.Go(func() { s.manager.live(ctx, func() { s.server.Status() }) })
	parts.Wait()
	return errors.Join(nbdErr, controlErr, clientsErr)
}
