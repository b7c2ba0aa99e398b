// SPDX-License-Identifier: Apache-2.0

package client

import (
	"fmt"

	"zumastor.org/zumastor/engine/wire"
)

// originClient returns the origin's client, or nil.
func (c *Client) originClient() wire.Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.origin
}

// update hands the origin a new state.
func (cn *conn) update(s wire.State) {
	if origin := cn.c.originClient(); origin != nil {
		origin.Update(s)
	}
}

// quiesce is one that the server has asked for.
type quiesce struct {
	state chan []byte   // gets the new state
	done  chan struct{} // closed when it has been taken over
}

// quiesce begins what the server asks for: that nothing is under way on the origin or
// on a snapshot until its new state has come.
func (cn *conn) quiesce(h wire.Header, body []byte) error {
	var n uint64
	if err := wire.DecodeNumbers(body, &n); err != nil {
		return err
	}
	handle := wire.Handle(n)
	q := &quiesce{state: make(chan []byte, 1), done: make(chan struct{})}
	cn.mu.Lock()
	if cn.states[handle] != nil {
		cn.mu.Unlock()
		return fmt.Errorf("%w: a quiesce of %d within another", wire.ErrProtocol, n)
	}
	cn.states[handle] = q
	local := cn.local[handle]
	cn.mu.Unlock()
	cn.c.mu.Lock()
	session := cn.c.sessions // whose end this quiesce may see
	cn.c.mu.Unlock()
	cn.c.done.Go(func() {
		defer close(q.done)
		answered := false
		answer := func() { // the server's change goes on
			answered = true
			cn.reply(h, nil)
		}
		var err error
		if handle == 0 {
			err = cn.quiesceOrigin(q, session, answer)
		} else {
			err = cn.quiesceSnapshot(q, local, answer)
		}
		if err != nil && !answered { // no state will come
			cn.mu.Lock()
			delete(cn.states, handle)
			cn.mu.Unlock()
			cn.reply(h, err)
		}
	})
	return nil
}

// quiesceOrigin holds the origin's writes until the state has come. If the connection
// ends before, the server may have made a snapshot: they are held until the origin has
// resumed, and knows.
func (cn *conn) quiesceOrigin(q *quiesce, session uint64, answer func()) error {
	origin := cn.c.originClient()
	if origin == nil {
		return errNobody
	}
	return origin.Quiesce(func() (wire.State, error) {
		answer()
		if body, ok := q.await(cn.ended); ok {
			return wire.DecodeState(body)
		}
		return cn.c.resumed(session)
	})
}

// quiesceSnapshot holds requests of a snapshot until the state has come. If the
// connection ends before, nothing that is known of it holds, and it is opened again
// before the server is asked about it.
func (cn *conn) quiesceSnapshot(q *quiesce, local wire.Handle, answer func()) error {
	cn.c.mu.Lock()
	s := cn.c.snaps[local]
	cn.c.mu.Unlock()
	if s == nil {
		return errNobody
	}
	return s.client.Quiesce(func() (wire.SnapshotState, error) {
		answer()
		if body, ok := q.await(cn.ended); ok {
			return wire.DecodeSnapshotState(body)
		}
		return wire.SnapshotState{Size: s.size, Revoked: true, Writable: s.write}, nil
	})
}

// await returns the state, or false if the connection has ended without it.
func (q *quiesce) await(ended <-chan struct{}) ([]byte, bool) {
	select {
	case body := <-q.state:
		return body, true
	case <-ended:
	}
	select {
	case body := <-q.state: // it came just before the end
		return body, true
	default:
		return nil, false
	}
}

// state ends a quiesce, and waits until the state is taken over: what the server says
// next comes after it.
func (cn *conn) state(body []byte) error {
	if len(body) < 8 {
		return fmt.Errorf("%w: state of %d bytes", wire.ErrProtocol, len(body))
	}
	var n uint64
	if err := wire.DecodeNumbers(body[:8], &n); err != nil {
		return err
	}
	cn.mu.Lock()
	q := cn.states[wire.Handle(n)]
	delete(cn.states, wire.Handle(n))
	cn.mu.Unlock()
	if q == nil {
		return fmt.Errorf("%w: state of %d, which is not quiesced", wire.ErrProtocol, n)
	}
	q.state <- body[8:]
	<-q.done
	return nil
}
