// SPDX-License-Identifier: Apache-2.0

// Package client is the metadata server of package volume in another process: a
// [wire.Server] over a Unix socket.
//
// It owns the connection, and that clients outlive it: when it ends, the origin and
// the snapshots that are open hold what needs the server, the connection is made anew
// for as long as it takes, and they go on. It does not own what they do with their
// devices; package volume does, and is its caller together with whoever opens
// volumes. A Client is safe for concurrent use, with one origin at most. Calls wait
// for the server, but for those of an origin that is away from it, which return
// [wire.ErrAway] because a volume knows better what must wait; nothing fails only
// because the server was killed, stopped or replaced.
package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/wire"
)

// Options tune a client; the zero value of each field means its default.
type Options struct {
	// Lock is the byte of the store device that this process has locked, as a sign
	// that it lives; see PROTOCOL.md. Zero: it has none, and may open no snapshot
	// for long.
	Lock uint32
	// Resized is told the size of the origin in bytes: before it shrinks, after any
	// change, and when the origin has resumed. It is called in a goroutine of its own,
	// and an error is the server's answer to who asked for the change. Nil: nobody
	// wants to know.
	Resized func(size int64) error
	// Manage answers a request of the control socket, in JSON, about what is of this
	// process and not of the store; ctx ends with the client. Nil: nothing is.
	Manage func(ctx context.Context, request []byte) []byte
	// Connect makes a connection to the server, by rings for example. Nil: to the
	// socket at the client's path.
	Connect func(ctx context.Context) (Transport, error)
	Logger  *slog.Logger
}

// Transport carries a client's messages. When Write returns, all is in the server's
// queue. One goroutine reads and one writes at a time; Close ends what waits.
type Transport interface {
	io.ReadWriteCloser
	SetReadDeadline(t time.Time) error
}

// Bounds of the time between attempts to connect again.
const (
	leastPause = 5 * time.Millisecond
	mostPause  = 500 * time.Millisecond
)

// Client is a connection to a server, and what it has open there.
type Client struct {
	path string
	opts Options
	uuid layout.UUID
	run  context.Context // ends with Close
	stop context.CancelFunc
	done sync.WaitGroup

	mu       sync.Mutex
	changed  sync.Cond // of mu: conn, closed
	conn     *conn     // nil while the server is away, or what is open is not yet there again
	origin   wire.Client
	sessions uint64     // of the origin that were resumed
	state    wire.State // of the last of them
	snaps    map[wire.Handle]*snapshot
	last     wire.Handle
	released layout.Position
	closed   bool
}

// snapshot is a snapshot that is open, by a handle that stays when the server's
// changes.
type snapshot struct {
	ref    wire.SnapshotRef
	write  bool
	size   int64
	client wire.SnapshotClient
	remote wire.Handle // while there is a connection
	lost   error       // why it could not be opened again, or nil
	// unsynced are chunks of which the server alone knows where they are, and would
	// forget it if it were killed, in the order of their reports.
	unsynced []written
	unsure   int // of these
}

var _ wire.Server = (*Client)(nil)

// Dial connects to the server whose socket is at path. The error wraps
// fault.ErrDenied if the user may not.
func Dial(ctx context.Context, path string, o Options) (*Client, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Client{path: path, opts: o, snaps: make(map[wire.Handle]*snapshot)}
	c.changed.L = &c.mu
	c.run, c.stop = context.WithCancel(context.Background())
	cn, err := c.connect(ctx)
	if err != nil {
		c.stop()
		return nil, err
	}
	// It has nothing open that the server would have to wait for.
	if err := cn.send(wire.TypeReady, 0, 0, nil); err != nil {
		cn.close()
		c.stop()
		return nil, err
	}
	c.uuid, c.conn = cn.welcome.UUID, cn
	c.done.Go(func() { c.keep(c.run, cn) })
	return c, nil
}

// UUID returns the identity of the server's store.
func (c *Client) UUID() layout.UUID { return c.uuid }

// Close ends the connection. What is open should be closed before. Calls that wait
// for a server that is away return errors that wrap device.ErrClosed.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	cn := c.conn
	c.changed.Broadcast()
	c.mu.Unlock()
	c.stop()
	if cn != nil {
		cn.close()
	}
	c.done.Wait()
	return nil
}

// connect makes a connection and says hello.
func (c *Client) connect(ctx context.Context) (*conn, error) {
	connect := c.opts.Connect
	if connect == nil {
		connect = c.toSocket
	}
	tr, err := connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("connecting to the server at %s: %w", c.path, err)
	}
	cn := newConn(c, tr)
	if err := cn.hello(ctx); err != nil {
		cn.close()
		return nil, fmt.Errorf("greeting the server at %s: %w", c.path, err)
	}
	return cn, nil
}

func (c *Client) toSocket(ctx context.Context) (Transport, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", c.path)
}

