// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
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
	head    [wire.HeaderSize]byte // of what is read
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
	body   []byte        // its memory is used again for the next call
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
	h, err := cn.header()
	var body []byte
	if err == nil {
		body, err = cn.body(h, nil)
	}
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

// header reads the header of the next message.
func (cn *conn) header() (wire.Header, error) {
	if _, err := io.ReadFull(cn.r, cn.head[:]); err != nil {
		return wire.Header{}, err
	}
	return wire.DecodeHeader(cn.head[:])
}

// body reads the body of a message, into p if that is large enough.
func (cn *conn) body(h wire.Header, p []byte) ([]byte, error) {
	p = slices.Grow(p[:0], int(h.Length))[:h.Length]
	_, err := io.ReadFull(cn.r, p)
	return p, err
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
		h, err := cn.header()
		if err != nil {
			return err
		}
		if h.Flags&wire.FlagReply != 0 {
			err = cn.answered(h)
		} else {
			err = cn.take(h)
		}
		if err != nil {
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

// call makes a request, and has decode, if that is not nil, read its reply. The body is
// decode's until it returns.
func (cn *conn) call(t wire.Type, add func(dst []byte) []byte, decode func(body []byte) error) error {
	k := calls.Get().(*call)
	err := cn.ask(k, t, add)
	if err == nil && decode != nil {
		err = decode(k.body)
	}
	calls.Put(k)
	return err
}

// callThen is call, and it is the reading goroutine that calls took with the reply,
// before it looks at anything that came after it.
func (cn *conn) callThen(t wire.Type, add func(dst []byte) []byte, took func(body []byte) error) error {
	k := calls.Get().(*call)
	k.took = took
	err := cn.ask(k, t, add)
	k.took = nil
	calls.Put(k)
	return err
}

// ask sends a request, and returns when its reply is there.
func (cn *conn) ask(k *call, t wire.Type, add func(dst []byte) []byte) error {
	k.err = nil
	cn.mu.Lock()
	if cn.err != nil {
		err := cn.err
		cn.mu.Unlock()
		return err
	}
	cn.lastID++
	id := cn.lastID
	cn.calls[id] = k
	cn.mu.Unlock()
	_ = cn.send(t, 0, id, add) // an error ends the connection, which answers
	<-k.answer
	return k.err
}

// take takes in what the server asks for, or says. The body is for whoever gets it.
func (cn *conn) take(h wire.Header) error {
	body, err := cn.body(h, nil)
	if err != nil {
		return err
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

// answered reads a reply, and gives it to whoever waits for it.
func (cn *conn) answered(h wire.Header) (err error) {
	cn.mu.Lock()
	k := cn.calls[h.ID]
	cn.mu.Unlock()
	if k == nil {
		return fmt.Errorf("%w: reply %d to nothing", wire.ErrProtocol, h.ID)
	}
	if k.body, err = cn.body(h, k.body); err != nil {
		return err // with which the end of the connection answers
	}
	cn.mu.Lock()
	delete(cn.calls, h.ID)
	cn.mu.Unlock()
	switch {
	case h.Flags&wire.FlagError != 0:
		k.err = refused(k.body)
	case k.took != nil:
		k.err = k.took(k.body)
	}
	k.answer <- struct{}{}
	return nil
}

// openSnapshot opens a snapshot. Took hears of it before anything that came after.
func (cn *conn) openSnapshot(ref wire.SnapshotRef, write bool, took func(*wire.SnapshotSession)) (s *wire.SnapshotSession, err error) {
	err = cn.callThen(wire.TypeOpenSnapshot,
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
