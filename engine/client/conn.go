// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/wire"
	"zumastor.org/zumastor/engine/wire/fault"
)

// conn is one connection to a server. A goroutine reads it; what the server asks for
// is done by goroutines of their own, and states are taken over in their order.
type conn struct {
	c       *Client
	tr      Transport
	r       *bufio.Reader
	welcome wire.Welcome

	sending sync.Mutex // held through a write
	out     []byte     // guarded by sending

	mu     sync.Mutex
	calls  map[uint64]*call // by id
	lastID uint64
	states map[wire.Handle]*quiesce    // under way, by the server's handle; 0: the origin
	local  map[wire.Handle]wire.Handle // the client's handles by the server's
	err    error

	once    sync.Once
	started sync.Once
	ended   chan struct{} // closed with the connection
	result  chan error    // of the reading goroutine
}

// call is a request that waits for its reply.
type call struct {
	answer chan struct{} // has a token when it is there
	body   []byte
	err    error
	// took is called by the reading goroutine with the reply's body, before anything
	// that came after it is looked at.
	took func(body []byte) error
}

var calls = sync.Pool{New: func() any { return &call{answer: make(chan struct{}, 1)} }}

func newConn(c *Client, tr Transport) *conn {
	return &conn{
		c: c, tr: tr, r: bufio.NewReaderSize(tr, 64<<10), calls: make(map[uint64]*call), lastID: 1,
		states: make(map[wire.Handle]*quiesce), local: make(map[wire.Handle]wire.Handle),
		ended: make(chan struct{}), result: make(chan error, 1),
	}
}

// hello says which protocol the client speaks.
func (cn *conn) hello(ctx context.Context) error {
	if d, ok := ctx.Deadline(); ok {
		_ = cn.tr.SetReadDeadline(d)
	}
	stop := context.AfterFunc(ctx, func() { _ = cn.tr.SetReadDeadline(time.Now()) })
	defer stop()
	hello := wire.Hello{Min: wire.MinVersion, Max: wire.MaxVersion, Lock: cn.c.opts.Lock, Features: wire.FeatureFit | wire.FeatureRestore}
	if cn.c.opts.Manage != nil {
		hello.Features |= wire.FeatureManage
	}
	if err := cn.send(wire.TypeHello, 0, 1, func(dst []byte) []byte { return wire.AppendHello(dst, hello) }); err != nil {
		return err
	}
	h, body, err := cn.next()
	switch {
	case err != nil:
		return err
	case h.Type != wire.TypeHello || h.Flags&wire.FlagReply == 0:
		return fmt.Errorf("%w: a message of type %d instead of a welcome", wire.ErrProtocol, h.Type)
	case h.Flags&wire.FlagError != 0:
		return refused(body)
	}
	if cn.welcome, err = wire.DecodeWelcome(body); err != nil {
		return err
	}
	return cn.tr.SetReadDeadline(time.Time{})
}

// refused returns the error that a reply's body is.
func refused(body []byte) error {
	f, err := wire.DecodeFault(body)
	if err != nil {
		return err
	}
	return fault.Err(f)
}

// next reads a message. Its body is the caller's.
func (cn *conn) next() (wire.Header, []byte, error) {
	var head [wire.HeaderSize]byte
	if _, err := io.ReadFull(cn.r, head[:]); err != nil {
		return wire.Header{}, nil, err
	}
	h, err := wire.DecodeHeader(head[:])
	if err != nil {
		return h, nil, err
	}
	body := make([]byte, h.Length)
	_, err = io.ReadFull(cn.r, body)
	return h, body, err
}

// start begins to read.
func (cn *conn) start() {
	cn.started.Do(func() {
		cn.c.done.Go(func() {
			err := cn.read()
			cn.fail(err)
			cn.result <- err
		})
	})
}

// run returns when the connection has ended.
func (cn *conn) run() error {
	cn.start()
	return <-cn.result
}

// read takes in what comes until the connection ends.
func (cn *conn) read() error {
	for {
		h, body, err := cn.next()
		if err != nil {
			return err
		}
		if err := cn.take(h, body); err != nil {
			return err
		}
	}
}

// fail ends the connection and all that waits for it.
func (cn *conn) fail(err error) {
	cn.close()
	cn.mu.Lock()
	defer cn.mu.Unlock()
	cn.err = fmt.Errorf("%w: %w", wire.ErrAway, err)
	for id, call := range cn.calls {
		delete(cn.calls, id)
		call.err = cn.err
		call.answer <- struct{}{}
	}
}

func (cn *conn) close() {
	cn.once.Do(func() {
		_ = cn.tr.Close() // it ends either way
		close(cn.ended)
	})
}

