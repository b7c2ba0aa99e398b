// SPDX-License-Identifier: Apache-2.0

package client

import (
	"errors"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/wire"
)

// ask makes a call of the origin, which does not wait for a server that is away.
func (c *Client) ask(t wire.Type, add func(dst []byte) []byte, decode func(body []byte) error) error {
	cn, err := c.now()
	if err != nil {
		return err
	}
	if err := cn.call(t, add, decode); err != nil {
		return away(cn, err)
	}
	return nil
}

// Attach implements wire.Server. It waits for a server that is away, or that waits for
// other clients.
func (c *Client) Attach(origin wire.Client) (*wire.Session, error) {
	for {
		cn, err := c.present()
		if err != nil {
			return nil, err
		}
		var s *wire.Session
		err = cn.callThen(wire.TypeAttach, nil, func(body []byte) (err error) {
			if s, err = wire.DecodeSession(body); err == nil { // what the server says next may be for the origin
				c.mu.Lock()
				c.origin = origin
				c.mu.Unlock()
			}
			return err
		})
		if err == nil {
			return s, nil
		}
		if err = away(cn, err); !errors.Is(err, wire.ErrAway) {
			return nil, err
		}
		c.leave(cn)
	}
}

// Detach implements wire.Server. While the server is away it does nothing: the
// session ends when the client's lock is free.
func (c *Client) Detach() error {
	err := c.ask(wire.TypeDetach, nil, nil)
	c.mu.Lock()
	c.origin = nil
	c.mu.Unlock()
	if errors.Is(err, wire.ErrAway) {
		return nil
	}
	return err
}

// Lease implements wire.Server.
func (c *Client) Lease(want uint64) (runs []layout.SlotRun, err error) {
	err = c.ask(wire.TypeLease, func(dst []byte) []byte { return wire.AppendNumbers(dst, want) }, func(body []byte) (err error) {
		runs, err = wire.DecodeRuns(body, nil)
		return err
	})
	return runs, err
}

// AwaitSpace implements wire.Server.
func (c *Client) AwaitSpace(h wire.Handle) error {
	if h != 0 {
		return c.of(h, wire.TypeAwaitSpace, func(dst []byte, remote wire.Handle) []byte {
			return wire.AppendNumbers(dst, uint64(remote))
		}, nil)
	}
	return c.ask(wire.TypeAwaitSpace, func(dst []byte) []byte { return wire.AppendNumbers(dst, 0) }, nil)
}

// MapRestoring implements wire.Server.
func (c *Client) MapRestoring(g block.Generation, first, end block.Chunk, dst []wire.Mapping) ([]wire.Mapping, error) {
	for first < end {
		next := min(end, first+wire.MaxMappings)
		err := c.ask(wire.TypeMapRestoring, func(body []byte) []byte {
			return wire.AppendNumbers(body, uint64(g), uint64(first), uint64(next))
		}, func(body []byte) (err error) {
			dst, err = wire.DecodeMappings(body, first, next, dst)
			return err
		})
		if err != nil {
			return dst, err
		}
		first = next
	}
	return dst, nil
}

// Restored implements wire.Server.
func (c *Client) Restored(p wire.RestoreProgress) (next block.Chunk, err error) {
	var n uint64
	err = c.ask(wire.TypeRestored,
		func(dst []byte) []byte { return wire.AppendRestoreProgress(dst, p) },
		func(body []byte) error { return wire.DecodeNumbers(body, &n) })
	return block.Chunk(n), err
}

// Report implements wire.Server. It returns when the report is queued for the server,
// whose snapshot readers then find it; see PROTOCOL.md. While the server is away it
// does nothing: the server reads the log.
func (c *Client) Report(b wire.Batch) (layout.Position, error) {
	c.mu.Lock()
	cn, released := c.conn, c.released
	c.mu.Unlock()
	if cn != nil {
		_ = cn.send(wire.TypeReport, 0, 0, func(dst []byte) []byte { return wire.AppendReport(dst, b) })
	}
	return released, nil
}

// Renew implements wire.Server.
func (c *Client) Renew(f wire.Failure) (s *wire.Session, err error) {
	cn, err := c.now()
	if err != nil {
		return nil, err
	}
	err = cn.callThen(wire.TypeRenew,
		func(dst []byte) []byte { return wire.AppendFailure(dst, f) },
		func(body []byte) (err error) {
			s, err = wire.DecodeSession(body)
			return err
		})
	if err != nil {
		return nil, away(cn, err)
	}
	c.mu.Lock()
	c.released = s.Position
	c.mu.Unlock()
	return s, nil
}

// Checkpoint implements wire.Server.
func (c *Client) Checkpoint() (p layout.Position, err error) {
	err = c.ask(wire.TypeCheckpoint, nil, func(body []byte) (err error) {
		p, err = wire.DecodePosition(body)
		return err
	})
	if err == nil {
		c.mu.Lock()
		c.released = p
		c.mu.Unlock()
	}
	return p, err
}

// Unsettled implements wire.Server.
func (c *Client) Unsettled(first, end block.Chunk, dst []block.Chunk) ([]block.Chunk, error) {
	for first < end {
		next := min(end, first+wire.MaxUnsettled)
		err := c.ask(wire.TypeUnsettled, func(body []byte) []byte {
			return wire.AppendNumbers(body, uint64(first), uint64(next))
		}, func(body []byte) (err error) {
			dst, err = wire.DecodeBitmap(body, first, next, dst)
			return err
		})
		if err != nil {
			return dst, err
		}
		first = next
	}
	return dst, nil
}
