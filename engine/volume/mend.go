// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"errors"
	"fmt"

	"zumastor.org/zumastor/engine/copylog"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/wire"
)

// A batch that could not be made durable breaks the log off: whether a recovery would
// find it nobody knows, and no later one may follow it. Who waits for it, or for one
// that was prepared meanwhile, lets go of the gate, has the server begin another session
// (mend), and begins anew: nothing that was known of what is under way is true any more.

// brokenLog is the error of a write whose batch could not be made durable.
type brokenLog struct{ error }

// Unwrap returns why.
func (e brokenLog) Unwrap() error { return e.error }

// isBroken reports whether a write is to wait for the log to go on, and then done anew.
func isBroken(err error) bool {
	_, is := errors.AsType[brokenLog](err)
	return is
}

var errBrokenOff = errors.New("a batch before could not be made durable")

// usable returns an error unless the log can be committed to, and every batch that the
// leader takes to be under way is durable. The caller holds committing.
func (c *copier) usable() error {
	switch {
	case c.failed != nil:
		return c.failed
	case c.broken != nil:
		return brokenLog{errors.New(c.broken.Reason)}
	case c.breaks != c.breaksBefore: // and the log goes on already
		return brokenLog{errBrokenOff}
	}
	return nil
}

// breakOff takes in that a batch, whose place in the log was at, could not be made
// durable. The caller holds committing.
func (c *copier) breakOff(b *copylog.Batch, at layout.Position, err error) error {
	err = fmt.Errorf("copying out: %w", err)
	var slots []layout.SlotRun
	if c.log.HeadSlots() > 0 {
		slots = append(slots, layout.SlotRun{First: b.Head, Len: 1})
	}
	for _, r := range b.Runs() {
		slots = append(slots, layout.SlotRun{First: r.Slot, Len: uint64(r.Len)})
	}
	c.broken = &wire.Failure{
		Progress: wire.Progress{UUID: c.uuid, Epoch: c.epoch, Generation: b.Generation, Position: at, Failed: true},
		Slots:    slots[:min(len(slots), wire.MaxRuns)],
		Reason:   err.Error(),
	}
	c.breaks++
	c.stale.Store(true)
	c.resumed.Broadcast()
	return brokenLog{err}
}

// end returns the position of the first batch that is not durable. The caller holds
// committing.
func (c *copier) end() layout.Position {
	if c.broken != nil {
		return c.broken.Position
	}
	return c.log.Position()
}

// mend returns when a log that was broken off goes on in another session, which one of
// those who wait for it asks the server for. The gate is not held. An error says that
// the write is to fail; the next one may ask again.
func (c *copier) mend() error {
	c.mending.Lock()
	defer c.mending.Unlock()
	f, err := c.failure()
	if f == nil || err != nil {
		return err
	}
	s, err := c.v.server.Renew(*f)
	c.committing.Lock()
	defer c.committing.Unlock()
	if errors.Is(err, wire.ErrAway) { // then it is resumed, which mends as well
		for c.broken == f && c.failed == nil && !c.closed {
			c.resumed.Wait()
		}
		err = nil
	}
	switch {
	case c.failed != nil:
		return c.failed
	case c.broken != f: // resumed
		return nil
	case err != nil:
		return err
	case s == nil:
		return fmt.Errorf("copying out: the server is away: %w", device.ErrClosed)
	}
	c.log.Start(s.Epoch, s.Position)
	c.epoch, c.fresh, c.broken = s.Epoch, s, nil
	c.resumed.Broadcast()
	return nil
}

// failure returns what the server is to be told, or nil if the log is not broken off.
func (c *copier) failure() (*wire.Failure, error) {
	c.committing.Lock()
	defer c.committing.Unlock()
	return c.broken, c.failed
}
