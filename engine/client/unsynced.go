// SPDX-License-Identifier: Apache-2.0

package client

import (
	"errors"
	"slices"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/wire"
)

// written is a chunk of a snapshot whose report was sent, and which was not synced
// since.
type written struct {
	layout.Copy
	generation block.Generation
	// unsure says that the connection ended before the reply: the server may have taken
	// the report in, or not. The write is not done before the server was asked.
	unsure bool
}

// ReportBranch implements wire.Server. After an error that wraps [wire.ErrAway] the
// server may have taken the report in: the next Map says.
func (c *Client) ReportBranch(h wire.Handle, g block.Generation, copies []layout.Copy) error {
	err := c.of(h, wire.TypeReportBranch, func(dst []byte, remote wire.Handle) []byte {
		return wire.AppendWritten(dst, remote, g, copies)
	}, nil)
	unsure := errors.Is(err, wire.ErrAway)
	if err != nil && !unsure {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.snaps[h]
	if s == nil {
		return err
	}
	for _, copied := range copies {
		s.unsynced = append(s.unsynced, written{copied, g, unsure})
	}
	if unsure {
		s.unsure += len(copies)
	}
	return err
}

// learn takes in where chunks of a snapshot are, as the server says: what it knows of a
// report that it did not answer, it might forget like all others.
func (c *Client) learn(h wire.Handle, list []wire.Mapping) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.snaps[h]
	if s == nil || s.unsure == 0 {
		return
	}
	for i := range s.unsynced {
		if w := &s.unsynced[i]; w.unsure && slices.ContainsFunc(list, w.isIn) {
			w.unsure = false
			s.unsure--
		}
	}
}

// isIn reports whether the mapping has the chunk in the slot that it was reported in.
func (w *written) isIn(m wire.Mapping) bool {
	return m.Kind == wire.Stored && m.Chunk <= w.Chunk && uint64(w.Chunk-m.Chunk) < m.Len &&
		m.Slot+block.Slot(w.Chunk-m.Chunk) == w.Slot
}

// remind tells the server where the chunks are that it may have forgotten, one message
// for those of each generation, in their order. It does not say so of a report of which
// it is unsure: a server that did not take it in may have given the slots to others, and
// the write will be done again.
func (c *Client) remind(cn *conn, s *snapshot) error {
	c.mu.Lock()
	list := slices.DeleteFunc(slices.Clone(s.unsynced), func(w written) bool { return w.unsure })
	c.mu.Unlock()
	for len(list) > 0 {
		var copies []layout.Copy
		g := list[0].generation
		for len(list) > 0 && list[0].generation == g {
			copies = append(copies, list[0].Copy)
			list = list[1:]
		}
		err := cn.call(wire.TypeRestoreBranch, func(dst []byte) []byte {
			return wire.AppendWritten(dst, s.remote, g, layout.LastOfEach(copies))
		}, nil)
		if err != nil {
			return err
		}
	}
	return nil
}

// SyncBranch implements wire.Server.
func (c *Client) SyncBranch(h wire.Handle) error {
	s, _, err := c.snapshot(h)
	if err != nil {
		return err
	}
	c.mu.Lock()
	n := len(s.unsynced)
	c.mu.Unlock()
	err = c.of(h, wire.TypeSyncBranch, func(dst []byte, remote wire.Handle) []byte {
		return wire.AppendNumbers(dst, uint64(remote))
	}, nil)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range s.unsynced[:n] {
		if w.unsure { // it is durable, or was never taken in
			s.unsure--
		}
	}
	s.unsynced = slices.Delete(s.unsynced, 0, n)
	return nil
}