// alive reports whether the connection has not ended.
func (cn *conn) alive() bool {
	select {
	case <-cn.ended:
		return false
	default:
		return true
	}
}

// send writes a message, whose body add appends. When it returns, the message is in
// the server's queue.
func (cn *conn) send(t wire.Type, flags uint16, id uint64, add func(dst []byte) []byte) error {
	cn.sending.Lock()
	defer cn.sending.Unlock()
	p := wire.AppendHeader(cn.out[:0], t, flags, id)
	if add != nil {
		p = add(p)
	}
	wire.Seal(p)
	cn.out = p
	if _, err := cn.tr.Write(p); err != nil {
		cn.close() // a part of a message may have gone
		return fmt.Errorf("%w: %w", wire.ErrAway, err)
	}
	return nil
}

// call makes a request and returns its reply's body.
func (cn *conn) call(t wire.Type, add func(dst []byte) []byte) ([]byte, error) {
	return cn.callThen(t, add, nil)
}

// callThen is call, and has the reading goroutine call took with the reply first.
func (cn *conn) callThen(t wire.Type, add func(dst []byte) []byte, took func([]byte) error) ([]byte, error) {
	k := calls.Get().(*call)
	k.body, k.err, k.took = nil, nil, took
	cn.mu.Lock()
	if cn.err != nil {
		err := cn.err
		cn.mu.Unlock()
		return nil, err
	}
	cn.lastID++
	id := cn.lastID
	cn.calls[id] = k
	cn.mu.Unlock()
	_ = cn.send(t, 0, id, add) // an error ends the connection, which answers
	<-k.answer
	body, err := k.body, k.err
	calls.Put(k)
	return body, err
}

// take takes in a message.
func (cn *conn) take(h wire.Header, body []byte) error {
	if h.Flags&wire.FlagReply != 0 {
		return cn.answered(h, body)
	}
	switch h.Type {
	case wire.TypeQuiesce:
		return cn.quiesce(h, body)
	case wire.TypeState:
		return cn.state(body)
	case wire.TypeUpdate:
		s, err := wire.DecodeState(body)
		if err == nil {
			cn.update(s)
		}
		return err
	case wire.TypeSettle:
		return cn.settle(h, body)
	case wire.TypeFit:
		return cn.fit(h, body)
	case wire.TypeManage:
		return cn.manage(h, body)
	}
	return fmt.Errorf("%w: type %d", wire.ErrProtocol, h.Type)
}

// answered gives a reply to whoever waits for it.
func (cn *conn) answered(h wire.Header, body []byte) error {
	cn.mu.Lock()
	k := cn.calls[h.ID]
	delete(cn.calls, h.ID)
	cn.mu.Unlock()
	if k == nil {
		return fmt.Errorf("%w: reply %d to nothing", wire.ErrProtocol, h.ID)
	}
	k.body = body
	switch {
	case h.Flags&wire.FlagError != 0:
		k.err = refused(body)
	case k.took != nil:
		k.err = k.took(body)
	}
	k.answer <- struct{}{}
	return nil
}

// openSnapshot opens a snapshot. Took hears of it before anything that came after.
func (cn *conn) openSnapshot(ref wire.SnapshotRef, write bool, took func(*wire.SnapshotSession)) (s *wire.SnapshotSession, err error) {
	_, err = cn.callThen(wire.TypeOpenSnapshot,
		func(dst []byte) []byte { return wire.AppendOpen(dst, ref, write) },
		func(body []byte) (err error) {
			if s, err = wire.DecodeSnapshotSession(body); err == nil {
				took(s)
			}
			return err
		})
	return s, err
}

// errNobody is the answer to what asks for a client that is not there any more.
var errNobody = errors.New("no such client")

// reply answers a request of the server.
func (cn *conn) reply(h wire.Header, err error) {
	if err == nil {
		_ = cn.send(h.Type, wire.FlagReply, h.ID, nil)
		return
	}
	f := fault.From(err)
	_ = cn.send(h.Type, wire.FlagReply|wire.FlagError, h.ID, func(dst []byte) []byte { return wire.AppendFault(dst, f) })
}

// settle has the origin copy chunks out.
func (cn *conn) settle(h wire.Header, body []byte) error {
	var first, end uint64
	if err := wire.DecodeNumbers(body, &first, &end); err != nil {
		return err
	}
	origin := cn.c.originClient()
	cn.c.done.Go(func() {
		err := errNobody
		if origin != nil {
			err = origin.Settle(block.Chunk(first), block.Chunk(end))
		}
		cn.reply(h, err)
	})
	return nil
}
