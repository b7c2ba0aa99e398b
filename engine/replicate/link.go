// SPDX-License-Identifier: Apache-2.0

package replicate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultIdle is after how long a silent peer is taken to be gone.
const DefaultIdle = 30 * time.Second

// lingering is how long the side that has said the last word waits for the other to
// close, and how much it reads and forgets meanwhile: to close with bytes unread would
// take the last word back on a TCP connection.
const (
	lingering   = 5 * time.Second
	lingerBytes = 64 << 20
)

// link is a connection on which frames go either way. One goroutine reads; any may
// write. After the first error it is closed, and all calls return that error.
type link struct {
	conn    io.ReadWriteCloser
	idle    time.Duration // the peer is gone after so much silence
	in      []byte
	writing sync.Mutex
	out     []byte
	wrote   atomic.Bool // since the last ping
	strict  bool        // the peer always reads: a write that takes long means that it is gone
	failed  atomic.Pointer[error]
	stop    func() bool
	pinging chan struct{} // closed when pings are to end
	pings   sync.WaitGroup
}

// newLink takes a connection over, which is closed at the latest when ctx ends.
func newLink(ctx context.Context, conn io.ReadWriteCloser, idle time.Duration) *link {
	if idle <= 0 {
		idle = DefaultIdle
	}
	l := &link{conn: conn, idle: min(max(idle, minIdle), maxIdle), pinging: make(chan struct{})}
	l.stop = context.AfterFunc(ctx, func() { l.fail(context.Cause(ctx)) })
	return l
}

// fail closes the connection with an error, unless it has one, and returns the one that
// it has.
func (l *link) fail(err error) error {
	if l.failed.CompareAndSwap(nil, &err) {
		_ = l.conn.Close() // the error is the one that counts
	}
	return *l.failed.Load()
}

// close ends the link.
func (l *link) close() {
	l.stop()
	close(l.pinging)
	l.fail(fmt.Errorf("%w: it is closed", ErrConnection))
	l.pings.Wait()
}

// guard fails the link if what begins now takes too long. Its result ends it.
func (l *link) guard() *time.Timer {
	return time.AfterFunc(l.idle, func() {
		l.fail(fmt.Errorf("%w: nothing was heard for %v", ErrConnection, l.idle))
	})
}

// read returns the next frame but pings; its payload is valid until the next call.
func (l *link) read() (kind, []byte, error) {
	for {
		k, p, buf, err := readFrame(guarded{l}, l.in)
		l.in = buf
		if err != nil {
			return 0, nil, l.fail(lost(err))
		}
		if k != kindPing {
			return k, p, nil
		}
	}
}

// guarded reads from a link's connection. However slow that is, it is alive as long as
// bytes come.
type guarded struct{ *link }

// Read implements io.Reader.
func (g guarded) Read(p []byte) (int, error) {
	defer g.guard().Stop()
	return g.conn.Read(p)
}

// lost returns the error of a connection that broke.
func lost(err error) error {
	if errors.Is(err, ErrProtocol) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrConnection, err)
}

// write sends a frame.
func (l *link) write(k kind, payload []byte) error {
	if least, most := k.bounds(); len(payload) < least || len(payload) > most {
		return fmt.Errorf("%v frame of %d bytes cannot be sent", k, len(payload))
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	l.out = appendFrame(l.out[:0], k, payload)
	if l.strict {
		defer l.guard().Stop()
	}
	l.wrote.Store(true)
	if _, err := l.conn.Write(l.out); err != nil {
		return l.fail(lost(err))
	}
	return nil
}

// keepAlive has the peer hear something, as often as it needs to.
func (l *link) keepAlive(peer time.Duration) {
	every := min(l.idle, peer) / 3
	l.pings.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-l.pinging:
				return
			case <-tick.C:
			}
			if !l.wrote.Swap(false) && l.write(kindPing, nil) != nil {
				return
			}
		}
	})
}

// linger waits until the peer has closed the connection, for a while.
func (l *link) linger() {
	if l.failed.Load() != nil {
		return
	}
	t := time.AfterFunc(lingering, func() { l.fail(fmt.Errorf("%w: the peer does not close it", ErrConnection)) })
	defer t.Stop()
	_, _ = io.CopyN(io.Discard, l.conn, lingerBytes) // whatever it was
}
