// SPDX-License-Identifier: Apache-2.0

// Package nbd exports block devices over the Network Block Device protocol, so
// that any NBD client (nbd-client and the kernel, qemu, libnbd, fio) can attach
// an origin or a snapshot.
//
// It owns the protocol's server side: fixed newstyle handshake with TLS, simple
// and structured replies, metadata contexts, and the limits that keep hostile
// clients harmless. It does not own the devices: it finds them by name through
// [Exports], anew for each connection, and closes what it opened. Command ddsnap
// and the harness call it. A [Server] is safe for concurrent use; per connection
// one goroutine reads requests and serves the cheap ones, workers started on
// demand serve the rest, and whoever has a reply ready while nobody is sending
// sends all that are. A device's error fails the request that met it; a broken
// or stalled client loses its connection, and nothing else. Package wire has
// the protocol's numbers, package nbdclient the other end.
package nbd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"zumastor.org/zumastor/engine/nbd/wire"
)

// TLSMode says what a server does about TLS.
type TLSMode int

// The modes. In TLSRequired nothing is told to a client, not even a list of
// exports, before TLS is up.
const (
	TLSOff TLSMode = iota
	TLSOffered
	TLSRequired
)

// Config is what a [Server] is made of. Zero fields take the default named.
type Config struct {
	Exports Exports
	TLS     *tls.Config // with a certificate; see LoadTLS
	TLSMode TLSMode
	Logger  *slog.Logger // default: none

	MaxConns    int   // connections at a time; default 256
	MaxInFlight int   // requests in flight per connection; default 128
	MaxWorkers  int   // goroutines per connection that call the device; default 64
	Memory      int64 // bytes of payload buffers of all connections; default 256 MiB, at least 32 MiB

	HandshakeTimeout time.Duration // for the whole handshake; default 10 s
	// StallTimeout is how long a client may take to send the rest of a request
	// or to accept 1 MiB of replies, or one larger reply; default 60 s.
	StallTimeout time.Duration
	// Linger is how long, at shutdown, requests that still arrive are answered
	// with ESHUTDOWN before connections are closed; default 100 ms.
	Linger time.Duration
}

func (c *Config) setDefaults() error {
	switch {
	case c.Exports == nil:
		return errors.New("nbd: config has no exports")
	case c.TLSMode != TLSOff && c.TLS == nil:
		return errors.New("nbd: TLS is on but the config has no certificate")
	case c.Memory != 0 && c.Memory < wire.MaxPayload:
		return fmt.Errorf("nbd: memory limit of %d bytes is below one request's %d", c.Memory, wire.MaxPayload)
	}
	setDefault(&c.MaxConns, 256)
	setDefault(&c.MaxInFlight, 128)
	setDefault(&c.MaxWorkers, 64)
	setDefault(&c.Memory, 256<<20)
	setDefault(&c.HandshakeTimeout, 10*time.Second)
	setDefault(&c.StallTimeout, time.Minute)
	setDefault(&c.Linger, 100*time.Millisecond)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

func setDefault[T int | int64 | time.Duration](p *T, value T) {
	if *p <= 0 {
		*p = value
	}
}

// Server serves exports to any number of connections.
type Server struct {
	cfg     Config
	buffers buffers
	budget  budget

	mu    sync.Mutex
	conns map[*conn]struct{}
}

// NewServer returns a server that serves nothing until [Server.Serve].
func NewServer(cfg Config) (*Server, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	return &Server{cfg: cfg, budget: budget{left: cfg.Memory}, conns: make(map[*conn]struct{})}, nil
}

// Serve accepts connections until ctx is done, and closes ln. It then lets the
// requests in flight finish, answers those that still arrive with ESHUTDOWN for
// the time of Config.Linger, closes the connections and returns nil. It returns
// the listener's error otherwise, after the same. Several listeners may be
// served at once. No goroutine outlives it.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	closer := context.AfterFunc(ctx, func() { _ = ln.Close() })
	var conns, watcher sync.WaitGroup
	done := make(chan struct{})
	watcher.Go(func() { s.watch(ctx, done) })
	defer func() {
		if closer() {
			_ = ln.Close()
		}
		cancel()
		conns.Wait()
		close(done)
		watcher.Wait()
	}()
	for {
		nc, err := acceptRetry(ctx, ln)
		if ctx.Err() != nil {
			if err == nil {
				_ = nc.Close()
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("nbd: accepting on %v: %w", ln.Addr(), err)
		}
		conns.Go(func() { s.serveConn(ctx, nc) })
	}
}

// acceptRetry accepts, waiting out shortages such as of file descriptors.
func acceptRetry(ctx context.Context, ln net.Listener) (net.Conn, error) {
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		nc, err := ln.Accept()
		if t, ok := errors.AsType[interface {
			error
			Temporary() bool
		}](err); err == nil || !ok || !t.Temporary() {
			return nc, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// serveConn serves one connection, closes it, and returns when nothing of it
// remains.
func (s *Server) serveConn(ctx context.Context, nc net.Conn) {
	c := newConn(s, nc)
	if !s.register(c) {
		_ = nc.Close()
		c.log.Warn("nbd: connection refused: too many", "max", s.cfg.MaxConns)
		return
	}
	defer s.unregister(c)
	stop := context.AfterFunc(ctx, c.shutdown)
	defer stop()
	if err := c.run(ctx); err != nil {
		c.log.Warn("nbd: connection ended", "err", err)
		return
	}
	c.log.Debug("nbd: connection ended")
}

func (s *Server) register(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) >= s.cfg.MaxConns {
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *Server) unregister(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// drainTimeout is the StallTimeout once the server shuts down.
const drainTimeout = 2 * time.Second

// watch closes connections whose client stalls in the middle of a request or
// reply, until done. Note: deadlines on each read and write would do the same at
// the price of two timer changes a request.
func (s *Server) watch(ctx context.Context, done <-chan struct{}) {
	timeout, stopping := s.cfg.StallTimeout, ctx.Done()
	tick := time.NewTicker(max(timeout/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			s.closeStalled(now, timeout)
		case <-stopping:
			stopping, timeout = nil, min(timeout, drainTimeout)
			tick.Reset(max(timeout/4, time.Millisecond))
		case <-done:
			return
		}
	}
}

func (s *Server) closeStalled(now time.Time, timeout time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if c.reading.stalled(now, timeout) || c.out.busy.stalled(now, timeout) {
			c.log.Warn("nbd: client stalls; connection closed", "timeout", timeout)
			_ = c.raw.Close()
		}
	}
}
