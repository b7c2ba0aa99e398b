// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"sync"
	"time"

	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/wire"
	"zumastor.org/zumastor/engine/wire/fault"
)

// What the kernel's targets have instead of locks. Of both, [ListenOptions.Alive] says
// what the kernel says.
const (
	// KernelLock is in the hello of the kernel's targets; they live while the kernel has
	// any target of the store. Part of the protocol, must not change.
	KernelLock = 2
	// KernelOrigin stands for the kernel's target of the origin, which lives from its
	// first session on until it is removed.
	KernelOrigin = 3
)

// Bounds of the time until the next attempt to serve the kernel.
const (
	leastPause = 100 * time.Millisecond
	mostPause  = 10 * time.Second
)

// ServeKernel serves the targets of the store that the kernel has or will have. Bind
// makes the connection, of which no more than one lives at a time; it may be silent for
// ever. When one ends, another is made, until ctx ends. It returns when the last one is
// over. It runs beside [Listener.Serve].
func (l *Listener) ServeKernel(ctx context.Context, bind func() (Transport, error)) {
	var looks sync.WaitGroup
	defer looks.Wait()
	for pause := leastPause; ctx.Err() == nil; pause = min(2*pause, mostPause) {
		begun := time.Now()
		if tr, err := bind(); err != nil {
			l.log.Warn("the kernel's targets are not served; it is tried again", "store", l.server.UUID(), "error", err)
		} else {
			looks.Go(l.serveKernel(ctx, tr).waiting.Wait)
		}
		if time.Since(begun) > mostPause {
			pause = leastPause
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// serveKernel serves one connection to its end, and returns it.
func (l *Listener) serveKernel(ctx context.Context, tr Transport) *conn {
	c := newConn(l, tr)
	c.kernel, c.name = true, "kernel"
	stop := context.AfterFunc(ctx, c.close)
	defer stop()
	l.carry(c)
	if ctx.Err() == nil {
		l.log.Warn("the connection with the kernel has ended; another is made", "store", l.server.UUID())
	}
	return c
}

// mayGreet returns an error unless the client may say that it has this lock.
func (c *conn) mayGreet(lock uint32) error {
	if c.kernel != (lock == KernelLock) || lock == KernelOrigin {
		return fmt.Errorf("%w: lock %d is not this client's", wire.ErrProtocol, lock)
	}
	if lock != 0 {
		return c.holds(lock)
	}
	return nil
}

// holds returns an error if nobody holds a lock that the client must hold. The kernel's
// targets have none.
func (c *conn) holds(lock uint32) error {
	if c.kernel || c.l.opts.Held(lock) {
		return nil
	}
	return fmt.Errorf("%w: nobody holds the client's lock, byte %d of the store device; is it another device than the server's?", fault.ErrDenied, lock)
}

// originLock is the lock under which the client lives as that of the origin.
func (c *conn) originLock() uint32 {
	if c.kernel {
		return KernelOrigin
	}
	return OriginLock
}

// originLives reports whether an origin client lives.
func (l *Listener) originLives() bool { return l.opts.Alive(OriginLock) || l.opts.Alive(KernelOrigin) }

// mayAttach returns an error if the client has not the origin's lock, or another origin
// client lives: the kernel's targets do not know of that lock.
func (c *conn) mayAttach() error {
	if err := c.holds(OriginLock); err != nil {
		return err
	}
	other := uint32(KernelOrigin)
	if c.kernel {
		other = OriginLock
	}
	if c.l.opts.Alive(other) {
		return fmt.Errorf("%w, which lives", store.ErrAttached)
	}
	return nil
}
