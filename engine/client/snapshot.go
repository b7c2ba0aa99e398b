// SPDX-License-Identifier: Apache-2.0

package client

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/wire"
)

// OpenSnapshot implements wire.Server. It waits for a server that is away.
func (c *Client) OpenSnapshot(ref wire.SnapshotRef, write bool, client wire.SnapshotClient) (*wire.SnapshotSession, error) {
	c.mu.Lock()
	c.last++
	h := c.last
	c.mu.Unlock()
	for {
		cn, err := c.present()
		if err != nil {
			return nil, err
		}
		session, err := c.open(cn, h, &snapshot{ref: ref, write: write, client: client})
		if err == nil {
			session.Handle = h
			return session, nil
		}
		if !errors.Is(err, wire.ErrAway) {
			return nil, err
		}
		c.leave(cn)
	}
}

// open opens a snapshot, for the first time or again, and tells the server of the
// chunks that it may have forgotten.
func (c *Client) open(cn *conn, h wire.Handle, s *snapshot) (*wire.SnapshotSession, error) {
	session, err := cn.openSnapshot(s.ref, s.write, func(session *wire.SnapshotSession) {
		cn.mu.Lock()
		cn.local[session.Handle] = h
		cn.mu.Unlock()
		c.mu.Lock()
		defer c.mu.Unlock()
		s.remote, s.size = session.Handle, session.State.Size
		c.snaps[h] = s
	})
	if err == nil {
		err = c.remind(cn, s)
	}
	if err != nil {
		return nil, away(cn, err)
	}
	return session, nil
}

// leave waits until there may be another connection than one that has ended, or a
// while if it has not: then the server waits for the origin's client.
func (c *Client) leave(cn *conn) {
	if cn.alive() {
		select {
		case <-cn.ended:
		case <-time.After(leastPause):
		}
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.conn == cn && !c.closed {
		c.changed.Wait()
	}
}

// CloseSnapshot implements wire.Server.
func (c *Client) CloseSnapshot(h wire.Handle) error {
	c.mu.Lock()
	s := c.snaps[h]
	delete(c.snaps, h)
	cn := c.conn
	c.mu.Unlock()
	if s == nil {
		return fmt.Errorf("%w: no snapshot is open as %d", store.ErrStale, h)
	}
	if cn == nil || s.lost != nil {
		return nil // the server does not know of it
	}
	err := cn.call(wire.TypeCloseSnapshot, func(dst []byte) []byte { return wire.AppendNumbers(dst, uint64(s.remote)) }, nil)
	if err != nil && !cn.alive() {
		return nil
	}
	return err
}

// of makes a call about an open snapshot. While the server is away, it returns an
// error that wraps [wire.ErrAway]: the snapshot is opened again before it can be asked
// about, and not before what asks has ended.
func (c *Client) of(h wire.Handle, t wire.Type, add func(dst []byte, remote wire.Handle) []byte, decode func(body []byte) error) error {
	cn, err := c.now()
	if err != nil {
		return err
	}
	s, remote, err := c.snapshot(h)
	if err != nil {
		return err
	}
	if err := cn.call(t, func(dst []byte) []byte { return add(dst, remote) }, decode); err != nil {
		return fmt.Errorf("snapshot %s: %w", s.name(), away(cn, err))
	}
	return nil
}

func (s *snapshot) name() string {
	if s.ref.Name != "" {
		return strconv.Quote(s.ref.Name)
	}
	return strconv.FormatUint(uint64(s.ref.Tag), 10)
}

// snapshot returns an open snapshot.
func (c *Client) snapshot(h wire.Handle) (s *snapshot, remote wire.Handle, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch s = c.snaps[h]; {
	case s == nil:
		return nil, 0, fmt.Errorf("%w: no snapshot is open as %d", store.ErrStale, h)
	case s.lost != nil:
		return nil, 0, s.lost
	}
	return s, s.remote, nil
}

// Map implements wire.Server.
func (c *Client) Map(h wire.Handle, first, end block.Chunk, dst []wire.Mapping) ([]wire.Mapping, error) {
	for first < end {
		had := len(dst)
		next := min(end, first+wire.MaxMappings)
		err := c.of(h, wire.TypeMap, func(body []byte, remote wire.Handle) []byte {
			return wire.AppendNumbers(body, uint64(remote), uint64(first), uint64(next))
		}, func(body []byte) (err error) {
			dst, err = wire.DecodeMappings(body, first, next, dst)
			return err
		})
		if err != nil {
			return dst, err
		}
		c.learn(h, dst[had:])
		first = next
	}
	return dst, nil
}

// LeaseBranch implements wire.Server.
func (c *Client) LeaseBranch(h wire.Handle, want uint64) (runs []layout.SlotRun, err error) {
	err = c.of(h, wire.TypeLeaseBranch, func(dst []byte, remote wire.Handle) []byte {
		return wire.AppendNumbers(dst, uint64(remote), want)
	}, func(body []byte) (err error) {
		runs, err = wire.DecodeRuns(body, nil)
		return err
	})
	return runs, err
}
