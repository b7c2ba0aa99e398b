// SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"bytes"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/server"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/wire"
)

// mortal is a server that dies and is followed by another one.
type mortal struct {
	mu    sync.RWMutex
	alive wire.Server // nil: dead
	asked atomic.Int64
	read  chan struct{} // has a token when the origin was read
	wire.Server
}

// heard is a device that tells of reads.
type heard struct {
	device.Device
	read chan struct{}
}

func (h heard) ReadAt(p []byte, off int64) (int, error) {
	select {
	case h.read <- struct{}{}:
	default:
	}
	return h.Device.ReadAt(p, off)
}

// now returns the server, which does not die before done is called: a dead one does
// nothing any more, and so must not be within a call.
func (m *mortal) now() (s wire.Server, done func(), err error) {
	m.mu.RLock()
	if m.alive == nil {
		m.mu.RUnlock()
		return nil, nil, wire.ErrAway
	}
	return m.alive, m.mu.RUnlock, nil
}

func (m *mortal) set(s wire.Server) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.alive = s; s != nil {
		m.Server = s // for snapshots, which the test reads when it has set it
	}
}

func (m *mortal) Lease(want uint64) ([]layout.SlotRun, error) {
	s, done, err := m.now()
	if err != nil {
		return nil, err
	}
	defer done()
	return s.Lease(want)
}

func (m *mortal) Report(b wire.Batch) (layout.Position, error) {
	s, done, err := m.now()
	if err != nil { // the log has it
		return layout.Position{}, nil
	}
	defer done()
	return s.Report(b)
}

func (m *mortal) Checkpoint() (layout.Position, error) {
	s, done, err := m.now()
	if err != nil {
		return layout.Position{}, err
	}
	defer done()
	return s.Checkpoint()
}

func (m *mortal) Unsettled(first, end block.Chunk, dst []block.Chunk) ([]block.Chunk, error) {
	m.asked.Add(1)
	s, done, err := m.now()
	if err != nil {
		return nil, err
	}
	defer done()
	return s.Unsettled(first, end, dst)
}

func (m *mortal) AwaitSpace(h wire.Handle) error {
	s, done, err := m.now()
	if err != nil {
		return err
	}
	defer done()
	return s.AwaitSpace(h)
}

func (m *mortal) Detach() error {
	s, done, err := m.now()
	if err != nil { // its successor finds the client gone
		return nil
	}
	defer done()
	return s.Detach()
}

// dying returns a volume whose server can die, with a snapshot.
func dying(t *testing.T, o rig.Options) (*rig.Rig, *mortal) {
	m := &mortal{read: make(chan struct{}, 1)}
	r := open(t, o, rig.Wrappers{
		Server: func(s wire.Server) wire.Server {
			m.alive, m.Server = s, s
			return m
		},
		Device: func(name string, d device.Device) device.Device {
			if name == rig.Origin {
				return heard{d, m.read}
			}
			return d
		},
	})
	for at := int64(0); at < o.OriginSize; at += 64 << 10 {
		_, err := r.Volume.WriteAt(bytes.Repeat([]byte{1}, int(min(64<<10, o.OriginSize-at))), at)
		require.NoError(t, err)
	}
	_, err := r.Server.CreateSnapshot(1)
	require.NoError(t, err)
	return r, m
}

// succeed opens the store for the volume that has lost its server.
func succeed(t *testing.T, r *rig.Rig, m *mortal) {
	next, err := server.Open(r.Devices, server.Options{Manual: true, Store: store.Options{Await: true}})
	require.NoError(t, err)
	require.True(t, next.Awaiting())
	_, err = next.CreateSnapshot(99)
	require.ErrorIs(t, err, wire.ErrAway)
	_, err = next.Store.Lease(1)
	require.ErrorIs(t, err, wire.ErrAway)
	require.NoError(t, r.Volume.Resume(func(p wire.Progress) (*wire.Session, error) {
		s, err := next.Resume(r.Volume, p)
		m.set(next) // what is committed in the new session must be reported to it
		return s, err
	}))
	r.Server = next
}

