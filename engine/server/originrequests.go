// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"time"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/wire"
)

// isOrigin returns an error unless the client is the origin's.
func (c *conn) isOrigin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.attached {
		return fmt.Errorf("%w: it is not the origin's client", wire.ErrProtocol)
	}
	return nil
}

// report takes in a batch. What the store refuses ends the connection.
func (c *conn) report(body []byte) error {
	if err := c.isOrigin(); err != nil {
		return err
	}
	b, err := wire.DecodeReport(body, &c.batch)
	if err != nil {
		return err
	}
	_, err = c.l.server.Report(b)
	return err
}

func (c *conn) attach(r *request) error {
	return c.begin(r, func() (*wire.Session, error) {
		if err := c.mayAttach(); err != nil {
			return nil, err
		}
		if err := c.l.forgetOrigin(); err != nil {
			return nil, err
		}
		return c.l.server.Attach(remoteOrigin{c})
	})
}

// takeOver ends the connection that the origin's client had before, and returns when
// nothing of it is under way.
func (l *Listener) takeOver() {
	l.mu.Lock()
	before := l.origin
	l.mu.Unlock()
	if before != nil {
		before.close()
		<-before.left
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.gone, OriginLock) // it has come back
	delete(l.gone, KernelOrigin)
}

func (c *conn) resume(r *request) error {
	p, err := wire.DecodeProgress(r.body)
	if err != nil {
		return err
	}
	return c.begin(r, func() (*wire.Session, error) {
		if err := c.holds(OriginLock); err != nil {
			return nil, err
		}
		c.l.takeOver()
		return c.l.server.Resume(remoteOrigin{c}, p)
	})
}

// renew begins a new session of the origin client that is attached already.
func (c *conn) renew(r *request) error {
	if err := c.isOrigin(); err != nil {
		return err
	}
	f, err := wire.DecodeFailure(r.body)
	if err != nil {
		return err
	}
	s, err := c.l.server.Renew(f)
	if err != nil {
		return err
	}
	r.out = wire.AppendSession(r.out, s)
	return nil
}

// begin begins the session of an origin client.
func (c *conn) begin(r *request, with func() (*wire.Session, error)) error {
	if err := c.l.awaits(); err != nil {
		return err
	}
	c.endRestore()
	s, err := with()
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.attached, c.session = true, s
	c.mu.Unlock()
	c.l.mu.Lock()
	c.l.origin, c.l.cut = c, false
	c.l.mu.Unlock()
	r.out = wire.AppendSession(r.out, s)
	r.sending = func() { c.beginRestore(s.State) } // what it sends comes after this reply
	return nil
}

// forgetOrigin ends the session of an origin client that went away, if it is dead.
func (l *Listener) forgetOrigin() error {
	l.mu.Lock()
	before := l.origin
	l.mu.Unlock()
	if before != nil { // if it is dead, its connection is about to end
		select {
		case <-before.left:
		case <-time.After(attachWait):
		}
	}
	l.mu.Lock()
	none := l.gone[OriginLock] == nil && l.gone[KernelOrigin] == nil
	// Who attaches holds the origin's lock: the one before does not, and is dead.
	delete(l.gone, OriginLock)
	delete(l.gone, KernelOrigin)
	l.mu.Unlock()
	if none {
		return nil
	}
	return l.abandon()
}

func (c *conn) detach(r *request) error {
	if err := c.isOrigin(); err != nil {
		return err
	}
	c.endRestore()
	c.mu.Lock()
	c.attached = false
	c.mu.Unlock()
	c.l.mu.Lock()
	if c.l.origin == c {
		c.l.origin = nil
	}
	c.l.mu.Unlock()
	return c.l.server.Detach()
}

func (c *conn) lease(r *request) error {
	var want uint64
	if err := wire.DecodeNumbers(r.body, &want); err != nil {
		return err
	}
	if err := c.isOrigin(); err != nil {
		return err
	}
	return r.runs(c.l.server.Lease(want))
}

// runs answers with a lease.
func (r *request) runs(list []layout.SlotRun, err error) error {
	r.out = wire.AppendRuns(r.out, list)
	return err
}

func (c *conn) checkpoint(r *request) error {
	if err := c.isOrigin(); err != nil {
		return err
	}
	released, err := c.l.server.Checkpoint()
	r.out = wire.AppendPosition(r.out, released)
	return err
}

func (c *conn) unsettled(r *request) error {
	var first, end uint64
	if err := wire.DecodeNumbers(r.body, &first, &end); err != nil {
		return err
	}
	if first > end || end-first > wire.MaxUnsettled {
		return fmt.Errorf("%w: chunks %d to %d are too many to ask about", wire.ErrProtocol, first, end)
	}
	var err error
	r.chunks, err = c.l.server.Unsettled(block.Chunk(first), block.Chunk(end), r.chunks[:0])
	r.out = wire.AppendBitmap(r.out, block.Chunk(first), block.Chunk(end), r.chunks)
	return err
}

func (c *conn) mapRestoring(r *request) error {
	var g, first, end uint64
	if err := wire.DecodeNumbers(r.body, &g, &first, &end); err != nil {
		return err
	}
	if first > end || end-first > wire.MaxMappings {
		return fmt.Errorf("%w: chunks %d to %d are too many to map", wire.ErrProtocol, first, end)
	}
	if err := c.isOrigin(); err != nil {
		return err
	}
	var err error
	r.maps, err = c.l.server.MapRestoring(block.Generation(g), block.Chunk(first), block.Chunk(end), r.maps[:0])
	r.out = wire.AppendMappings(r.out, r.maps)
	return err
}

func (c *conn) restored(r *request) error {
	p, err := wire.DecodeRestoreProgress(r.body)
	if err == nil {
		err = c.isOrigin()
	}
	if err != nil {
		return err
	}
	next, err := c.l.server.Restored(p)
	r.out = wire.AppendNumbers(r.out, uint64(next))
	return err
}
