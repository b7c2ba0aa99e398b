// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/wire"
	"zumastor.org/zumastor/engine/wire/fault"
)

// conn is a client's connection. One goroutine reads it and takes in what has no
// reply; each request is carried out by a goroutine of its own.
type conn struct {
	l    *Listener
	tr   Transport
	name string
	lock uint32 // of the client; see PROTOCOL.md
	// Guarded by the listener's lock.
	number  uint64 // connections are counted
	ready   bool   // the client has all open again that it had
	leaving bool   // the connection has ended
	// kernel says that the client are the kernel's targets.
	kernel bool
	// features are those that both sides know.
	features uint64

	busy     sync.WaitGroup // requests under way
	waiting  sync.WaitGroup // what looks for space; it may go on after its request for as long as one look takes
	inFlight chan struct{}

	received uint64       // bytes read
	buf      []byte       // of these, those that are not processed
	batch    layout.Batch // of the last report

	// reading guards the account of what was processed: see catchUp.
	reading  sync.Mutex
	caughtUp sync.Cond // of reading
	settled  uint64    // bytes that were read and are processed, but for a part of a message
	ended    bool

	sending sync.Mutex // held through a write
	out     []byte     // guarded by sending

	mu       sync.Mutex
	attached bool
	session  *wire.Session // the last one, of the origin's client
	restore  *restore      // the last one
	open     map[wire.Handle]opening
	asked    map[uint64]chan answer // requests of the server by id
	lastID   uint64
	done     chan struct{} // closed when the connection is
	left     chan struct{} // closed when all that it has left is taken care of
}

// opening is a snapshot that a client has open.
type opening struct {
	handle wire.Handle
	name   wire.SnapshotRef
}

func newConn(l *Listener, tr Transport) *conn {
	c := &conn{
		l: l, tr: tr, inFlight: make(chan struct{}, maxInFlight),
		buf: make([]byte, 0, 64<<10), open: make(map[wire.Handle]opening),
		asked: make(map[uint64]chan answer), done: make(chan struct{}), left: make(chan struct{}), name: "unknown",
	}
	c.caughtUp.L = &c.reading
	return c
}

// close ends the connection; what waits for the client is woken.
func (c *conn) close() {
	_ = c.tr.Close() // it ends either way
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.done:
	default:
		close(c.done)
	}
}

// run serves the client until the connection ends.
func (c *conn) run() error {
	defer func() {
		c.cutOff()
		c.reading.Lock()
		c.ended = true
		c.caughtUp.Broadcast()
		c.reading.Unlock()
	}()
	if err := c.hello(); err != nil {
		return err
	}
	for {
		if err := c.process(); err != nil {
			return err
		}
		if err := c.read(); err != nil {
			return err
		}
	}
}

// cutOff notes that what an origin's client has done from now on is not known.
func (c *conn) cutOff() {
	c.mu.Lock()
	attached := c.attached
	c.mu.Unlock()
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	if attached && c.l.origin == c {
		c.l.cut = true
	}
}

// read takes what has come off the connection, or waits for something.
func (c *conn) read() error {
	if len(c.buf) == cap(c.buf) {
		c.buf = append(c.buf, 0)[:len(c.buf)]
	}
	n, err := c.tr.Read(c.buf[len(c.buf):cap(c.buf)])
	c.buf = c.buf[:len(c.buf)+n]
	c.received += uint64(n)
	return err
}

// next returns the next whole message that has come, or nil. It is valid until the
// next read.
func (c *conn) next(at int) (wire.Header, []byte, error) {
	p := c.buf[at:]
	if len(p) < wire.HeaderSize {
		return wire.Header{}, nil, nil
	}
	h, err := wire.DecodeHeader(p)
	if err != nil || len(p) < wire.HeaderSize+int(h.Length) {
		return h, nil, err
	}
	return h, p[wire.HeaderSize : wire.HeaderSize+int(h.Length) : wire.HeaderSize+int(h.Length)], nil
}

// process takes in all whole messages that have come.
func (c *conn) process() error {
	at := 0
	for {
		h, body, err := c.next(at)
		if err != nil {
			return err
		}
		if body == nil {
			break
		}
		if err := c.take(h, body); err != nil {
			return err
		}
		at += wire.HeaderSize + int(h.Length)
	}
	rest := copy(c.buf, c.buf[at:])
	c.buf = c.buf[:rest]
	c.reading.Lock()
	c.settled = c.received
	c.caughtUp.Broadcast()
	c.reading.Unlock()
	return nil
}

// catchUp returns when all whole messages are processed that were sent before.
func (c *conn) catchUp() {
	target, err := c.tr.Sent()
	if err != nil {
		target = math.MaxUint64 // it is closed: until what was read is processed
	}
	c.reading.Lock()
	defer c.reading.Unlock()
	for c.settled < target && !c.ended {
		c.caughtUp.Wait()
	}
}

