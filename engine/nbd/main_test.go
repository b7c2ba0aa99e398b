// SPDX-License-Identifier: Apache-2.0

package nbd

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/nbd/nbdclient"
	"zumastor.org/zumastor/engine/nbd/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testSize = 64 << 20

// exportMap is an Exports that counts what is open.
type exportMap struct {
	m    map[string]*Export
	open atomic.Int64
}

func newExports(m map[string]*Export) *exportMap {
	for name, e := range m {
		e.Name = name
	}
	return &exportMap{m: m}
}

func (x *exportMap) List() []string { return slices.Sorted(maps.Keys(x.m)) }

func (x *exportMap) Open(name string) (*Export, error) {
	e := x.m[name]
	if e == nil {
		return nil, fmt.Errorf("%w: %q", ErrNoExport, name)
	}
	opened := *e
	x.open.Add(1)
	opened.Close = func() error { x.open.Add(-1); return nil }
	return &opened, nil
}

// testServer is a server under test on a Unix socket.
type testServer struct {
	*Server
	addr    string
	exports *exportMap
	stop    func() // shuts down and waits
}

// start runs a server of cfg until the test ends, when nothing may be left of
// what connections held.
func start(t testing.TB, cfg Config, exports map[string]*Export) *testServer {
	dir, err := os.MkdirTemp("", "nbd")
	require.NoError(t, err)
	x := newExports(exports)
	cfg.Exports = x
	s, err := NewServer(cfg)
	require.NoError(t, err)
	ts := &testServer{Server: s, addr: filepath.Join(dir, "s"), exports: x}
	ln, err := Listen("unix", ts.addr)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, ln) }()
	stopped := false
	ts.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		require.NoError(t, <-served)
		require.Equal(t, s.cfg.Memory, s.budget.left, "payload memory leaked")
		require.Zero(t, x.open.Load(), "exports left open")
		require.Empty(t, s.conns)
		require.NoError(t, os.RemoveAll(dir))
	}
	t.Cleanup(ts.stop)
	return ts
}

// quick is a config with short patience.
func quick() Config {
	return Config{HandshakeTimeout: 200 * time.Millisecond, StallTimeout: 200 * time.Millisecond, Linger: 10 * time.Millisecond}
}

// one is a single writable export in memory under the empty name.
func one() map[string]*Export {
	return map[string]*Export{"": {Device: memdev.New(testSize), FastZero: true}}
}

func (ts *testServer) dial(t testing.TB, export string, opts nbdclient.Options) *nbdclient.Client {
	c, err := nbdclient.Dial("unix", ts.addr, export, opts)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// usable checks that an honest client is served, if need be after a while.
func (ts *testServer) usable(t testing.TB) {
	require.Eventually(t, func() bool {
		c, err := nbdclient.Dial("unix", ts.addr, "", nbdclient.Options{})
		if err != nil {
			return false
		}
		_, err = c.ReadAt(make([]byte, 4096), 0)
		return c.Close() == nil && err == nil
	}, testPatience, 10*testTick)
}

// raw is a client that speaks byte by byte.
type raw struct {
	net.Conn
	t testing.TB
}

// greeted connects and exchanges flags.
func (ts *testServer) greeted(t testing.TB) *raw {
	nc, err := net.Dial("unix", ts.addr)
	require.NoError(t, err)
	require.NoError(t, nc.SetDeadline(time.Now().Add(10*time.Second)))
	t.Cleanup(func() { _ = nc.Close() })
	r := &raw{Conn: nc, t: t}
	r.read(18)
	r.send([]byte{0, 0, 0, wire.FlagFixedNewstyle | wire.FlagNoZeroes})
	return r
}

// attached is greeted, and attached to the default export.
func (ts *testServer) attached(t testing.TB) *raw {
	r := ts.greeted(t)
	r.option(wire.OptExportName, nil)
	r.read(10)
	return r
}

func (r *raw) send(b []byte) {
	_, err := r.Write(b)
	require.NoError(r.t, err)
}

func (r *raw) read(n int) []byte {
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	require.NoError(r.t, err)
	return b
}

func (r *raw) option(o wire.Option, data []byte) {
	b := make([]byte, wire.OptionSize)
	wire.PutOption(b, o, uint32(len(data)))
	r.send(append(b, data...))
}

// answer reads one answer to an option.
func (r *raw) answer(o wire.Option) (wire.OptionReply, []byte) {
	rep, n, err := wire.ParseOptionReply(r.read(wire.OptionReplySize), o)
	require.NoError(r.t, err)
	return rep, r.read(int(n))
}

func (r *raw) request(q wire.Request) {
	b := make([]byte, wire.RequestSize)
	q.Put(b)
	r.send(b)
}

// closed checks that the server hangs up.
func (r *raw) closed() {
	n, err := io.Copy(io.Discard, r)
	if err != nil {
		require.NotErrorIs(r.t, err, os.ErrDeadlineExceeded, "server did not hang up; sent %d bytes", n)
	}
}

// testDevice is a device whose operations can be watched, stopped and failed.
type testDevice struct {
	device.Device
	flushes atomic.Int64
	entered chan struct{} // told of each write, where not nil
	gate    chan struct{} // writes wait for a receive from it, where not nil
	err     error         // of reads, writes and flushes
}

func (d *testDevice) ReadAt(p []byte, off int64) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	return d.Device.ReadAt(p, off)
}

func (d *testDevice) WriteAt(p []byte, off int64) (int, error) {
	if d.entered != nil {
		d.entered <- struct{}{}
	}
	if d.gate != nil {
		<-d.gate
	}
	if d.err != nil {
		return 0, d.err
	}
	if !device.Aligned(p, 4096) {
		return 0, fmt.Errorf("payload is not page-aligned")
	}
	return d.Device.WriteAt(p, off)
}

func (d *testDevice) Flush() error {
	d.flushes.Add(1)
	if d.err != nil {
		return d.err
	}
	return d.Device.Flush()
}

// How long, and how often, tests look for what must happen soon.
const (
	testPatience = 20 * time.Second
	testTick     = time.Millisecond
)
