// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/client"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
	"zumastor.org/zumastor/engine/wire"
)

// lossy makes connections of which one ends when the reply to a message of some type
// has come, and before the client sees that reply.
type lossy struct {
	path   string
	loses  atomic.Int32  // the type of the next message whose reply is lost; 0: none
	again  chan struct{} // closed when a connection may be made after that
	lost   chan struct{} // closed when the reply is lost
	cutOff atomic.Bool
	before func() // is called before that message is sent
}

func newLossy(b *bed) *lossy {
	return &lossy{before: func() {}, path: b.path, again: make(chan struct{}), lost: make(chan struct{})}
}

func (l *lossy) connect(ctx context.Context) (client.Transport, error) {
	if l.cutOff.Load() {
		select {
		case <-l.again:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	nc, err := new(net.Dialer).DialContext(ctx, "unix", l.path)
	return &lossyConn{Conn: nc, l: l}, err
}

type lossyConn struct {
	net.Conn
	l    *lossy
	ends atomic.Bool // with the next thing that it reads
	half atomic.Bool // it has ended so, and the server does not know
}

func (c *lossyConn) Close() error {
	if c.half.Load() {
		return nil
	}
	return c.Conn.Close()
}

func (c *lossyConn) Write(p []byte) (int, error) {
	if t := int32(binary.LittleEndian.Uint16(p[4:])); t != 0 && c.l.loses.CompareAndSwap(t, 0) {
		c.l.before()
		c.ends.Store(true)
	}
	return c.Conn.Write(p)
}

func (c *lossyConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.ends.CompareAndSwap(true, false) {
		c.half.Store(true)
		c.l.cutOff.Store(true)
		close(c.l.lost)
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

// writeLosing writes a chunk to a snapshot, and has the reply to its report be lost. It
// calls meanwhile while the client is away.
func (l *lossy) writeLosing(t *testing.T, snap *volume.Snapshot, x byte, meanwhile func()) {
	l.loses.Store(int32(wire.TypeReportBranch))
	done := make(chan error, 1)
	go func() {
		_, err := snap.WriteAt(fill(make([]byte, chunkSize), x), 0)
		done <- err
	}()
	select {
	case <-l.lost:
	case err := <-done:
		require.Fail(t, "it is done without a report", "error: %v", err)
	}
	meanwhile()
	close(l.again)
	require.NoError(t, <-done)
}

// opened returns snapshot 1, which is written to by a lossy client.
func (l *lossy) opened(b *bed) (*client.Client, *volume.Snapshot) {
	c := b.dialWith(client.Options{Connect: l.connect})
	snap, err := volume.OpenSnapshotRef(b.source(c), wire.SnapshotRef{Tag: 1}, true)
	require.NoError(b.t, err)
	return c, snap
}

// A chunk whose report the server took in, though its client never heard of that,
// outlives the server.
func TestLostReplyToAReport(t *testing.T) {
	b := newBed(t)
	b.alive.Store(true)
	_, err := b.server.CreateSnapshot(1)
	require.NoError(t, err)
	origin := b.openOrigin(b.dial())
	l := newLossy(b)
	_, snap := l.opened(b)
	l.writeLosing(t, snap, 7, func() {})
	b.kill()
	b.start(true)
	require.NoError(t, origin.Flush())
	require.Equal(t, fill(make([]byte, chunkSize), 7), all(t, snap)[:chunkSize])
	require.NoError(t, snap.Close())
	require.NoError(t, origin.Close())
}

// Such a chunk is durable with the next flush.
func TestFlushAfterALostReply(t *testing.T) {
	b := newBed(t)
	b.alive.Store(true)
	_, err := b.server.CreateSnapshot(1)
	require.NoError(t, err)
	l := newLossy(b)
	c, snap := l.opened(b)
	l.writeLosing(t, snap, 7, func() {})
	require.NoError(t, snap.Flush())
	require.NoError(t, c.Close()) // as if it died
	b.kill()
	b.alive.Store(false)
	b.start(false)
	reader, err := volume.OpenSnapshot(b.source(b.server), 1)
	require.NoError(t, err)
	require.Equal(t, fill(make([]byte, chunkSize), 7), all(t, reader)[:chunkSize])
	require.NoError(t, reader.Close())
}

// The slot of a chunk is freed by a report whose reply is lost, and leased to another:
// its client, which knows the chunk in that slot, opens the snapshot again all the same.
func TestLostReplyToAReportThatFreesASlot(t *testing.T) {
	b := newBed(t)
	b.alive.Store(true)
	_, err := b.server.CreateSnapshot(1)
	require.NoError(t, err)
	l := newLossy(b)
	_, snap := l.opened(b)
	_, err = snap.WriteAt(fill(make([]byte, chunkSize), 6), 0)
	require.NoError(t, err)
	_, err = b.server.Create(store.NewSnapshot{Tag: 2, Parent: &wire.SnapshotRef{Tag: 1}})
	require.NoError(t, err)
	l.before = func() { // the client has been told that snapshot 2 needs the slot
		assert.NoError(t, b.server.DeleteSnapshot(2))
		for more := true; more; {
			var err error
			more, err = b.server.Maintain()
			assert.NoError(t, err)
		}
	}
	l.writeLosing(t, snap, 7, func() {
		_, err = b.server.Checkpoint()
		require.NoError(t, err)
		_, err := b.server.Attach(idleOrigin{})
		require.NoError(t, err)
		for err == nil {
			_, err = b.server.Lease(1 << 20) // all that is free
		}
	})
	require.Equal(t, fill(make([]byte, chunkSize), 7), all(t, snap)[:chunkSize])
	require.NoError(t, snap.Close())
}

// idleOrigin is the client of an origin on which nothing is under way.
type idleOrigin struct{}

func (idleOrigin) Quiesce(change func() (wire.State, error)) error { _, err := change(); return err }
func (idleOrigin) Update(wire.State)                               {}
func (idleOrigin) Settle(_, _ block.Chunk) error                   { return nil }
