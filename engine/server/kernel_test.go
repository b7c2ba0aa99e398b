// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/ring"
	"zumastor.org/zumastor/engine/server"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
	"zumastor.org/zumastor/engine/wire"
	"zumastor.org/zumastor/engine/wire/fault"
)

// kernel is a server with a listener, of which the test is the kernel's end.
type kernel struct {
	*server.Server
	listener *server.Listener
	path     string
	ends     chan *ring.Conn
	lives    atomic.Bool // whether the kernel has the origin
	devices  placement.Devices
	origin   kept
}

// kept is a device that closing does nothing to.
type kept struct{ device.Device }

func (kept) Close() error { return nil }

func newKernel(t *testing.T) *kernel {
	d, _ := format(t)
	s, err := server.Open(d, server.Options{})
	require.NoError(t, err)
	k := &kernel{
		Server: s, path: filepath.Join(t.TempDir(), "s"), ends: make(chan *ring.Conn, 1), devices: d, origin: kept{memdev.New(originSize)},
	}
	k.listener = s.Listen(server.ListenOptions{Alive: func(lock uint32) bool {
		return k.lives.Load() && (lock == server.KernelLock || lock == server.KernelOrigin)
	}, Store: d.Store, Origin: func() (server.OriginDevice, error) { return k.origin, nil }})
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: k.path, Net: "unix"})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- k.listener.Serve(ctx, ln) }()
	go func() {
		k.listener.ServeKernel(ctx, func() (server.Transport, error) {
			here, there, err := ring.Pair(1<<20, 1<<20)
			if err == nil {
				k.ends <- there
			}
			return here, err
		})
		ended <- nil
	}()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
		require.NoError(t, <-ended)
		if k.listener.Away() {
			require.NoError(t, s.Suspend())
		}
		require.NoError(t, s.Close())
	})
	return k
}

// speaker says what it likes over a connection.
type speaker struct {
	t  *testing.T
	tr io.ReadWriteCloser
	id uint64
}

// connect is what the kernel does with the next connection.
func (k *kernel) connect(t *testing.T) *speaker {
	c := <-k.ends
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return &speaker{t: t, tr: c}
}

func (s *speaker) send(h wire.Type, body []byte) {
	s.id++
	p := append(wire.AppendHeader(nil, h, 0, s.id), body...)
	wire.Seal(p)
	_, err := s.tr.Write(p)
	require.NoError(s.t, err)
}

func (s *speaker) next() (wire.Header, []byte) {
	p := make([]byte, wire.HeaderSize)
	_, err := io.ReadFull(s.tr, p)
	require.NoError(s.t, err)
	h, err := wire.DecodeHeader(p)
	require.NoError(s.t, err)
	p = make([]byte, h.Length)
	_, err = io.ReadFull(s.tr, p)
	require.NoError(s.t, err)
	return h, p
}

// ask sends a request, and returns its reply's body, or the error that it is.
func (s *speaker) ask(t wire.Type, body []byte) ([]byte, error) {
	s.send(t, body)
	h, p := s.next()
	require.Equal(s.t, t, h.Type)
	if h.Flags&wire.FlagError == 0 {
		return p, nil
	}
	f, err := wire.DecodeFault(p)
	require.NoError(s.t, err)
	return nil, fault.Err(f)
}

// reply answers a request of the server.
func (s *speaker) reply(h wire.Header) {
	p := wire.AppendHeader(nil, h.Type, wire.FlagReply, h.ID)
	wire.Seal(p)
	_, err := s.tr.Write(p)
	require.NoError(s.t, err)
}

func (s *speaker) greet(lock uint32, features uint64) error {
	_, err := s.ask(wire.TypeHello, wire.AppendHello(nil, wire.Hello{Min: 1, Max: 1, Lock: lock, Features: features}))
	return err
}

// socket returns a connection of another process.
func (k *kernel) socket(t *testing.T) *speaker {
	nc, err := net.Dial("unix", k.path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = nc.Close() })
	return &speaker{t: t, tr: nc}
}