// A client that is a batch behind the log is refused, unless it says that this batch
// failed.
func TestClientBehindItsLogIsRefused(t *testing.T) {
	r, m := dying(t, small(layout.PlacementInline))
	_, err := r.Volume.WriteAt([]byte{511: 2}, 0)
	require.NoError(t, err)
	m.set(nil)
	_, err = r.Volume.WriteAt([]byte{511: 2}, 512<<10) // a batch that nobody hears of
	require.NoError(t, err)
	next, err := server.Open(r.Devices, server.Options{Manual: true, Store: store.Options{Await: true}})
	require.NoError(t, err)
	require.NoError(t, r.Volume.Resume(func(p wire.Progress) (*wire.Session, error) {
		require.False(t, p.Failed)
		for _, failed := range []bool{false, true} {
			behind := p
			behind.Position.Seq, behind.Failed = p.Position.Seq-2, failed
			_, err := next.Resume(r.Volume, behind)
			require.ErrorIs(t, err, store.ErrStale, "two batches")
		}
		behind := p
		behind.Position.Seq--
		_, err := next.Resume(r.Volume, behind)
		require.ErrorIs(t, err, store.ErrStale, "one batch, which was written as far as it knows")
		s, err := next.Resume(r.Volume, p)
		m.set(next)
		return s, err
	}))
	r.Server = next
	requireAll(t, 1, read(t, r))
}

// read returns all of snapshot 1.
func read(t *testing.T, r *rig.Rig) []byte {
	p, err := r.ReadSnapshot(1, 0, r.OriginSize)
	require.NoError(t, err)
	return p
}

// TestServerDiesAndAnotherGoesOn has the server die again and again while the origin
// is written to. No write fails, and the snapshot stays as it was.
func TestServerDiesAndAnotherGoesOn(t *testing.T) {
	for _, p := range []layout.Placement{layout.PlacementInline, layout.PlacementDisk, layout.PlacementNVRAM} {
		t.Run(p.String(), func(t *testing.T) {
			o := small(p)
			o.AheadBytes, o.LeaseBytes, o.StoreLeaseBytes = -1, 32<<10, 32<<10
			r, m := dying(t, o)
			var writers sync.WaitGroup
			errs := make(chan error, 4)
			for w := range int64(4) {
				writers.Go(func() {
					for at := w * 4096; at < o.OriginSize; at += 4 * 4096 {
						if _, err := r.Volume.WriteAt(bytes.Repeat([]byte{2}, int(min(4096, o.OriginSize-at))), at); err != nil {
							errs <- err
							return
						}
					}
				})
			}
			for range 5 {
				m.set(nil)
				succeed(t, r, m)
			}
			writers.Wait()
			select {
			case err := <-errs:
				require.NoError(t, err)
			default:
			}
			got, err := r.ReadSnapshot(1, 0, o.OriginSize)
			require.NoError(t, err)
			requireAll(t, 1, got)
			got, err = r.ReadOrigin()
			require.NoError(t, err)
			requireAll(t, 2, got)
			_, err = r.Server.CreateSnapshot(2)
			require.NoError(t, err)
			_, err = r.Volume.WriteAt(make([]byte, 4096), 0)
			require.NoError(t, err)
		})
	}
}

// requireAll checks that every byte is x.
func requireAll(t *testing.T, x byte, got []byte) {
	t.Helper()
	for at, b := range got {
		if b != x {
			t.Fatalf("byte %d is %d, not %d", at, b, x)
		}
	}
}

