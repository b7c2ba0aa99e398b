// SPDX-License-Identifier: Apache-2.0

package nbd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"zumastor.org/zumastor/engine/nbd/wire"
)

// Which requests the reader serves itself instead of handing them to a worker:
// those of at most inlineSize bytes, while the device takes less time over such
// than inlineAlone where the request is alone, and than inlineBurst, about what a
// hand-over costs, where it is not. A device slower than that is worth its
// workers, for only they give it several requests at a time. A request is alone
// when none follows in the buffer, none is with a worker, and the reader had to
// wait for it, longer than it takes to fetch what is there already: a client
// that keeps two in flight would else be served one by one for ever.
const (
	inlineSize  = 64 << 10
	inlineAlone = 150 * time.Microsecond
	inlineBurst = 12 * time.Microsecond
	idleWait    = 3 * time.Microsecond
	maxCorked   = 16 // replies that the reader holds back while more requests wait
)

// readSize is the size of the read buffer: a burst of 4 KiB writes in one go.
const readSize = 64 << 10

// request is a request in flight and its reply. Each connection has
// Config.MaxInFlight of them, and uses them over and over.
type request struct {
	wire.Request
	buf     *[]byte // from the pool, or nil; held bytes of the budget
	held    int64
	data    []byte // payload: of buf
	head    [maxHead]byte
	headLen int
	body    []byte        // data of the reply
	partial chan struct{} // where not nil, told of the reply's leaving; more follow
}

// conn is one connection.
type conn struct {
	srv *Server
	raw net.Conn // as accepted: for deadlines and closing, by any goroutine
	nc  net.Conn // for I/O: raw, or TLS on it
	log *slog.Logger
	br  *bufio.Reader

	dead chan struct{} // closed when the connection is lost
	lost func()        // closes dead, once

	mu       sync.Mutex // guards draining and deadlines
	draining atomic.Bool
	reading  mark // the rest of a request is being waited for

	// What the handshake settled:
	tls        bool
	structured bool
	noZeroes   bool
	chosen     chosenContexts
	export     *Export
	contexts   []selectedContext

	out     outbox
	free    chan *request
	work    chan *request
	waited  bool         // the reader had to wait for the request in hand
	pending atomic.Int64 // requests dispatched and not finished
	workers int          // of the reader
	wg      sync.WaitGroup
	pace    atomic.Int64 // time that the device takes over a small request, smoothed, in ns
}

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{
		srv: s, raw: nc, nc: nc, br: bufio.NewReaderSize(nc, readSize), dead: make(chan struct{}),
		log: s.cfg.Logger.With("remote", nc.RemoteAddr().String()),
	}
	c.lost = sync.OnceFunc(func() { close(c.dead) })
	return c
}

// run serves the connection from greeting to close. An orderly end returns nil.
func (c *conn) run(ctx context.Context) error {
	defer func() { _ = c.nc.Close() }()
	defer c.detach()
	err := c.handshake(ctx)
	if errors.Is(err, errDone) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	c.log.Info("nbd: attached", "export", c.export.Name, "readonly", c.export.ReadOnly, "tls", c.tls)
	return c.transmit()
}

// detach closes the export, if the handshake got that far.
func (c *conn) detach() {
	if c.export == nil {
		return
	}
	if err := c.export.close(); err != nil {
		c.log.Warn("nbd: closing export", "export", c.export.Name, "err", err)
	}
}

// shutdown makes the connection end soon: requests that still arrive get
// ESHUTDOWN, and after a while none are read.
func (c *conn) shutdown() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining.Store(true)
	_ = c.raw.SetReadDeadline(time.Now().Add(c.srv.cfg.Linger))
}

// setDeadline sets the deadline of reads and writes unless the server is about
// to stop and has set its own.
func (c *conn) setDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining.Load() {
		return c.raw.SetWriteDeadline(t)
	}
	return c.raw.SetDeadline(t)
}

// transmit serves requests until the client disconnects, and returns when all
// are done.
func (c *conn) transmit() error {
	n := c.srv.cfg.MaxInFlight
	c.out.init(c.nc, n, c.recycle, func(error) { c.lost(); _ = c.raw.Close() })
	c.work = make(chan *request, n)
	c.free = make(chan *request, n)
	all := make([]request, n)
	for i := range all {
		c.free <- &all[i]
	}
	err := c.read()
	if err != nil && !errors.Is(err, errDone) {
		c.lost()
	}
	close(c.work)
	c.wg.Wait()
	c.out.flush()
	switch {
	case errors.Is(err, errDone), errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded) && c.draining.Load():
		return nil
	}
	return err
}

// errDone is the end of a connection in good order.
var errDone = errors.New("done")

