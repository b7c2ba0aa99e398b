// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/wire"
)

// take takes in a message. An error ends the connection.
func (c *conn) take(h wire.Header, body []byte) error {
	switch {
	case h.Flags&wire.FlagReply != 0:
		return c.answered(h, body)
	case h.Type == wire.TypeReport:
		return c.report(body)
	case h.Type == wire.TypeReady:
		c.l.ready(c)
		return nil
	}
	carry := requests[h.Type]
	if carry == nil {
		return fmt.Errorf("%w: type %d", wire.ErrProtocol, h.Type)
	}
	c.inFlight <- struct{}{}
	body = bytes.Clone(body) // it outlives the buffer
	c.busy.Go(func() {
		defer func() { <-c.inFlight }()
		add, err := carry(c, body)
		if err != nil {
			c.l.log.Debug("request refused", "store", c.l.server.UUID(), "client", c.name, "type", h.Type, "error", err)
		}
		_ = c.reply(h, add, err) // an error has closed the connection
	})
	return nil
}

// requests carry out the requests of a client: they return what appends the body of
// the reply.
var requests = map[wire.Type]func(c *conn, body []byte) (func([]byte) []byte, error){
	wire.TypeAttach:        (*conn).attach,
	wire.TypeResume:        (*conn).resume,
	wire.TypeRenew:         (*conn).renew,
	wire.TypeDetach:        (*conn).detach,
	wire.TypeLease:         (*conn).lease,
	wire.TypeCheckpoint:    (*conn).checkpoint,
	wire.TypeUnsettled:     (*conn).unsettled,
	wire.TypeOpenSnapshot:  (*conn).openSnapshot,
	wire.TypeCloseSnapshot: (*conn).closeSnapshot,
	wire.TypeMap:           (*conn).mapChunks,
	wire.TypeLeaseBranch:   (*conn).leaseBranch,
	wire.TypeReportBranch:  (*conn).reportBranch,
	wire.TypeSyncBranch:    (*conn).syncBranch,
	wire.TypeRestoreBranch: (*conn).restoreBranch,
	wire.TypeAwaitSpace:    (*conn).awaitSpace,
	wire.TypeMapRestoring:  (*conn).mapRestoring,
	wire.TypeRestored:      (*conn).restored,
}

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
	b, err := wire.DecodeReport(body)
	if err != nil {
		return err
	}
	_, err = c.l.server.Report(b)
	return err
}

