// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"zumastor.org/zumastor/engine/alloc"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/client"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/pattern"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/ring"
	"zumastor.org/zumastor/engine/server"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
	"zumastor.org/zumastor/engine/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	originSize = 1 << 20
	chunkSize  = 16 << 10
)

// bed is a store with a server on a socket, which may be killed.
type bed struct {
	t      testing.TB
	path   string
	origin *memdev.Device
	devs   placement.Devices
	alive  atomic.Bool // what the server is told of clients whose connection has ended

	clients uint32 // that were made by dial
	// rings, if not nil, has the ends of the connections by which the first client is
	// served, as the kernel's targets are.
	rings chan *ring.Conn

	mu     sync.Mutex
	server *server.Server
	listen *server.Listener
	stop   func()
}

func newBed(t testing.TB) *bed { return newBedOver(t, nil) }

// transports runs a test over each.
func transports(t *testing.T, test func(t *testing.T, b *bed)) {
	t.Run("socket", func(t *testing.T) { test(t, newBed(t)) })
	t.Run("rings", func(t *testing.T) { test(t, newBedOver(t, make(chan *ring.Conn, 1))) })
}

func newBedOver(t testing.TB, rings chan *ring.Conn) *bed {
	b := &bed{
		rings: rings,
		t:     t, path: filepath.Join(t.TempDir(), "s"), origin: memdev.New(originSize),
		devs: placement.Devices{Store: memdev.New(64 << 20)},
	}
	_, err := store.Format(b.devs, store.FormatOptions{OriginSize: originSize, ChunkSize: chunkSize})
	require.NoError(t, err)
	b.start(false)
	t.Cleanup(func() { b.stop() })
	return b
}

