// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/wire"
	"zumastor.org/zumastor/engine/wire/fault"
)

// Limits of patience with clients.
const (
	helloLimit   = 10 * time.Second // for the first message
	sendLimit    = 10 * time.Second // for a message to be taken
	attachWait   = time.Second      // for the connection of the origin's last client to end
	alivePeriod  = time.Second      // between looks whether a client that went away lives
	maxInFlight  = 256              // requests of a connection
	defaultQuiet = 30 * time.Second // for a client to let its writes end
)

// ListenOptions say whom a listener serves, and how.
type ListenOptions struct {
	// Admit lists the user ids that are served besides root and the server's own.
	Admit []uint32
	// Groups lists the group ids whose members are served.
	Groups []uint32
	// Quiet is how long a client may take to let its writes end for a snapshot,
	// before its connection is closed; zero: 30 s.
	Quiet time.Duration
	// Lives lists the locks of the clients of snapshots that were alive when the store
	// was opened, and are waited for.
	Lives []uint32
	// Alive reports whether the client that holds a lock lives; see PROTOCOL.md. If
	// it is nil, a client whose connection ends is dead.
	Alive func(lock uint32) bool
	// Held reports whether anybody but this process holds a lock. Who says that a lock
	// is its own which nobody holds is refused: it would be taken for dead when its
	// connection ends, and what it goes on using be given to others. If Held is nil,
	// clients are believed.
	Held func(lock uint32) bool
	// Store is the store's device, and Origin opens the origin's that a client has who
	// has the server restore it; nil if there is no such client.
	Store  device.Device
	Origin func() (OriginDevice, error)
}

// OriginDevice is a device that whoever opened it closes.
type OriginDevice interface {
	device.Device
	io.Closer
}

// OriginLock is the lock that an origin client holds; see PROTOCOL.md.
const OriginLock = 1

// Listener serves clients on a socket.
type Listener struct {
	server *Server
	opts   ListenOptions
	log    *slog.Logger

	mu     sync.Mutex
	conns  map[*conn]bool
	last   uint64          // number of the last connection
	origin *conn           // whose client is the origin's, or nil
	gone   map[uint32]*old // clients that went away and may live, by lock
	lives  map[uint32]bool // clients of an earlier server that are waited for, by lock
	// cut says that the origin's client went without a detach, and that what it has
	// done may not be known yet.
	cut    bool
	closed bool
	work   sync.WaitGroup
}

// old is what is left of a client whose connection has ended. The origin is kept under
// [OriginLock] or [KernelOrigin], and snapshots under the client's own lock.
type old struct {
	origin  bool
	handles []opening
}

// Listen returns a listener for the server's clients. [Listener.Serve] accepts them.
func (s *Server) Listen(o ListenOptions) *Listener {
	if o.Quiet == 0 {
		o.Quiet = defaultQuiet
	}
	if o.Alive == nil {
		o.Alive = func(uint32) bool { return false }
	}
	if o.Held == nil {
		o.Held = func(uint32) bool { return true }
	}
	l := &Listener{
		server: s, opts: o, log: s.opts.Logger, conns: make(map[*conn]bool), gone: make(map[uint32]*old), lives: make(map[uint32]bool),
	}
	for _, lock := range o.Lives {
		l.lives[lock] = true
	}
	s.listener.Store(l)
	return l
}

// Serve accepts clients until ctx ends or ln fails, and returns when all connections
// are closed. The store stays open. What the clients had open is given up, unless
// they may live and come back: then closing the store is [store.Store.Suspend]'s
// business.
func (l *Listener) Serve(ctx context.Context, ln *net.UnixListener) error {
	stop := context.AfterFunc(ctx, func() { l.close(ln) })
	defer stop()
	l.settle()
	l.work.Go(func() { l.watch(ctx) })
	var err error
	for {
		var c *net.UnixConn
		if c, err = ln.AcceptUnix(); err != nil {
			break
		}
		l.work.Go(func() { l.serve(c) })
	}
	l.close(ln)
	l.work.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("accepting clients: %w", err)
}

func (l *Listener) close(ln *net.UnixListener) {
	_ = ln.Close() // the reason is known
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for c := range l.conns {
		c.close()
	}
}

// Away reports whether a client whose connection has ended may live.
func (l *Listener) Away() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.gone) > 0
}

// serve serves one connection on the socket.
func (l *Listener) serve(nc *net.UnixConn) {
	_ = nc.SetReadDeadline(time.Now().Add(helloLimit))
	if err := l.admit(nc); err != nil {
		l.refuse(nc, err)
		return
	}
	tr, err := newSocket(nc)
	if err != nil {
		l.refuse(nc, err)
		return
	}
	c := newConn(l, tr)
	l.carry(c)
	c.waiting.Wait()
}

// carry serves a connection until it ends.
func (l *Listener) carry(c *conn) {
	l.mu.Lock()
	closed := l.closed
	l.conns[c] = true
	l.last++
	c.number = l.last
	l.mu.Unlock()
	if closed {
		c.close()
	}
	err := c.run()
	l.mu.Lock()
	c.leaving = true
	l.mu.Unlock()
	c.close()
	c.busy.Wait()
	c.endRestore()
	defer func() {
		l.mu.Lock()
		delete(l.conns, c)
		l.mu.Unlock()
		close(c.left)
	}()
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && !errors.Is(err, os.ErrClosed) {
		l.log.Warn("client's connection ends", "store", l.server.UUID(), "client", c.name, "error", err)
	}
	l.leave(c)
}