// Only the kernel says that it is the kernel.
func TestLocksAreTheirOwners(t *testing.T) {
	k := newKernel(t)
	for _, lock := range []uint32{server.KernelLock, server.KernelOrigin} {
		require.ErrorIs(t, k.socket(t).greet(lock, 0), wire.ErrProtocol)
	}
	require.ErrorIs(t, k.connect(t).greet(17, 0), wire.ErrProtocol)
	require.NoError(t, k.connect(t).greet(server.KernelLock, 0), "over the next connection")
}

// After nonsense there is another connection.
func TestKernelIsServedAgain(t *testing.T) {
	k := newKernel(t)
	s := k.connect(t)
	require.NoError(t, s.greet(server.KernelLock, 0))
	s.send(999, nil)
	_, err := io.ReadAll(s.tr)
	require.NoError(t, err, "the end")
	require.NoError(t, k.connect(t).greet(server.KernelLock, 0))
}

// The kernel's session outlives its connection, but not its target, and nobody else
// takes it over.
func TestKernelOriginIsAwayUntilItIsRemoved(t *testing.T) {
	k := newKernel(t)
	s := k.connect(t)
	require.NoError(t, s.greet(server.KernelLock, 0))
	_, err := s.ask(wire.TypeAttach, nil)
	require.NoError(t, err)
	k.lives.Store(true)
	other := k.socket(t)
	require.NoError(t, other.greet(17, 0))
	_, err = other.ask(wire.TypeAttach, nil)
	require.ErrorIs(t, err, store.ErrAttached)

	require.NoError(t, s.tr.Close())
	eventually(t, k.listener.Away)
	_, err = other.ask(wire.TypeAttach, nil)
	require.ErrorIs(t, err, store.ErrAttached, "it is away, and lives")
	k.lives.Store(false)
	eventually(t, func() bool {
		_, err = other.ask(wire.TypeAttach, nil)
		return err == nil
	})
}

// While what the origin's client does cannot be known, nobody is told what is shared
// with the origin.
func TestMapsWaitForAnOriginThatIsCutOff(t *testing.T) {
	k := newKernel(t)
	_, err := k.CreateSnapshot(1)
	require.NoError(t, err)
	s := k.connect(t)
	require.NoError(t, s.greet(server.KernelLock, 0))
	_, err = s.ask(wire.TypeAttach, nil)
	require.NoError(t, err)
	reader := k.socket(t)
	require.NoError(t, reader.greet(17, 0))
	body, err := reader.ask(wire.TypeOpenSnapshot, wire.AppendOpen(nil, wire.SnapshotRef{Tag: 1}, false))
	require.NoError(t, err)
	session, err := wire.DecodeSnapshotSession(body)
	require.NoError(t, err)
	ask := func() error {
		_, err := reader.ask(wire.TypeMap, wire.AppendNumbers(nil, uint64(session.Handle), 0, 4))
		return err
	}
	require.NoError(t, ask())
	k.lives.Store(true)
	require.NoError(t, s.tr.Close())
	eventually(t, k.listener.Away)
	require.ErrorIs(t, ask(), wire.ErrAway)
	k.lives.Store(false)
	eventually(t, func() bool { return ask() == nil })
}

// What a client had open and does not open again is closed, whether it has the origin
// too or not.
func TestWhatIsNotOpenedAgainIsClosed(t *testing.T) {
	k := newKernel(t)
	for tag := range block.Tag(2) {
		_, err := k.CreateSnapshot(tag)
		require.NoError(t, err)
	}
	s := k.connect(t)
	require.NoError(t, s.greet(server.KernelLock, 0))
	_, err := s.ask(wire.TypeAttach, nil)
	require.NoError(t, err)
	for tag := range block.Tag(2) {
		_, err = s.ask(wire.TypeOpenSnapshot, wire.AppendOpen(nil, wire.SnapshotRef{Tag: tag}, true))
		require.NoError(t, err)
	}
	k.lives.Store(true)
	require.NoError(t, s.tr.Close())
	s = k.connect(t)
	require.NoError(t, s.greet(server.KernelLock, 0))
	_, err = s.ask(wire.TypeOpenSnapshot, wire.AppendOpen(nil, wire.SnapshotRef{Tag: 0}, true))
	require.NoError(t, err, "its own place is free")
	s.send(wire.TypeReady, nil)
	eventually(t, func() bool { return k.DeleteSnapshot(1) == nil })
	require.ErrorIs(t, k.DeleteSnapshot(0), store.ErrInUse)
	k.lives.Store(false)
}