// start opens the store and serves it. Await says that an origin client lives.
func (b *bed) start(await bool) {
	s, err := server.Open(b.devs, server.Options{Manual: true, Store: store.Options{Await: await}})
	require.NoError(b.t, err)
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: b.path, Net: "unix"})
	require.NoError(b.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	l := s.Listen(server.ListenOptions{Lives: b.lives(await), Alive: b.lockLives})
	go func() { done <- l.Serve(ctx, ln) }()
	var kernel sync.WaitGroup
	if b.rings != nil {
		kernel.Go(func() { l.ServeKernel(ctx, b.bind) })
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.server, b.listen = s, l
	b.stop = func() {
		cancel()
		require.NoError(b.t, <-done)
		kernel.Wait()
		b.dropRings()
	}
}

// lockLives is what the server asks of a client that is away.
func (b *bed) lockLives(lock uint32) bool {
	if b.rings == nil && lock == server.KernelOrigin || b.rings != nil && lock == server.OriginLock {
		return false
	}
	return b.alive.Load()
}

// bind makes rings, and leaves the kernel's end for who connects.
func (b *bed) bind() (server.Transport, error) {
	s, c, err := ring.Pair(4<<20, 1<<20)
	if err != nil {
		return nil, err
	}
	b.dropRings()
	b.rings <- c
	return s, nil
}

// dropRings closes rings that nobody has taken.
func (b *bed) dropRings() {
	select {
	case c := <-b.rings:
		require.NoError(b.t, c.Close())
	default:
	}
}

// takeRings is how the kernel connects.
func (b *bed) takeRings(ctx context.Context) (client.Transport, error) {
	select {
	case c := <-b.rings:
		return c, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// lives returns the locks of the clients that a next server finds alive.
func (b *bed) lives(await bool) (locks []uint32) {
	for n := uint32(0); await && n < b.clients; n++ {
		if lock := 16 + n; n > 0 || b.rings == nil {
			locks = append(locks, lock)
		} else {
			locks = append(locks, server.KernelLock)
		}
	}
	return locks
}

// kill ends the server as kill -9 does: nothing is closed in order.
func (b *bed) kill() {
	b.alive.Store(true)
	b.stop()
}

func (b *bed) dial() *client.Client { return b.dialWith(client.Options{}) }

func (b *bed) dialWith(o client.Options) *client.Client {
	o.Lock = 16 + b.clients
	if b.rings != nil && b.clients == 0 {
		o.Lock, o.Connect = server.KernelLock, b.takeRings
	}
	c, err := client.Dial(b.t.Context(), b.path, o)
	b.clients++
	require.NoError(b.t, err)
	b.t.Cleanup(func() { require.NoError(b.t, c.Close()) })
	return c
}

func (b *bed) source(c wire.Server) volume.SnapshotSource {
	return volume.SnapshotSource{Server: c, Origin: b.origin, Store: b.devs, ChunkSize: chunkSize, DataOffset: b.server.DataOffset()}
}

func (b *bed) openOrigin(c wire.Server) *volume.Origin {
	v, err := volume.OpenOrigin(c, b.origin, b.devs, volume.Options{})
	require.NoError(b.t, err)
	return v
}

func fill(p []byte, x byte) []byte {
	for i := range p {
		p[i] = x
	}
	return p
}

func all(t testing.TB, d device.Device) []byte {
	p := make([]byte, d.Size())
	_, err := d.ReadAt(p, 0)
	require.NoError(t, err)
	return p
}

// Volumes work over a socket and over rings as with an embedded server.
func TestVolumesFromAfar(t *testing.T) { transports(t, testVolumes) }

func testVolumes(t *testing.T, b *bed) {
	c := b.dial()
	v := b.openOrigin(c)
	_, err := volume.OpenOrigin(b.dial(), b.origin, b.devs, volume.Options{})
	require.ErrorIs(t, err, store.ErrAttached)

	old := fill(make([]byte, originSize), 1)
	_, err = v.WriteAt(old, 0)
	require.NoError(t, err)
	_, err = b.server.CreateSnapshot(1)
	require.NoError(t, err)
	_, err = v.WriteAt(fill(make([]byte, 100<<10), 2), 30<<10)
	require.NoError(t, err)
	other := b.dial()
	snap, err := volume.OpenSnapshotRef(b.source(other), wire.SnapshotRef{Tag: 1}, true)
	require.NoError(t, err)
	require.Equal(t, old, all(t, snap))
	require.ErrorIs(t, b.server.DeleteSnapshot(1), store.ErrInUse)

	// It is written to, and a snapshot of it is taken meanwhile.
	_, err = snap.WriteAt(fill(make([]byte, 20<<10), 3), 512)
	require.NoError(t, err)
	_, err = b.server.Create(store.NewSnapshot{Tag: 2, Name: "two", Parent: &wire.SnapshotRef{Tag: 1}})
	require.NoError(t, err)
	_, err = snap.WriteAt(fill(make([]byte, 20<<10), 4), 512)
	require.NoError(t, err)
	require.NoError(t, snap.Flush())
	two, err := volume.OpenSnapshotRef(b.source(c), wire.SnapshotRef{Name: "two"}, false)
	require.NoError(t, err)
	want := bytes.Clone(old)
	fill(want[512:512+20<<10], 3)
	require.True(t, bytes.Equal(want, all(t, two)))
	fill(want[512:512+20<<10], 4)
	require.True(t, bytes.Equal(want, all(t, snap)))

	_, err = volume.OpenSnapshotRef(b.source(c), wire.SnapshotRef{Tag: 9}, false)
	require.ErrorIs(t, err, store.ErrNoSnapshot)
	require.NoError(t, two.Close())
	require.NoError(t, snap.Close())
	require.NoError(t, v.Close())
	require.NoError(t, b.server.Delete(wire.SnapshotRef{Tag: 1}, true))
}

// A reader never sees what was written to the origin after the snapshot was taken,
// however the writer's reports and the reader's questions race.
func TestReadersRaceReports(t *testing.T) { transports(t, testReadersRaceReports) }

func testReadersRaceReports(t *testing.T, b *bed) {
	v := b.openOrigin(b.dial())
	reader := b.dial()
	for round := range byte(60) { // so many that a missing barrier is sure to show
		before := fill(make([]byte, originSize), round)
		_, err := v.WriteAt(before, 0)
		require.NoError(t, err)
		tag := block.Tag(round)
		_, err = b.server.CreateSnapshot(tag)
		require.NoError(t, err)
		snap, err := volume.OpenSnapshot(b.source(reader), tag)
		require.NoError(t, err)
		var writer sync.WaitGroup
		writer.Go(func() {
			for off := int64(0); off < originSize; off += chunkSize {
				if _, err := v.WriteAt(fill(make([]byte, chunkSize), 255), off); err != nil {
					t.Error(err)
				}
			}
		})
		for off := int64(0); off < originSize; off += chunkSize {
			p := make([]byte, chunkSize)
			_, err := snap.ReadAt(p, off)
			require.NoError(t, err)
			require.Equal(t, before[:chunkSize], p, "round %d, offset %d", round, off)
		}
		writer.Wait()
		require.NoError(t, snap.Close())
	}
	require.NoError(t, v.Close())
}

// The server is killed again and again under an origin and a snapshot that are written
// to. Nothing fails, and nothing is lost.
func TestServerIsKilledUnderLoad(t *testing.T) { transports(t, testServerIsKilledUnderLoad) }

func testServerIsKilledUnderLoad(t *testing.T, b *bed) {
	c, reader := b.dial(), b.dial()
	v := b.openOrigin(c)
	_, err := b.server.CreateSnapshot(0)
	require.NoError(t, err)
	snap, err := volume.OpenSnapshotRef(b.source(b.dial()), wire.SnapshotRef{Tag: 0}, true)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var load sync.WaitGroup
	ledgers := [2]*pattern.Ledger{}
	for i, d := range []device.Device{v, snap} {
		ledgers[i] = pattern.NewLedger(pattern.Zeroes(uint64(i+1), originSize), nil)
		load.Go(func() {
			if err := pattern.NewChurn(ledgers[i], pattern.Options{Workers: 2}).Run(ctx, d); err != nil {
				t.Error(err)
			}
		})
	}
	kills := 25
	if testing.Short() {
		kills = 5
	}
	taken := map[block.Tag]pattern.Bounds{}
	for n := range kills {
		time.Sleep(time.Duration(n%7) * time.Millisecond) // any moment is right
		b.kill()
		b.start(true)
		if n%3 == 0 { // a snapshot over the new server, once the origin has come back
			tag := block.Tag(100 + n)
			held, err := ledgers[0].During(func() error {
				for {
					_, err := b.server.CreateSnapshot(tag)
					if !errors.Is(err, wire.ErrAway) {
						return err
					}
					time.Sleep(time.Millisecond)
				}
			})
			require.NoError(t, err)
			s, err := volume.OpenSnapshot(b.source(reader), tag)
			require.NoError(t, err)
			taken[tag], err = held.Check(s)
			require.NoError(t, err)
			require.NoError(t, s.Close())
		}
	}
	stop()
	load.Wait()
	_, err = ledgers[0].Present().Check(v)
	require.NoError(t, err, "origin")
	_, err = ledgers[1].Present().Check(snap)
	require.NoError(t, err, "snapshot")
	require.NoError(t, snap.Flush())
	b.kill()
	b.start(true)
	_, err = ledgers[1].Present().Check(snap)
	require.NoError(t, err, "snapshot, by the next server")
	for tag, held := range taken {
		s, err := volume.OpenSnapshot(b.source(c), tag)
		require.NoError(t, err)
		_, err = held.Check(s)
		require.NoError(t, err, "snapshot %d", tag)
		require.NoError(t, s.Close())
	}
	require.NoError(t, snap.Close())
	require.NoError(t, v.Close())
}

// A client that dies leaves nothing behind: its snapshots may be deleted, another may
// be the origin's.
func TestDeadClientsAreForgotten(t *testing.T) {
	b := newBed(t)
	c, err := client.Dial(t.Context(), b.path, client.Options{})
	require.NoError(t, err)
	v := b.openOrigin(c)
	_, err = b.server.CreateSnapshot(1)
	require.NoError(t, err)
	_, err = v.WriteAt(make([]byte, chunkSize), 0)
	require.NoError(t, err)
	_, err = volume.OpenSnapshotRef(b.source(c), wire.SnapshotRef{Tag: 1}, true)
	require.NoError(t, err)
	require.NoError(t, c.Close()) // without having closed anything
	require.Eventually(t, func() bool {
		w, err := volume.OpenOrigin(b.server, b.origin, b.devs, volume.Options{})
		if err != nil {
			return false
		}
		require.NoError(t, w.Close())
		return b.server.DeleteSnapshot(1) == nil
	}, time.Minute, time.Millisecond)
}

// A client that asked for space and went away, and may come back, leaves nobody behind
// who waits for space.
func TestNobodyWaitsForAClientThatWentAway(t *testing.T) {
	b := newBed(t)
	b.alive.Store(true)
	require.NoError(t, b.server.SetPolicy(layout.PolicyBlock))
	c, err := client.Dial(t.Context(), b.path, client.Options{})
	require.NoError(t, err)
	b.openOrigin(c)
	for err == nil {
		_, err = b.server.Lease(1 << 20)
	}
	require.ErrorIs(t, err, alloc.ErrNoSpace)
	ended := make(chan error, 1)
	go func() { ended <- c.AwaitSpace(0) }()
	require.Eventually(t, func() bool { return b.server.Status().Full && waits() }, time.Minute, time.Millisecond)
	require.NoError(t, c.Close()) // without having closed anything
	require.Error(t, <-ended)
	require.Eventually(t, func() bool { return !waits() }, time.Minute, time.Millisecond)
}

// waits reports whether anybody waits for space.
func waits() bool {
	p := make([]byte, 1<<20)
	return bytes.Contains(p[:runtime.Stack(p, true)], []byte("(*Store).AwaitSpace"))
}

// What a client had open that has died is let go of, though the next one has its lock.
func TestNextClientWithTheLock(t *testing.T) {
	b := newBed(t)
	b.alive.Store(true) // as the next client's lock makes it seem
	_, err := b.server.CreateSnapshot(1)
	require.NoError(t, err)
	for range 2 {
		c, err := client.Dial(t.Context(), b.path, client.Options{Lock: 16})
		require.NoError(t, err)
		b.openOrigin(c)
		_, err = volume.OpenSnapshotRef(b.source(c), wire.SnapshotRef{Tag: 1}, true)
		require.NoError(t, err)
		require.NoError(t, c.Close()) // without having closed anything
	}
	next, err := client.Dial(t.Context(), b.path, client.Options{Lock: 16})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return b.server.DeleteSnapshot(1) == nil }, time.Minute, time.Millisecond)
	require.NoError(t, next.Close())
}

// Whatever bytes come to the socket, the server serves the others.
func TestGarbageHarmsNobody(t *testing.T) {
	b := newBed(t)
	v := b.openOrigin(b.dial())
	_, err := b.server.CreateSnapshot(1)
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(1, 2))
	hello := wire.AppendHello(wire.AppendHeader(nil, wire.TypeHello, 0, 1), wire.Hello{Min: 1, Max: 1})
	wire.Seal(hello)
	for n := range 300 {
		nc, err := net.Dial("unix", b.path)
		require.NoError(t, err)
		p := make([]byte, 1+rng.IntN(200))
		for i := range p {
			p[i] = byte(rng.Uint32())
		}
		if n%2 == 0 { // garbage after a good beginning, in frames whose headers are right
			body := p[:rng.IntN(len(p))]
			frame := append(wire.AppendHeader(nil, wire.Type(rng.IntN(40)), uint16(rng.IntN(2)), uint64(n)), body...)
			wire.Seal(frame)
			p = append(bytes.Clone(hello), frame...)
		}
		_, _ = nc.Write(p) // it may have been closed already
		if u := nc.(*net.UnixConn); rng.IntN(2) == 0 {
			_ = u.CloseWrite()
			_, _ = io.Copy(io.Discard, u)
		}
		require.NoError(t, nc.Close())
	}
	_, err = v.WriteAt(fill(make([]byte, chunkSize), 7), 0)
	require.NoError(t, err)
	snap, err := volume.OpenSnapshot(b.source(b.dial()), 1)
	require.NoError(t, err)
	require.Equal(t, make([]byte, chunkSize), all(t, snap)[:chunkSize])
	require.NoError(t, snap.Close())
	require.NoError(t, v.Close())
}