// read reads requests until the connection ends; it always returns an error.
func (c *conn) read() error {
	for {
		r, err := c.next()
		if err != nil {
			return err
		}
		if r.Type == wire.CmdDisc {
			return errDone
		}
		if err := c.accept(r); err != nil {
			return err
		}
	}
}

// next waits for a free request and reads a header into it. Replies held back
// leave before it waits for either.
func (c *conn) next() (*request, error) {
	var r *request
	c.waited = false
	select {
	case r = <-c.free:
	default:
		c.out.flush()
		select {
		case r = <-c.free:
		case <-c.dead:
			return nil, net.ErrClosed
		}
	}
	if c.br.Buffered() < wire.RequestSize {
		c.out.flush()
		start := time.Now()
		if _, err := c.br.Peek(wire.RequestSize); err != nil {
			return nil, err
		}
		c.waited = time.Since(start) > idleWait
	}
	head, err := c.br.Peek(wire.RequestSize)
	if err == nil {
		err = r.Parse(head)
	}
	_, _ = c.br.Discard(wire.RequestSize)
	return r, err
}

// accept takes a request whose header is parsed: it checks it, reads its
// payload, and serves it or has it served.
func (c *conn) accept(r *request) error {
	if r.Type == wire.CmdWrite && r.Length > wire.MaxPayload {
		return fmt.Errorf("%w: write of %d bytes exceeds %d", wire.ErrProtocol, r.Length, wire.MaxPayload)
	}
	if e := c.check(r); e != wire.OK {
		if r.Type == wire.CmdWrite {
			if err := c.discard(int(r.Length)); err != nil {
				return err
			}
		}
		r.setError(e, c.structured)
		c.out.post(r)
		return nil
	}
	if err := c.reserve(r); err != nil {
		return err
	}
	if r.Type == wire.CmdWrite {
		if err := c.readFull(r.data); err != nil {
			c.recycle(r)
			return err
		}
	}
	if !c.inline(r) {
		c.dispatch(r)
		return nil
	}
	c.perform(r)
	c.out.post(r)
	if c.out.queued() >= maxCorked {
		c.out.flush()
	}
	return nil
}

// reserve gives r the buffer that its payload needs. A read in chunks needs no
// more than one chunk.
func (c *conn) reserve(r *request) error {
	n := 0
	switch {
	case r.Type == wire.CmdRead && c.chunked(r):
		n = chunkSize
	case r.Type == wire.CmdRead, r.Type == wire.CmdWrite:
		n = int(r.Length)
	}
	if n == 0 {
		return nil
	}
	held := int64(1) << (bufferClass(n) + minBufferShift)
	if !c.srv.budget.try(held) {
		c.out.flush() // replies held back hold memory
		if !c.srv.budget.take(held, c.dead) {
			return net.ErrClosed
		}
	}
	r.held, r.buf = held, c.srv.buffers.get(n)
	r.data = (*r.buf)[:n]
	return nil
}

// recycle is called when r's reply has left, or never will.
func (c *conn) recycle(r *request) {
	if r.partial != nil {
		r.partial <- struct{}{}
		return
	}
	if r.buf != nil {
		c.srv.buffers.put(r.buf)
		c.srv.budget.give(r.held)
		r.buf, r.data, r.held = nil, nil, 0
	}
	r.body = nil
	c.free <- r
}

// readFull reads a payload.
func (c *conn) readFull(p []byte) error {
	if c.br.Buffered() < len(p) {
		c.out.flush()
		c.reading.begin()
		defer c.reading.end()
	}
	if _, err := io.ReadFull(c.br, p); err != nil {
		return fmt.Errorf("reading a payload of %d bytes: %w", len(p), err)
	}
	return nil
}

// discard skips the payload of a request that is refused.
func (c *conn) discard(n int) error {
	c.out.flush()
	c.reading.begin()
	defer c.reading.end()
	_, err := c.br.Discard(n)
	return err
}

// inline reports whether the reader should serve r itself.
func (c *conn) inline(r *request) bool {
	if r.Type != wire.CmdRead && r.Type != wire.CmdWrite || r.Length > inlineSize || r.Flags&wire.CmdFlagFUA != 0 {
		return false
	}
	limit := inlineBurst
	if c.waited && c.br.Buffered() == 0 && c.pending.Load() == 0 {
		limit = inlineAlone
	}
	return c.pace.Load() < int64(limit)
}

// dispatch hands r to a worker, and sees to it that there are as many as there
// are requests in flight, up to the limit.
func (c *conn) dispatch(r *request) {
	if n := c.pending.Add(1); n > int64(c.workers) && c.workers < c.srv.cfg.MaxWorkers {
		c.workers++
		c.wg.Go(c.worker)
	}
	c.work <- r // has room for every request
}

// worker serves requests until the reader ends.
func (c *conn) worker() {
	for r := range c.work {
		c.perform(r)
		c.pending.Add(-1)
		c.out.post(r)
		c.out.flush()
	}
}