// TestNothingIsHeldThatNeedsNoCopy: with a dead server, settled chunks are written
// and leases used up; then writes wait, and fail when the origin is closed.
func TestNothingIsHeldThatNeedsNoCopy(t *testing.T) {
	o := small(layout.PlacementInline)
	o.AheadBytes = -1
	r, m := dying(t, o)
	write := func(chunk int64) error {
		_, err := r.Volume.WriteAt(make([]byte, 4096), chunk*int64(o.ChunkSize))
		return err
	}
	require.NoError(t, write(0))
	m.set(nil)
	require.NoError(t, write(0), "settled")
	require.NoError(t, write(1), "leases last")
	done := make(chan error)
	go func() {
		var err error
		for c := int64(2); c < o.OriginSize/int64(o.ChunkSize) && err == nil; c++ {
			err = write(c)
		}
		done <- err
	}()
	require.NoError(t, r.Volume.Close())
	require.ErrorIs(t, <-done, device.ErrClosed)
	r.Volume = nil
	m.set(r.Server)
	require.NoError(t, r.Server.Abandon())
	got, err := r.ReadSnapshot(1, 0, o.OriginSize)
	require.NoError(t, err)
	requireAll(t, 1, got)
}

// TestNoQuestionsAboutOwnGenerations: what this origin has not settled itself, in a
// generation that began while it was attached, is not settled; of an older one it
// asks once for all chunks of a page.
func TestNoQuestionsAboutOwnGenerations(t *testing.T) {
	o := small(layout.PlacementInline)
	r, m := dying(t, o)
	write := func() {
		for c := range o.OriginSize / int64(o.ChunkSize) {
			_, err := r.Volume.WriteAt(make([]byte, 512), c*int64(o.ChunkSize))
			require.NoError(t, err, fmt.Sprint(c))
		}
	}
	half := func() {
		_, err := r.Volume.WriteAt(make([]byte, 1<<19), 0)
		require.NoError(t, err)
	}
	half()
	require.Zero(t, m.asked.Load())
	before := r.Server.Status().Exceptions
	require.NoError(t, r.Close())
	require.NoError(t, r.Open())
	write()
	require.Equal(t, int64(1), m.asked.Load(), "one page")
	require.GreaterOrEqual(t, r.Server.Status().Exceptions, before)
	got, err := r.ReadSnapshot(1, 0, o.OriginSize)
	require.NoError(t, err)
	requireAll(t, 1, got)
}

// TestNothingIsWrittenWhileTheAnswerIsOpen: a server that was told where the log ends
// may have begun the next session, and have ended before it could say so. Until one
// answers, nothing goes into the slots and the log of the old session.
func TestNothingIsWrittenWhileTheAnswerIsOpen(t *testing.T) {
	o := small(layout.PlacementInline)
	o.AheadBytes = -1
	r, m := dying(t, o)
	m.set(nil)
	second, err := server.Open(r.Devices, server.Options{Manual: true, Store: store.Options{Await: true}})
	require.NoError(t, err)
	var told wire.Progress
	err = r.Volume.Resume(func(p wire.Progress) (*wire.Session, error) {
		told = p
		_, err := second.Resume(r.Volume, p)
		require.NoError(t, err)
		return nil, wire.ErrAway
	})
	require.ErrorIs(t, err, wire.ErrAway)
	wrote := make(chan error, 1)
	go func() { // there are leases, but of which session?
		_, err := r.Volume.WriteAt(make([]byte, 4096), 0)
		wrote <- err
	}()
	<-m.read // what is to be copied out
	err = r.Volume.Resume(func(p wire.Progress) (*wire.Session, error) {
		require.Equal(t, told, p)
		return nil, wire.ErrAway
	})
	require.ErrorIs(t, err, wire.ErrAway)
	// The same server hears of it again, and then the origin goes on.
	require.NoError(t, r.Volume.Resume(func(p wire.Progress) (*wire.Session, error) {
		require.Equal(t, told, p)
		s, err := second.Resume(r.Volume, p)
		m.set(second)
		return s, err
	}))
	require.NoError(t, <-wrote)
	r.Server = second
	got, err := r.ReadSnapshot(1, 0, o.OriginSize)
	require.NoError(t, err)
	requireAll(t, 1, got)
}