// A client that does not answer does not hold up others for ever.
func TestSilentClientsAreLeft(t *testing.T) {
	b := newBed(t)
	b.stop()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: b.path, Net: "unix"})
	require.NoError(t, err)
	l := b.server.Listen(server.ListenOptions{Quiet: 50 * time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Serve(ctx, ln) }()
	b.stop = func() { cancel(); require.NoError(t, <-done) }

	nc, err := net.Dial("unix", b.path)
	require.NoError(t, err)
	defer nc.Close()
	p := wire.AppendHello(wire.AppendHeader(nil, wire.TypeHello, 0, 1), wire.Hello{Min: 1, Max: 1})
	wire.Seal(p)
	attach := wire.AppendHeader(nil, wire.TypeAttach, 0, 2)
	wire.Seal(attach)
	_, err = nc.Write(append(p, attach...))
	require.NoError(t, err)
	_, err = io.ReadFull(nc, make([]byte, 2*wire.HeaderSize+40+136)) // welcome, begin of the session
	require.NoError(t, err)
	_, err = b.server.CreateSnapshot(1)
	require.ErrorContains(t, err, "no answer")
	require.Eventually(t, func() bool {
		_, err := b.server.CreateSnapshot(1)
		return err == nil
	}, time.Minute, time.Millisecond, "it is gone")
}

func TestWhoCannotConnectIsTold(t *testing.T) {
	_, err := client.Dial(t.Context(), filepath.Join(t.TempDir(), "none"), client.Options{})
	require.ErrorContains(t, err, "none")
	b := newBed(t)
	nc, err := net.Dial("unix", b.path)
	require.NoError(t, err)
	defer nc.Close()
	p := wire.AppendHello(wire.AppendHeader(nil, wire.TypeHello, 0, 1), wire.Hello{Min: 7, Max: 9})
	wire.Seal(p)
	_, err = nc.Write(p)
	require.NoError(t, err)
	answer, err := io.ReadAll(nc)
	require.NoError(t, err)
	require.Contains(t, string(answer), fmt.Sprintf("versions 7 to 9, this server %d to %d", wire.MinVersion, wire.MaxVersion))
}
