// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/wire"
)

func (c *conn) openSnapshot(r *request) error {
	ref, write, err := wire.DecodeOpen(r.body)
	if err != nil {
		return err
	}
	c.l.endEarlier(c)
	c.l.reopens(c.lock, ref)
	client := &remoteSnapshot{conn: c, opened: make(chan struct{})}
	s, err := c.l.server.OpenSnapshot(ref, write, client)
	if err != nil {
		return err
	}
	client.handle = s.Handle
	c.mu.Lock()
	c.open[s.Handle] = opening{s.Handle, ref}
	c.mu.Unlock()
	r.out = wire.AppendSnapshotSession(r.out, s)
	r.sending = func() { close(client.opened) } // what is sent after this reply may name the handle
	return nil
}

// endEarlier ends the connections that the client of c had before, and returns when what
// it had open there is in the listener's care.
func (l *Listener) endEarlier(c *conn) {
	var earlier []*conn
	l.mu.Lock()
	for other := range l.conns {
		if other.number < c.number && other.lock == c.lock && c.lock != 0 {
			earlier = append(earlier, other)
		}
	}
	l.mu.Unlock()
	for _, other := range earlier {
		other.close()
		<-other.left
	}
}

// reopens gives up what a client that went away had open of a snapshot which it opens
// again: it has ended what it did there.
func (l *Listener) reopens(lock uint32, ref wire.SnapshotRef) {
	var again []opening
	l.mu.Lock()
	if left := l.gone[lock]; left != nil && lock != 0 {
		kept := left.handles[:0]
		for _, o := range left.handles {
			if o.name == ref {
				again = append(again, o)
			} else {
				kept = append(kept, o)
			}
		}
		if left.handles = kept; len(kept) == 0 {
			delete(l.gone, lock)
		}
	}
	l.mu.Unlock()
	l.giveUp(&old{handles: again})
}

// handle reads a handle, which must be of a snapshot that the client has open.
func (c *conn) handle(body []byte) (wire.Handle, error) {
	var h uint64
	if err := wire.DecodeNumbers(body, &h); err != nil {
		return 0, err
	}
	return wire.Handle(h), c.owns(wire.Handle(h))
}

func (c *conn) owns(h wire.Handle) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.open[h]; !ok {
		return fmt.Errorf("%w: it has not opened %d", wire.ErrProtocol, h)
	}
	return nil
}

func (c *conn) closeSnapshot(r *request) error {
	h, err := c.handle(r.body)
	if err != nil {
		return err
	}
	c.mu.Lock()
	delete(c.open, h)
	c.mu.Unlock()
	return c.l.server.CloseSnapshot(h)
}

func (c *conn) mapChunks(r *request) error {
	var h, first, end uint64
	err := wire.DecodeNumbers(r.body, &h, &first, &end)
	if err == nil {
		err = c.owns(wire.Handle(h))
	}
	if err != nil {
		return err
	}
	if first > end || end-first > wire.MaxMappings {
		return fmt.Errorf("%w: chunks %d to %d are too many to map", wire.ErrProtocol, first, end)
	}
	if err := c.l.barrier(c); err != nil {
		return err
	}
	r.maps, err = c.l.server.Map(wire.Handle(h), block.Chunk(first), block.Chunk(end), r.maps[:0])
	r.out = wire.AppendMappings(r.out, r.maps)
	return err
}

func (c *conn) leaseBranch(r *request) error {
	var h, want uint64
	err := wire.DecodeNumbers(r.body, &h, &want)
	if err == nil {
		err = c.owns(wire.Handle(h))
	}
	if err != nil {
		return err
	}
	return r.runs(c.l.server.LeaseBranch(wire.Handle(h), want))
}

func (c *conn) reportBranch(r *request) error {
	h, g, copies, err := wire.DecodeWritten(r.body)
	if err == nil {
		err = c.owns(h)
	}
	if err != nil {
		return err
	}
	return c.l.server.ReportBranch(h, g, copies)
}

func (c *conn) awaitSpace(r *request) error {
	var h uint64
	err := wire.DecodeNumbers(r.body, &h)
	switch {
	case err != nil:
		return err
	case h == 0:
		err = c.isOrigin()
	default:
		err = c.owns(wire.Handle(h))
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	found := make(chan error, 1)
	c.waiting.Go(func() { found <- c.l.server.AwaitSpaceContext(ctx, wire.Handle(h)) })
	select {
	case err = <-found:
	case <-c.done: // nobody wants to know any more, and the client's return must not wait
		err = wire.ErrAway
	}
	if errors.Is(err, device.ErrClosed) { // the next server will say
		err = fmt.Errorf("%w: %w", wire.ErrAway, err)
	}
	return err
}

func (c *conn) restoreBranch(r *request) error {
	h, g, copies, err := wire.DecodeWritten(r.body)
	if err == nil {
		err = c.owns(h)
	}
	if err != nil {
		return err
	}
	return c.l.server.RestoreBranch(h, g, copies)
}

func (c *conn) syncBranch(r *request) error {
	h, err := c.handle(r.body)
	if err != nil {
		return err
	}
	return c.l.server.SyncBranch(h)
}