func (c *conn) attach([]byte) (func([]byte) []byte, error) {
	return c.begin(func() (*wire.Session, error) {
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

func (c *conn) resume(body []byte) (func([]byte) []byte, error) {
	p, err := wire.DecodeProgress(body)
	if err != nil {
		return nil, err
	}
	return c.begin(func() (*wire.Session, error) {
		if err := c.holds(OriginLock); err != nil {
			return nil, err
		}
		c.l.takeOver()
		return c.l.server.Resume(remoteOrigin{c}, p)
	})
}

// renew begins a new session of the origin client that is attached already.
func (c *conn) renew(body []byte) (func([]byte) []byte, error) {
	if err := c.isOrigin(); err != nil {
		return nil, err
	}
	f, err := wire.DecodeFailure(body)
	if err != nil {
		return nil, err
	}
	s, err := c.l.server.Renew(f)
	if err != nil {
		return nil, err
	}
	return func(dst []byte) []byte { return wire.AppendSession(dst, s) }, nil
}

// begin begins the session of an origin client.
func (c *conn) begin(with func() (*wire.Session, error)) (func([]byte) []byte, error) {
	if err := c.l.awaits(); err != nil {
		return nil, err
	}
	c.endRestore()
	s, err := with()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.attached, c.session = true, s
	c.mu.Unlock()
	c.l.mu.Lock()
	c.l.origin, c.l.cut = c, false
	c.l.mu.Unlock()
	return func(dst []byte) []byte {
		c.beginRestore(s.State) // what it sends comes after this reply
		return wire.AppendSession(dst, s)
	}, nil
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

func (c *conn) detach([]byte) (func([]byte) []byte, error) {
	if err := c.isOrigin(); err != nil {
		return nil, err
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
	return nil, c.l.server.Detach()
}

func (c *conn) lease(body []byte) (func([]byte) []byte, error) {
	var want uint64
	if err := wire.DecodeNumbers(body, &want); err != nil {
		return nil, err
	}
	if err := c.isOrigin(); err != nil {
		return nil, err
	}
	return runs(c.l.server.Lease(want))
}

func runs(list []layout.SlotRun, err error) (func([]byte) []byte, error) {
	return func(dst []byte) []byte { return wire.AppendRuns(dst, list) }, err
}

func (c *conn) checkpoint([]byte) (func([]byte) []byte, error) {
	if err := c.isOrigin(); err != nil {
		return nil, err
	}
	released, err := c.l.server.Checkpoint()
	return func(dst []byte) []byte { return wire.AppendPosition(dst, released) }, err
}

func (c *conn) unsettled(body []byte) (func([]byte) []byte, error) {
	var first, end uint64
	if err := wire.DecodeNumbers(body, &first, &end); err != nil {
		return nil, err
	}
	if first > end || end-first > wire.MaxUnsettled {
		return nil, fmt.Errorf("%w: chunks %d to %d are too many to ask about", wire.ErrProtocol, first, end)
	}
	list, err := c.l.server.Unsettled(block.Chunk(first), block.Chunk(end), nil)
	return func(dst []byte) []byte {
		return wire.AppendBitmap(dst, block.Chunk(first), block.Chunk(end), list)
	}, err
}

func (c *conn) openSnapshot(body []byte) (func([]byte) []byte, error) {
	ref, write, err := wire.DecodeOpen(body)
	if err != nil {
		return nil, err
	}
	c.l.reopens(c.lock, ref)
	client := &remoteSnapshot{conn: c, opened: make(chan struct{})}
	s, err := c.l.server.OpenSnapshot(ref, write, client)
	if err != nil {
		return nil, err
	}
	client.handle = s.Handle
	c.mu.Lock()
	c.open[s.Handle] = opening{s.Handle, ref}
	c.mu.Unlock()
	return func(dst []byte) []byte {
		close(client.opened) // what is sent after this reply may name the handle
		return wire.AppendSnapshotSession(dst, s)
	}, nil
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
func (c *conn) handle(body []byte, more ...*uint64) (wire.Handle, error) {
	var h uint64
	if err := wire.DecodeNumbers(body, append([]*uint64{&h}, more...)...); err != nil {
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

func (c *conn) closeSnapshot(body []byte) (func([]byte) []byte, error) {
	h, err := c.handle(body)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	delete(c.open, h)
	c.mu.Unlock()
	return nil, c.l.server.CloseSnapshot(h)
}

func (c *conn) mapChunks(body []byte) (func([]byte) []byte, error) {
	var first, end uint64
	h, err := c.handle(body, &first, &end)
	if err != nil {
		return nil, err
	}
	if first > end || end-first > wire.MaxMappings {
		return nil, fmt.Errorf("%w: chunks %d to %d are too many to map", wire.ErrProtocol, first, end)
	}
	if err := c.l.barrier(c); err != nil {
		return nil, err
	}
	list, err := c.l.server.Map(h, block.Chunk(first), block.Chunk(end), nil)
	return func(dst []byte) []byte { return wire.AppendMappings(dst, list) }, err
}

func (c *conn) leaseBranch(body []byte) (func([]byte) []byte, error) {
	var want uint64
	h, err := c.handle(body, &want)
	if err != nil {
		return nil, err
	}
	return runs(c.l.server.LeaseBranch(h, want))
}

func (c *conn) reportBranch(body []byte) (func([]byte) []byte, error) {
	h, g, copies, err := wire.DecodeWritten(body)
	if err == nil {
		err = c.owns(h)
	}
	if err != nil {
		return nil, err
	}
	return nil, c.l.server.ReportBranch(h, g, copies)
}

func (c *conn) awaitSpace(body []byte) (func([]byte) []byte, error) {
	var h uint64
	err := wire.DecodeNumbers(body, &h)
	switch {
	case err != nil:
		return nil, err
	case h == 0:
		err = c.isOrigin()
	default:
		err = c.owns(wire.Handle(h))
	}
	if err != nil {
		return nil, err
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
	return nil, err
}

func (c *conn) mapRestoring(body []byte) (func([]byte) []byte, error) {
	var g, first, end uint64
	if err := wire.DecodeNumbers(body, &g, &first, &end); err != nil {
		return nil, err
	}
	if first > end || end-first > wire.MaxMappings {
		return nil, fmt.Errorf("%w: chunks %d to %d are too many to map", wire.ErrProtocol, first, end)
	}
	if err := c.isOrigin(); err != nil {
		return nil, err
	}
	list, err := c.l.server.MapRestoring(block.Generation(g), block.Chunk(first), block.Chunk(end), nil)
	return func(dst []byte) []byte { return wire.AppendMappings(dst, list) }, err
}

func (c *conn) restored(body []byte) (func([]byte) []byte, error) {
	p, err := wire.DecodeRestoreProgress(body)
	if err == nil {
		err = c.isOrigin()
	}
	if err != nil {
		return nil, err
	}
	next, err := c.l.server.Restored(p)
	return func(dst []byte) []byte { return wire.AppendNumbers(dst, uint64(next)) }, err
}

func (c *conn) restoreBranch(body []byte) (func([]byte) []byte, error) {
	h, _, copies, err := wire.DecodeWritten(body)
	if err == nil {
		err = c.owns(h)
	}
	if err != nil {
		return nil, err
	}
	return nil, c.l.server.RestoreBranch(h, copies)
}

func (c *conn) syncBranch(body []byte) (func([]byte) []byte, error) {
	h, err := c.handle(body)
	if err != nil {
		return nil, err
	}
	return nil, c.l.server.SyncBranch(h)
}