// keep runs the connection, and makes a new one each time it ends.
func (c *Client) keep(ctx context.Context, cn *conn) {
	for {
		err := cn.run()
		cn.close()
		if ctx.Err() != nil {
			return
		}
		c.mu.Lock()
		c.conn = nil
		c.mu.Unlock()
		c.opts.Logger.Warn("the server is away; what needs it waits", "socket", c.path, "error", err)
		if cn = c.again(ctx); cn == nil {
			return
		}
		c.opts.Logger.Info("the server is back", "socket", c.path)
	}
}

// again connects and brings back what was open, until it succeeds or ctx ends.
func (c *Client) again(ctx context.Context) *conn {
	for pause := leastPause; ; pause = min(2*pause, mostPause) {
		cn, err := c.connect(ctx)
		if err == nil {
			if err = c.restore(cn); err == nil {
				return cn
			}
			cn.close()
			c.mu.Lock()
			c.conn = nil
			c.mu.Unlock()
		}
		c.opts.Logger.Debug("not yet connected again", "socket", c.path, "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// restore brings back the origin and the snapshots over a new connection.
func (c *Client) restore(cn *conn) error {
	if cn.welcome.UUID != c.uuid {
		return fmt.Errorf("the server at %s has store %v now, not %v", c.path, cn.welcome.UUID, c.uuid)
	}
	cn.start()
	c.mu.Lock()
	origin := c.origin
	snaps := make(map[wire.Handle]*snapshot, len(c.snaps))
	for h, s := range c.snaps {
		snaps[h] = s
	}
	c.mu.Unlock()
	for h, s := range snaps { // first: the server may wait for them before it takes the origin back
		if err := c.reopen(cn, h, s); err != nil {
			return err
		}
	}
	if err := cn.send(wire.TypeReady, 0, 0, nil); err != nil {
		return err
	}
	if origin != nil {
		if err := c.resume(cn, origin); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn = cn
	c.changed.Broadcast()
	return nil
}

// resume brings the origin back.
func (c *Client) resume(cn *conn, origin wire.Client) error {
	r, ok := origin.(wire.Resumer)
	if !ok {
		return errors.New("the origin's client cannot go on with another server")
	}
	err := r.Resume(func(p wire.Progress) (s *wire.Session, err error) {
		err = cn.callThen(wire.TypeResume,
			func(dst []byte) []byte { return wire.AppendProgress(dst, p) },
			func(body []byte) (err error) {
				if s, err = wire.DecodeSession(body); err == nil {
					c.resumedAs(cn, s)
				}
				return err
			})
		if err != nil {
			return nil, away(cn, err)
		}
		return s, nil
	})
	if err == nil {
		c.sizeMayDiffer()
	}
	return err
}

// resumedAs notes the origin's new session, before anything that the server says after
// it is looked at. The connection is there from now on: the snapshots are open again,
// and what the origin commits in the session must be reported.
func (c *Client) resumedAs(cn *conn, s *wire.Session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cn.alive() {
		c.conn = cn
	}
	c.released = s.Position
	c.sessions++
	c.state = s.State
	c.changed.Broadcast()
}

// resumed returns the state of the first session of the origin that is resumed after
// the n-th.
func (c *Client) resumed(n uint64) (wire.State, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.sessions == n && !c.closed {
		c.changed.Wait()
	}
	if c.sessions == n {
		return wire.State{}, fmt.Errorf("server at %s: %w", c.path, device.ErrClosed)
	}
	return c.state, nil
}

// reopen brings a snapshot back: once no request is under way on it, for all that is
// known of it may be wrong.
func (c *Client) reopen(cn *conn, h wire.Handle, s *snapshot) error {
	return s.client.Quiesce(func() (wire.SnapshotState, error) {
		session, err := c.open(cn, h, s)
		switch {
		case err == nil:
			session.State.Revoked = true
			return session.State, nil
		case !errors.Is(err, wire.ErrAway): // it is gone for good
			c.opts.Logger.Error("a snapshot cannot be opened again", "tag", s.ref.Tag, "name", s.ref.Name, "error", err)
			c.mu.Lock()
			s.lost = err
			c.mu.Unlock()
			return wire.SnapshotState{Size: s.size, Squashed: true}, nil
		}
		return wire.SnapshotState{Size: s.size, Revoked: true, Writable: s.write}, err
	})
}

// away returns err, wrapping [wire.ErrAway] if the connection has ended.
func away(cn *conn, err error) error {
	if cn.alive() || errors.Is(err, wire.ErrAway) {
		return err
	}
	return fmt.Errorf("%w: %w", wire.ErrAway, err)
}

// present returns the connection, waiting for it if it is not there.
func (c *Client) present() (*conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.conn == nil && !c.closed {
		c.changed.Wait()
	}
	if c.closed {
		return nil, fmt.Errorf("server at %s: %w", c.path, device.ErrClosed)
	}
	return c.conn, nil
}

// now returns the connection, or an error that wraps [wire.ErrAway].
func (c *Client) now() (*conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		return nil, fmt.Errorf("server at %s: %w", c.path, wire.ErrAway)
	}
	return c.conn, nil
}
