// SPDX-License-Identifier: Apache-2.0

//go:build !race

// With the race detector, a sync.Pool forgets at random what was put into it.

package client_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/client"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/wire"
)

// idleSnapshot is the client of a snapshot on which nothing is under way.
type idleSnapshot struct{}

func (idleSnapshot) Quiesce(change func() (wire.SnapshotState, error)) error {
	_, err := change()
	return err
}

// perMessage returns how many allocations each message of the data path takes, in all
// of the process: the server's own work is in it.
func perMessage(t *testing.T, s wire.Server) map[string]float64 {
	session, err := s.Attach(idleOrigin{})
	require.NoError(t, err)
	snap, err := s.OpenSnapshot(wire.SnapshotRef{Tag: 1}, true, idleSnapshot{})
	require.NoError(t, err)
	const chunks = originSize / chunkSize
	position, head := session.Position, session.Leases[0].First
	var failure error
	note := func(err error) {
		if err != nil {
			failure = err
		}
	}
	count := map[string]float64{}
	measure := func(name string, f func()) {
		count[name] = testing.AllocsPerRun(50, f) // leases that are not used are limited
		require.NoError(t, failure, name)
	}
	maps := make([]wire.Mapping, 0, chunks)
	measure("map", func() {
		_, err := s.Map(snap.Handle, 0, chunks, maps[:0])
		note(err)
	})
	list := make([]block.Chunk, 0, chunks)
	measure("unsettled", func() {
		_, err := s.Unsettled(0, chunks, list[:0])
		note(err)
	})
	measure("lease", func() {
		_, err := s.Lease(1)
		note(err)
	})
	// Each batch copies all chunks, the first in slots that were leased for all.
	batch := &layout.Batch{Generation: session.State.Generation, Copies: make([]layout.Copy, chunks)}
	measure("report", func() {
		runs, err := s.Lease(chunks + 1)
		note(err)
		for i := range batch.Copies {
			batch.Copies[i] = layout.Copy{Chunk: block.Chunk(i), Slot: runs[0].First + block.Slot(i)}
		}
		next := runs[0].First + chunks // the slot of the next descriptor
		position = layout.Position{Place: uint64(next), Seq: position.Seq + 1}
		_, err = s.Report(wire.Batch{Batch: batch, Head: head, HasHead: true, Position: position})
		note(err)
		head = next
	})
	count["report"] -= count["lease"]
	require.NoError(t, s.CloseSnapshot(snap.Handle))
	require.NoError(t, s.Detach())
	return count
}

// A message of the data path allocates no more over a socket than with the embedded
// server; but for the runs of a lease, which the server's end has and who asked keeps.
func TestAllocationsPerMessage(t *testing.T) {
	near, far := newBed(t), newBed(t)
	for _, b := range []*bed{near, far} {
		_, err := b.server.CreateSnapshot(1)
		require.NoError(t, err)
	}
	most := perMessage(t, near.server)
	most["lease"]++
	for name, n := range perMessage(t, far.dial()) {
		require.LessOrEqual(t, n, most[name], name)
	}
}

// counted is a connection that counts the messages of its client.
type counted struct {
	net.Conn
	writes *atomic.Int64
}

func (c counted) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// A rewrite of settled chunks sends the server no message, and allocates nothing.
func TestRewriteNeedsNoMessage(t *testing.T) {
	b := newBed(t)
	var sent atomic.Int64
	c := b.dialWith(client.Options{Connect: func(ctx context.Context) (client.Transport, error) {
		nc, err := new(net.Dialer).DialContext(ctx, "unix", b.path)
		return counted{nc, &sent}, err
	}})
	v := b.openOrigin(c)
	_, err := b.server.CreateSnapshot(1)
	require.NoError(t, err)
	p := device.Buffer(32 << 10)
	write := func() {
		if _, err := v.WriteAt(p, 8<<10); err != nil {
			t.Error(err)
		}
	}
	write()
	before := sent.Load()
	require.Positive(t, before)
	allocated := testing.AllocsPerRun(100, write)
	require.Equal(t, before, sent.Load(), "messages sent")
	require.Zero(t, allocated)
	require.NoError(t, v.Close())
}
