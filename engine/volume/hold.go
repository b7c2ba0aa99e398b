// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"errors"
	"fmt"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/copylog"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/wire"
)

// errOtherHistory is wrapped when a server that comes back has snapshots that were
// made while the origin was written to without it.
var errOtherHistory = errors.New("snapshots were made without this origin")

// settle returns when the chunks [first, end) are settled, of which that is not
// known. With keep, none of them is to be lost: they are not written to.
func (c *copier) settle(first, end block.Chunk, keep bool) error {
	var few [8]block.Chunk
	unsettled, err := c.ask(first, end, few[:0])
	switch {
	case errors.Is(err, wire.ErrAway): // the leader holds
	case err != nil:
		return err
	case len(unsettled) == 0:
		c.note(first, end)
		return nil
	}
	r := c.newRequest(first, end)
	r.keep = keep
	return c.copyOut(r)
}

// note remembers that the chunks [first, end) are settled.
func (c *copier) note(first, end block.Chunk) {
	g := c.v.state.Load().Generation
	for ; first < end; first++ {
		c.v.settled.set(g, first)
	}
}

// ask appends the chunks of [first, end) that are not settled. It asks the server
// only where the settled map cannot tell: for a whole page of it, where it can keep
// the answer, and not at all for a generation that began while this origin was
// attached, because then only its own batches settle chunks.
func (c *copier) ask(first, end block.Chunk, dst []block.Chunk) ([]block.Chunk, error) {
	v := c.v
	state := v.state.Load()
	end = v.preserved(state, end)
	for first < end {
		pageEnd := min(end, (first|(settledPageChunks-1))+1)
		var known bool
		if dst, known = v.settled.unsettled(state.Generation, first, pageEnd, dst); !known {
			var err error
			if dst, err = c.askServer(first, pageEnd, dst); err != nil {
				return dst, err
			}
		}
		first = pageEnd
	}
	return dst, nil
}

// askServer appends the chunks of [first, end), of one page, that are not settled.
func (c *copier) askServer(first, end block.Chunk, dst []block.Chunk) ([]block.Chunk, error) {
	v := c.v
	state := v.state.Load()
	if !v.settled.lossless {
		return v.server.Unsettled(first, end, dst)
	}
	page := first &^ (settledPageChunks - 1)
	pageEnd := min(page+settledPageChunks, block.Chunk(v.geometry().Chunks()))
	v.settled.pageFor(state.Generation, page) // so that what is settled meanwhile is noted there
	list, err := v.server.Unsettled(page, pageEnd, nil)
	if err != nil {
		return dst, err
	}
	v.settled.learn(state.Generation, page, pageEnd, list)
	dst, _ = v.settled.unsettled(state.Generation, first, end, dst)
	return dst, nil
}

// enter takes committing, for a batch that is prepared. The error wraps
// [wire.ErrAway] if its slots are of a session that has ended, or if there is no
// room in the log and nobody to ask for a checkpoint; committing is not held then.
func (c *copier) enter(b *copylog.Batch) error {
	c.committing.Lock()
	err := c.mayCommit(len(b.Copies))
	if err != nil {
		c.committing.Unlock()
	}
	return err
}

func (c *copier) mayCommit(copies int) error {
	switch {
	case c.usable() != nil:
		return c.usable()
	case c.fresh != nil || c.doubtful:
		return wire.ErrAway
	case c.log.HasRoom(copies):
		return nil
	}
	released, err := c.v.server.Checkpoint()
	if err != nil {
		return fmt.Errorf("waiting for room in the log: %w", err)
	}
	c.log.Release(released)
	return nil
}

// hold waits for the server to come back, and takes over the new session's leases.
// The leader calls it.
func (c *copier) hold() error {
	c.committing.Lock()
	defer c.committing.Unlock()
	for c.fresh == nil && c.usable() == nil && !c.closed {
		c.resumed.Wait()
	}
	switch err := c.usable(); {
	case err != nil:
		return err
	case c.fresh == nil:
		return fmt.Errorf("copying out: the server is away: %w", device.ErrClosed)
	}
	c.leases = leases{heads: c.leases.heads, runs: c.fresh.Leases}
	c.fresh = nil
	c.stale.Store(false)
	return nil
}

// revoke forgets all leases. No write is under way.
func (c *copier) revoke() {
	c.committing.Lock()
	defer c.committing.Unlock()
	c.leases.runs = nil
	if c.fresh != nil {
		c.fresh.Leases = nil
	}
}

// giveUp ends what is held.
func (c *copier) giveUp() {
	c.committing.Lock()
	defer c.committing.Unlock()
	c.closed = true
	c.resumed.Broadcast()
}

// Resume goes on with a server that has come back; see [wire.Resumer]. Writes whose
// chunks are settled go on meanwhile. When the server does not take the origin back,
// nothing can be copied out any more.
func (v *Origin) Resume(again func(wire.Progress) (*wire.Session, error)) error {
	<-v.opened // a server may go away before the volume knows its session
	c := v.copier
	if c == nil {
		return fmt.Errorf("resuming an origin that could not be opened: %w", device.ErrClosed)
	}
	c.committing.Lock()
	defer c.committing.Unlock()
	if c.failed != nil {
		return c.failed
	}
	// From here on the server may have begun a session, whether its answer arrives or
	// not: then no slot of this one is this origin's any more, and its log has ended.
	c.doubtful = true
	c.stale.Store(true)
	// A Quiesce under way takes over a newer state, and may end at any time: then the
	// state is looked at after it.
	quiescing := v.quiescing.Load()
	state := v.state.Load()
	s, err := again(wire.Progress{UUID: c.uuid, Epoch: c.epoch, Generation: state.Generation, Position: c.end(), Failed: c.broken != nil})
	if err != nil {
		if !errors.Is(err, wire.ErrAway) {
			c.fail(fmt.Errorf("resuming: %w", err))
		}
		return err
	}
	// Writes under way were let go in the generation that this origin knows. Only a
	// Quiesce, which has ended them, can have begun another one.
	if s.State.Newest > state.Generation && !quiescing {
		c.fail(fmt.Errorf("resuming: %w: generation %d, here %d", errOtherHistory, s.State.Newest, state.Generation))
		return c.failed
	}
	c.log.Start(s.Epoch, s.Position)
	c.epoch, c.fresh, c.doubtful, c.broken = s.Epoch, s, false, nil
	if !quiescing {
		v.updateFrom(state, s.State)
	}
	c.resumed.Broadcast()
	v.restorer.comeBack()
	return nil
}

// fail ends copying out, for good. The caller holds committing.
func (c *copier) fail(err error) {
	c.failed = err
	c.resumed.Broadcast()
}