// hello waits for the client's first message, and answers it.
func (c *conn) hello() error {
	var h wire.Header
	var body []byte
	for body == nil {
		var err error
		if h, body, err = c.next(0); err != nil {
			return err
		}
		if h.Length > 64 || len(c.buf) >= wire.HeaderSize && h.Type != wire.TypeHello {
			return fmt.Errorf("%w: the first is of type %d", wire.ErrProtocol, h.Type)
		}
		if body == nil {
			if err := c.read(); err != nil {
				return err
			}
		}
	}
	hello, err := wire.DecodeHello(body)
	if err == nil && (hello.Min > wire.MaxVersion || hello.Max < wire.MinVersion) {
		err = fmt.Errorf("%w: it speaks versions %d to %d, this server %d to %d",
			wire.ErrProtocol, hello.Min, hello.Max, wire.MinVersion, wire.MaxVersion)
	}
	if err == nil {
		err = c.mayGreet(hello.Lock)
	}
	if err != nil {
		return errors.Join(err, c.reply(h, nil, err))
	}
	if err := c.tr.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	c.l.mu.Lock() // others look for it
	c.lock = hello.Lock
	c.l.mu.Unlock()
	if !c.kernel {
		c.name = fmt.Sprintf("lock %d", hello.Lock)
	}
	c.features = hello.Features & (wire.FeatureFit | wire.FeatureManage | wire.FeatureRestore | wire.FeatureHold)
	rest := copy(c.buf, c.buf[wire.HeaderSize+int(h.Length):])
	c.buf = c.buf[:rest]
	return c.reply(h, func(dst []byte) []byte {
		return wire.AppendWelcome(dst, wire.Welcome{Version: min(hello.Max, wire.MaxVersion), Features: c.features, UUID: c.l.server.UUID()})
	}, nil)
}

// send writes a message, whose body add appends.
func (c *conn) send(t wire.Type, flags uint16, id uint64, add func(dst []byte) []byte) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	p := wire.AppendHeader(c.out[:0], t, flags, id)
	if add != nil {
		p = add(p)
	}
	c.out = p
	return c.write(p)
}

// write writes a message that is whole but for its length. Sending is held.
func (c *conn) write(p []byte) error {
	wire.Seal(p)
	if err := c.tr.SetWriteDeadline(time.Now().Add(sendLimit)); err != nil {
		return err
	}
	if _, err := c.tr.Write(p); err != nil {
		c.close() // a part of a message may have gone
		return err
	}
	return nil
}

// reply answers a request.
func (c *conn) reply(h wire.Header, add func(dst []byte) []byte, err error) error {
	if err != nil {
		f := fault.From(err)
		return c.send(h.Type, wire.FlagReply|wire.FlagError, h.ID, func(dst []byte) []byte { return wire.AppendFault(dst, f) })
	}
	return c.send(h.Type, wire.FlagReply, h.ID, add)
}

// ask sends the client a request, and returns when it has answered: within a limit,
// if that is not zero, after which the connection is closed.
func (c *conn) ask(t wire.Type, limit time.Duration, add func(dst []byte) []byte) error {
	ctx, cancel := context.Background(), func() {}
	if limit > 0 {
		ctx, cancel = context.WithTimeout(ctx, limit)
	}
	defer cancel()
	_, err := c.askFor(ctx, t, add)
	if err != nil && ctx.Err() != nil {
		c.close()
		return fmt.Errorf("client %s: no answer within %v", c.name, limit)
	}
	return err
}

// answer is a client's reply.
type answer struct {
	body []byte
	err  error
}

// askFor sends the client a request, and returns the body of its reply; or, when ctx
// ends, the reason for that, and a reply is not looked at any more.
func (c *conn) askFor(ctx context.Context, t wire.Type, add func(dst []byte) []byte) ([]byte, error) {
	replied := make(chan answer, 1)
	c.mu.Lock()
	c.lastID++
	id := c.lastID
	c.asked[id] = replied
	c.mu.Unlock()
	if err := c.send(t, 0, id, add); err != nil {
		return nil, fmt.Errorf("%w: %w", wire.ErrAway, err)
	}
	select {
	case a := <-replied:
		return a.body, a.err
	case <-c.done:
		return nil, fmt.Errorf("client %s: %w: its connection has ended", c.name, wire.ErrAway)
	case <-ctx.Done():
		return nil, fmt.Errorf("client %s: %w", c.name, context.Cause(ctx))
	}
}

// answered takes in the client's reply to a request of the server.
func (c *conn) answered(h wire.Header, body []byte) error {
	c.mu.Lock()
	replied := c.asked[h.ID]
	delete(c.asked, h.ID)
	c.mu.Unlock()
	if replied == nil {
		return fmt.Errorf("%w: reply %d to nothing", wire.ErrProtocol, h.ID)
	}
	if h.Flags&wire.FlagError == 0 {
		replied <- answer{body: bytes.Clone(body)} // it outlives the buffer
		return nil
	}
	f, err := wire.DecodeFault(body)
	if err != nil {
		return err
	}
	replied <- answer{err: fault.Err(f)}
	return nil
}

// openings returns the snapshots that the client has open.
func (c *conn) openings() (list []opening) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range c.open {
		list = append(list, o)
	}
	return list
}