// A client that cannot restore the origin is not asked to, nor let in meanwhile.
func TestRestoresNeedAClientThatCan(t *testing.T) {
	k := newKernel(t)
	_, err := k.CreateSnapshot(1)
	require.NoError(t, err)
	s := k.connect(t)
	require.NoError(t, s.greet(server.KernelLock, wire.FeatureFit))
	_, err = s.ask(wire.TypeAttach, nil)
	require.NoError(t, err)
	require.ErrorContains(t, k.Revert(wire.SnapshotRef{Tag: 1}), "detach it first")
	_, err = s.ask(wire.TypeDetach, nil)
	require.NoError(t, err)
	require.NoError(t, k.Revert(wire.SnapshotRef{Tag: 1}))
	_, err = s.ask(wire.TypeAttach, nil)
	require.ErrorIs(t, err, store.ErrRestoring)
	able := k.socket(t)
	require.NoError(t, able.greet(17, wire.FeatureRestore))
	_, err = able.ask(wire.TypeAttach, nil)
	require.NoError(t, err)
	_, err = able.ask(wire.TypeDetach, nil)
	require.NoError(t, err)
}

// For a client that only holds its writes the server restores the origin, and has each
// chunk settled before. It writes nothing between a detach and the next attach.
func TestServerRestoresWhatTheKernelHolds(t *testing.T) {
	k := newKernel(t)
	v, err := volume.OpenOrigin(k.Server, k.origin, k.devices, volume.Options{})
	require.NoError(t, err)
	write := func(what byte) {
		_, err := v.WriteAt(bytes.Repeat([]byte{what}, 3<<20), 1<<20)
		require.NoError(t, err)
	}
	content := func() []byte {
		p := make([]byte, originSize)
		_, err := k.origin.ReadAt(p, 0)
		require.NoError(t, err)
		return p
	}
	write(1)
	before := content()
	_, err = k.CreateSnapshot(1)
	require.NoError(t, err)
	write(2)
	after := content()
	require.NoError(t, v.Close())

	s := k.connect(t)
	require.NoError(t, s.greet(server.KernelLock, wire.FeatureHold|wire.FeatureFit))
	_, err = s.ask(wire.TypeAttach, nil)
	require.NoError(t, err)
	reverted := make(chan error, 1)
	go func() { reverted <- k.Revert(wire.SnapshotRef{Tag: 1}) }()
	h, _ := s.next()
	require.Equal(t, wire.TypeQuiesce, h.Type)
	s.reply(h)
	h, body := s.next()
	require.Equal(t, wire.TypeState, h.Type)
	h, _ = s.next()
	require.Equal(t, wire.TypeFit, h.Type)
	require.Empty(t, reverted, "the client reads as the snapshot before the verb is done")
	s.reply(h)
	require.NoError(t, <-reverted)
	state, err := wire.DecodeState(body[8:])
	require.NoError(t, err)
	require.NotZero(t, state.Restoring)
	h, _ = s.next()
	require.Equal(t, wire.TypeSettle, h.Type)
	require.Equal(t, after, content(), "it is not settled yet")
	_, err = s.ask(wire.TypeDetach, nil)
	require.NoError(t, err, "though the chunks are not settled")
	require.Equal(t, after, content())

	_, err = s.ask(wire.TypeAttach, nil)
	require.NoError(t, err)
	settled := 0
	for state.Restoring != 0 {
		h, body = s.next()
		switch h.Type {
		case wire.TypeSettle:
			settled++
			s.reply(h)
		case wire.TypeQuiesce:
			s.reply(h)
		case wire.TypeState:
			state, err = wire.DecodeState(body[8:])
			require.NoError(t, err)
		}
	}
	require.Positive(t, settled)
	require.Equal(t, before, content())
	require.Nil(t, k.Status().Restore)
	_, err = s.ask(wire.TypeDetach, nil)
	require.NoError(t, err)
}
