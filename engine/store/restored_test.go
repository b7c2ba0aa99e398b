// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/check"
	"zumastor.org/zumastor/engine/check/checktest"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/wire"
)

// amid is a device that calls something before its n-th read.
type amid struct {
	device.Device
	n    int
	call func()
}

func (d *amid) ReadAt(p []byte, off int64) (int, error) {
	if d.n--; d.n == 0 {
		d.call()
	}
	return d.Device.ReadAt(p, off)
}

// killedAmidWrites returns what a server leaves that is killed: snapshot 1 has so many
// chunks of its own that its trees have many pages, and its client has written a few more
// that the server knew of alone.
func killedAmidWrites(t *testing.T) (*memdev.Device, []layout.Copy) {
	devs := placement.Devices{Store: memdev.New(64 << 20)}
	_, err := store.Format(devs, store.FormatOptions{OriginSize: 1 << 30, ChunkSize: 4 << 10})
	require.NoError(t, err)
	s, err := store.Open(devs, store.Options{})
	require.NoError(t, err)
	_, err = s.CreateSnapshot(1)
	require.NoError(t, err)
	session, err := s.OpenSnapshot(wire.SnapshotRef{Tag: 1}, true, &deaf{})
	require.NoError(t, err)
	next := block.Chunk(0)
	write := func(n uint64) (copies []layout.Copy) {
		runs, err := s.LeaseBranch(session.Handle, n)
		require.NoError(t, err)
		for i := range block.Slot(runs[0].Len) {
			copies = append(copies, layout.Copy{Chunk: next, Slot: runs[0].First + i})
			next += 3 // no two of them are a run
		}
		return copies
	}
	for next < 9000 {
		require.NoError(t, s.ReportBranch(session.Handle, session.State.Generation, write(100)))
	}
	require.NoError(t, s.SyncBranch(session.Handle))
	unsynced := write(2)
	unsynced[0].Chunk = 4 // among the others
	require.NoError(t, s.Checkpoint())
	require.NoError(t, s.ReportBranch(session.Handle, session.State.Generation, unsynced))
	return devs.Store.(*memdev.Device), unsynced
}

// A client opens its snapshot again after the server was killed, and the snapshot is
// squashed meanwhile, at any of the moments at which the store reads a page: no slot is
// left behind.
func TestSquashAmidRestoreBranch(t *testing.T) {
	left, unsynced := killedAmidWrites(t)
	for n := 1; ; n++ {
		mem := left.Clone()
		d := &amid{Device: mem}
		s, err := store.Open(placement.Devices{Store: d}, store.Options{CacheBytes: 1, ClientWait: time.Millisecond})
		require.NoError(t, err)
		client := &deaf{answer: make(chan struct{})}
		session, err := s.OpenSnapshot(wire.SnapshotRef{Tag: 1}, true, client)
		require.NoError(t, err)
		amidst := false
		d.n, d.call = n, func() {
			amidst, err = s.DropNext()
			require.NoError(t, err)
		}
		restored := s.RestoreBranch(session.Handle, session.State.Generation, unsynced)
		d.n = 0
		close(client.answer)
		if !amidst {
			require.NoError(t, restored)
			require.Greater(t, n, 3, "it reads pages")
			break
		}
		require.NoError(t, s.CloseSnapshot(session.Handle))
		for more := true; more; {
			more, err = s.Maintain()
			require.NoError(t, err)
		}
		require.NoError(t, s.Close())
		checktest.MustBeClean(t, check.Devices{Store: mem})
	}
}