// admit returns an error unless the process at the other end may be served.
func (l *Listener) admit(nc *net.UnixConn) error {
	cred, groups, err := credentials(nc)
	if err != nil {
		return fmt.Errorf("who is it: %w", err)
	}
	if cred.Uid == 0 || cred.Uid == uint32(unix.Geteuid()) || slices.Contains(l.opts.Admit, cred.Uid) {
		return nil
	}
	for _, g := range append(groups, cred.Gid) {
		if slices.Contains(l.opts.Groups, g) {
			return nil
		}
	}
	return fmt.Errorf("user %d may not use the server of store %v: %w", cred.Uid, l.server.UUID(), fault.ErrDenied)
}

// credentials returns who is at the other end of a connection.
func credentials(nc *net.UnixConn) (cred *unix.Ucred, groups []uint32, err error) {
	raw, err := nc.SyscallConn()
	if err != nil {
		return nil, nil, err
	}
	cerr := raw.Control(func(fd uintptr) {
		if cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err != nil {
			return
		}
		groups = peerGroups(int(fd))
	})
	return cred, groups, errors.Join(err, cerr)
}

// refuse tells a client why it is not served.
func (l *Listener) refuse(nc *net.UnixConn, err error) {
	l.log.Warn("client refused", "store", l.server.UUID(), "error", err)
	_ = nc.SetWriteDeadline(time.Now().Add(time.Second))
	p := wire.AppendFault(wire.AppendHeader(nil, wire.TypeHello, wire.FlagReply|wire.FlagError, 1), fault.From(err))
	wire.Seal(p)
	_, _ = nc.Write(p) // it is closed either way
	_ = nc.Close()
}

// leave takes in that a connection has ended. What its client had open is given up,
// at once if it is dead. Its snapshots have the client's lock for a sign, the origin
// the origin's.
func (l *Listener) leave(c *conn) {
	origin, snapshots := &old{origin: c.attached}, &old{handles: c.openings()}
	l.mu.Lock()
	if l.origin == c {
		l.origin = nil
	}
	if lock := c.originLock(); origin.origin && l.opts.Alive(lock) {
		l.gone[lock], origin = origin, &old{}
	}
	if len(snapshots.handles) > 0 && !l.replaced(c) && l.opts.Alive(c.lock) {
		if before := l.gone[c.lock]; before != nil {
			snapshots.handles = append(snapshots.handles, before.handles...)
		}
		l.gone[c.lock], snapshots = snapshots, &old{}
	}
	l.mu.Unlock()
	l.giveUp(snapshots)
	l.giveUp(origin)
}

// replaced reports whether a client with the lock of c has all open again, so that
// what c had open is not used any more. The lock is held.
func (l *Listener) replaced(c *conn) bool {
	for other := range l.conns {
		if other != c && !other.leaving && other.ready && other.lock == c.lock && c.lock != 0 {
			return true
		}
	}
	return false
}

// ready takes in that a client has all open that it had before: what is left of it, or
// of a dead one whose lock it has now, is given up.
func (l *Listener) ready(c *conn) {
	l.mu.Lock()
	delete(l.lives, c.lock)
	c.ready = true
	left := l.gone[c.lock]
	if left != nil && c.lock != 0 {
		delete(l.gone, c.lock)
	} else {
		left = &old{}
	}
	l.mu.Unlock()
	c.busy.Go(func() { l.giveUp(left) })
}

// giveUp ends what a dead client had open.
func (l *Listener) giveUp(left *old) {
	for _, o := range left.handles {
		if err := l.server.CloseSnapshot(o.handle); err != nil {
			l.log.Warn("closing a snapshot of a client that is gone", "store", l.server.UUID(), "error", err)
		}
	}
	if left.origin {
		if err := l.abandon(); err != nil {
			l.log.Error("ending the session of an origin client that is gone", "store", l.server.UUID(), "error", err)
		}
	}
}

// abandon ends the session of an origin client that is dead.
func (l *Listener) abandon() error {
	err := l.server.Abandon()
	if err == nil {
		l.known()
	}
	return err
}

// known notes that all that an origin client has done is known.
func (l *Listener) known() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = false
}

// watch gives up what clients had open that are dead.
func (l *Listener) watch(ctx context.Context) {
	ticker := time.NewTicker(alivePeriod)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		var dead []*old
		l.mu.Lock()
		for lock, left := range l.gone {
			if !l.opts.Alive(lock) {
				dead = append(dead, left)
				delete(l.gone, lock)
			}
		}
		l.mu.Unlock()
		for _, left := range dead {
			l.giveUp(left)
		}
		l.settle()
	}
}

// settle ends a recovery that has waited for clients which are dead.
func (l *Listener) settle() {
	l.mu.Lock()
	for lock := range l.lives {
		if !l.opts.Alive(lock) {
			delete(l.lives, lock)
		}
	}
	ended := len(l.lives) == 0
	l.mu.Unlock()
	if ended && l.server.Awaiting() && !l.originLives() {
		if err := l.server.Abandon(); err != nil {
			l.log.Error("ending the recovery", "store", l.server.UUID(), "error", err)
		}
	}
}

// awaits returns an error that wraps [wire.ErrAway] while clients of snapshots are
// waited for.
func (l *Listener) awaits() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.lives); n > 0 {
		return fmt.Errorf("the server waits for %d clients that read snapshots: %w", n, wire.ErrAway)
	}
	return nil
}

// barrier returns when all that the origin's client had sent is processed, so that
// every batch is reported whose origin writes may have been let go. Where that cannot
// be, because the client is cut off and may go on, the error wraps [wire.ErrAway].
func (l *Listener) barrier(asks *conn) error {
	l.mu.Lock()
	origin := l.origin
	l.mu.Unlock()
	if origin != nil && origin != asks {
		origin.catchUp()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		return fmt.Errorf("the origin's client was cut off: %w", wire.ErrAway)
	}
	return nil
}
