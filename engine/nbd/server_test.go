// SPDX-License-Identifier: Apache-2.0

package nbd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/nbd/nbdclient"
	"zumastor.org/zumastor/engine/nbd/wire"
)

// styles are the ways in which a client can talk.
func styles(t *testing.T) map[string]struct {
	cfg  Config
	opts nbdclient.Options
} {
	server, client := testCertificates(t)
	type style = struct {
		cfg  Config
		opts nbdclient.Options
	}
	return map[string]style{
		"simple":         {},
		"structured":     {opts: nbdclient.Options{Structured: true}},
		"tls":            {cfg: Config{TLS: server, TLSMode: TLSRequired}, opts: nbdclient.Options{TLS: client}},
		"tls structured": {cfg: Config{TLS: server, TLSMode: TLSOffered}, opts: nbdclient.Options{TLS: client, Structured: true}},
		"one in flight":  {cfg: Config{MaxInFlight: 1}},
		"scarce memory":  {cfg: Config{Memory: wire.MaxPayload}, opts: nbdclient.Options{Structured: true}},
	}
}

func TestReadBackInEveryStyle(t *testing.T) {
	for name, s := range styles(t) {
		t.Run(name, func(t *testing.T) {
			ts := start(t, s.cfg, map[string]*Export{"": {Device: &testDevice{Device: memdev.New(testSize)}}})
			c := ts.dial(t, "", s.opts)
			require.EqualValues(t, testSize, c.Size())
			rng := rand.New(rand.NewPCG(1, 2))
			want := make([]byte, 33<<20) // more than one request, and many chunks
			for i := 0; i < len(want); i += 8 {
				want[i] = byte(rng.Uint32())
			}
			clear(want[8<<20 : 11<<20]) // chunks that are sent as holes
			_, err := c.WriteAt(want, 512)
			require.NoError(t, err)
			got := bytes.Repeat([]byte{0xff}, len(want))
			for _, n := range []int{512, 4096, 64 << 10, 1<<20 + 512, len(want)} {
				_, err = c.ReadAt(got[:n], 512)
				require.NoError(t, err)
				require.True(t, bytes.Equal(want[:n], got[:n]), "%d bytes differ", n)
			}
			require.NoError(t, c.WriteZeroes(4096, 1<<20))
			require.NoError(t, c.Discard(2<<20, 1<<20))
			require.NoError(t, c.Flush())
			_, err = c.ReadAt(got[:1<<20], 4096)
			require.NoError(t, err)
			require.True(t, allZero(got[:1<<20]))
		})
	}
}

// TestConcurrentCallers has many callers on few connections, each with a region
// of its own, so that a reply or payload that goes astray is noticed.
func TestConcurrentCallers(t *testing.T) {
	for name, s := range styles(t) {
		t.Run(name, func(t *testing.T) {
			ts := start(t, s.cfg, one())
			c, err := nbdclient.DialMulti("unix", ts.addr, "", 2, s.opts)
			require.NoError(t, err)
			defer func() { require.NoError(t, c.Close()) }()
			var wg sync.WaitGroup
			for w := range 40 {
				wg.Go(func() { hammer(t, c, uint64(w), 25) })
			}
			wg.Wait()
		})
	}
}

// hammer writes and reads back blocks of region w, of 1 MiB.
func hammer(t *testing.T, c *nbdclient.Client, w uint64, rounds int) {
	rng := rand.New(rand.NewPCG(w, 3))
	for range rounds {
		n := 512 << rng.IntN(9)
		off := int64(w)<<20 + rng.Int64N((1<<20-int64(n))/512+1)*512
		p := bytes.Repeat([]byte{byte(w), byte(rng.Uint32())}, n/2)
		got := make([]byte, n)
		write := c.WriteAt
		if rng.IntN(8) == 0 {
			write = c.WriteFUA
		}
		if _, err := write(p, off); err != nil {
			t.Errorf("writing: %v", err)
			return
		}
		if _, err := c.ReadAt(got, off); err != nil || !bytes.Equal(p, got) {
			t.Errorf("region %d reads otherwise than written: %v", w, err)
			return
		}
	}
}

func TestFUAAndFlushReachTheDevice(t *testing.T) {
	d := &testDevice{Device: memdev.New(testSize)}
	c := start(t, Config{}, map[string]*Export{"": {Device: d, ZeroKeeps: true}}).dial(t, "", nbdclient.Options{})
	for i, op := range []func() error{
		c.Flush,
		func() error { _, err := c.WriteFUA(make([]byte, 4096), 0); return err },
		func() error { return c.Zero(0, 4096, wire.CmdFlagFUA) },
	} {
		require.NoError(t, op())
		require.EqualValues(t, i+1, d.flushes.Load())
	}
	_, err := c.WriteAt(make([]byte, 4096), 0)
	require.NoError(t, err)
	require.EqualValues(t, 3, d.flushes.Load(), "a plain write must not flush")
}

func TestErrorsOfRequests(t *testing.T) {
	const fua, df, fast = wire.CmdFlagFUA, wire.CmdFlagDF, wire.CmdFlagFastZero
	for _, tc := range []struct {
		name   string
		export string
		req    wire.Request
		want   wire.Errno
	}{
		{"read", "rw", wire.Request{Type: wire.CmdRead, Length: 512}, wire.OK},
		{"read with fua", "rw", wire.Request{Type: wire.CmdRead, Flags: fua, Length: 512}, wire.OK},
		{"read of nothing", "rw", wire.Request{Type: wire.CmdRead}, wire.EINVAL},
		{"read of part of a sector", "rw", wire.Request{Type: wire.CmdRead, Length: 100}, wire.EINVAL},
		{"read at part of a sector", "rw", wire.Request{Type: wire.CmdRead, Offset: 1, Length: 512}, wire.EINVAL},
		{"read beyond the end", "rw", wire.Request{Type: wire.CmdRead, Offset: testSize - 512, Length: 1024}, wire.EINVAL},
		{"read far beyond the end", "rw", wire.Request{Type: wire.CmdRead, Offset: 1<<64 - 512, Length: 1024}, wire.EINVAL},
		{"read too long", "rw", wire.Request{Type: wire.CmdRead, Length: wire.MaxPayload + 512}, wire.EINVAL},
		{"fragmentless read without structured replies", "rw", wire.Request{Type: wire.CmdRead, Flags: df, Length: 512}, wire.EINVAL},
		{"write beyond the end", "rw", wire.Request{Type: wire.CmdWrite, Offset: testSize, Length: 512}, wire.ENOSPC},
		{"trim", "rw", wire.Request{Type: wire.CmdTrim, Length: testSize}, wire.OK},
		{"trim beyond the end", "rw", wire.Request{Type: wire.CmdTrim, Offset: 512, Length: testSize}, wire.ENOSPC},
		{"fast zero", "rw", wire.Request{Type: wire.CmdWriteZeroes, Flags: fast, Length: testSize}, wire.OK},
		{"fast zero without holes", "rw", wire.Request{Type: wire.CmdWriteZeroes, Flags: fast | wire.CmdFlagNoHole, Length: 4096}, wire.ENOTSUP},
		{"zero without holes", "rw", wire.Request{Type: wire.CmdWriteZeroes, Flags: wire.CmdFlagNoHole, Length: 4096}, wire.OK},
		{"fast zero of a slow device", "slow", wire.Request{Type: wire.CmdWriteZeroes, Flags: fast, Length: 4096}, wire.ENOTSUP},
		{"zero of a slow device", "slow", wire.Request{Type: wire.CmdWriteZeroes, Length: 4096}, wire.OK},
		{"write, read-only", "ro", wire.Request{Type: wire.CmdWrite, Length: 512}, wire.EPERM},
		{"trim, read-only", "ro", wire.Request{Type: wire.CmdTrim, Length: 512}, wire.EPERM},
		{"zero, read-only", "ro", wire.Request{Type: wire.CmdWriteZeroes, Length: 512}, wire.EPERM},
		{"flush, read-only", "ro", wire.Request{Type: wire.CmdFlush}, wire.OK},
		{"block status without contexts", "rw", wire.Request{Type: wire.CmdBlockStatus, Length: 512}, wire.EINVAL},
		{"cache", "rw", wire.Request{Type: wire.CmdCache, Length: 512}, wire.EINVAL},
		{"unknown command", "rw", wire.Request{Type: 99}, wire.EINVAL},
		{"unknown flag", "rw", wire.Request{Type: wire.CmdRead, Flags: 1 << 9, Length: 512}, wire.EINVAL},
		{"flag of another command", "rw", wire.Request{Type: wire.CmdRead, Flags: fast, Length: 512}, wire.EINVAL},
		{"device without space", "full", wire.Request{Type: wire.CmdWrite, Length: 512}, wire.ENOSPC},
		{"device that fails", "bad", wire.Request{Type: wire.CmdRead, Length: 512}, wire.EIO},
		{"device that fails to flush", "bad", wire.Request{Type: wire.CmdFlush}, wire.EIO},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ts := start(t, Config{}, map[string]*Export{
				"rw":   {Device: memdev.New(testSize), FastZero: true},
				"ro":   {Device: memdev.New(testSize), ReadOnly: true},
				"slow": {Device: &testDevice{Device: memdev.New(testSize)}},
				"full": {Device: &testDevice{Device: memdev.New(testSize), err: fmt.Errorf("writing: %w", syscall.ENOSPC)}},
				"bad":  {Device: &testDevice{Device: memdev.New(testSize), err: errors.New("broken")}},
			})
			r := ts.greeted(t)
			r.option(wire.OptExportName, []byte(tc.export))
			r.read(10)
			for cookie := range uint64(2) { // the stream stays in step after an error
				tc.req.Cookie = cookie
				r.request(tc.req)
				if tc.req.Type == wire.CmdWrite {
					r.send(make([]byte, tc.req.Length))
				}
				want := make([]byte, wire.SimpleSize)
				wire.PutSimple(want, tc.want, cookie)
				require.Equal(t, want, r.read(wire.SimpleSize))
				if tc.req.Type == wire.CmdRead && tc.want == wire.OK {
					r.read(int(tc.req.Length))
				}
			}
			r.request(wire.Request{Type: wire.CmdDisc})
			r.closed()
		})
	}
}

func TestErrnoOf(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want wire.Errno
	}{
		{nil, wire.OK},
		{io.ErrUnexpectedEOF, wire.EIO},
		{fmt.Errorf("store: %w", syscall.EDQUOT), wire.ENOSPC},
		{syscall.EFBIG, wire.ENOSPC},
		{syscall.EROFS, wire.EPERM},
		{syscall.EOPNOTSUPP, wire.ENOTSUP},
		{errors.ErrUnsupported, wire.ENOTSUP},
		{syscall.ENOMEM, wire.ENOMEM},
		{fmt.Errorf("volume: %w", wire.EOVERFLOW), wire.EOVERFLOW},
	} {
		require.Equal(t, tc.want, errnoOf(tc.err), "%v", tc.err)
	}
}

// TestRepliesOvertake has a write that the device holds up, and a read after it
// that must not wait.
func TestRepliesOvertake(t *testing.T) {
	d := &testDevice{Device: memdev.New(testSize), gate: make(chan struct{})}
	ts := start(t, Config{}, map[string]*Export{"": {Device: d}})
	r := ts.attached(t)
	r.request(wire.Request{Type: wire.CmdWrite, Flags: wire.CmdFlagFUA, Cookie: 1, Length: 512})
	r.send(make([]byte, 512))
	r.request(wire.Request{Type: wire.CmdRead, Cookie: 2, Length: 512})
	require.EqualValues(t, 2, r.read(wire.SimpleSize + 512)[15])
	d.gate <- struct{}{}
	require.EqualValues(t, 1, r.read(wire.SimpleSize)[15])
}

// TestDeepQueueReachesASlowDevice checks that a slow device gets as many
// requests at a time as the client sends.
func TestDeepQueueReachesASlowDevice(t *testing.T) {
	const depth = 32
	d := &testDevice{Device: memdev.New(testSize), gate: make(chan struct{}), entered: make(chan struct{}, depth+1)}
	ts := start(t, Config{}, map[string]*Export{"": {Device: d}})
	c := ts.dial(t, "", nbdclient.Options{})
	write := func() {
		if _, err := c.WriteAt(make([]byte, 4096), 0); err != nil {
			t.Errorf("writing: %v", err)
		}
	}
	go write() // teaches the server that the device is slow
	<-d.entered
	time.Sleep(2 * time.Millisecond)
	d.gate <- struct{}{}
	var wg sync.WaitGroup
	for range depth {
		wg.Go(write)
	}
	for range depth {
		<-d.entered // all are in the device before one has returned
	}
	close(d.gate)
	wg.Wait()
}

func TestShutdownDrains(t *testing.T) {
	d := &testDevice{Device: memdev.New(testSize), gate: make(chan struct{}), entered: make(chan struct{}, 1)}
	ts := start(t, Config{Linger: 300 * time.Millisecond}, map[string]*Export{"": {Device: d}})
	r, idle, half := ts.attached(t), ts.attached(t), ts.greeted(t)
	r.request(wire.Request{Type: wire.CmdWrite, Flags: wire.CmdFlagFUA, Cookie: 1, Length: 512})
	r.send(make([]byte, 512))
	<-d.entered
	stopped := make(chan struct{})
	go func() { ts.stop(); close(stopped) }()
	require.Eventually(t, func() bool { return ts.allDraining() }, testPatience, testTick)
	half.option(wire.OptList, nil)
	rep, _ := half.answer(wire.OptList)
	require.Equal(t, wire.RepErrShutdown, rep)
	r.request(wire.Request{Type: wire.CmdRead, Cookie: 2, Length: 512})
	want := make([]byte, wire.SimpleSize)
	wire.PutSimple(want, wire.ESHUTDOWN, 2)
	require.Equal(t, want, r.read(wire.SimpleSize))
	d.gate <- struct{}{}
	wire.PutSimple(want, wire.OK, 1)
	require.Equal(t, want, r.read(wire.SimpleSize), "the write in flight is finished and answered")
	r.closed()
	idle.closed()
	half.closed()
	<-stopped
}

// allDraining reports whether every connection knows of the shutdown.
func (s *Server) allDraining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if !c.draining.Load() {
			return false
		}
	}
	return true
}

func TestMaxConns(t *testing.T) {
	ts := start(t, Config{MaxConns: 2}, one())
	a, _ := ts.attached(t), ts.attached(t)
	_, err := nbdclient.Dial("unix", ts.addr, "", nbdclient.Options{})
	require.Error(t, err)
	require.NoError(t, a.Close())
	require.Eventually(t, func() bool {
		c, err := nbdclient.Dial("unix", ts.addr, "", nbdclient.Options{})
		return err == nil && c.Close() == nil
	}, testPatience, testTick)
}

func TestBadConfigs(t *testing.T) {
	for _, cfg := range []Config{{}, {Exports: newExports(nil), TLSMode: TLSRequired}, {Exports: newExports(nil), Memory: 4096}} {
		_, err := NewServer(cfg)
		require.Error(t, err)
	}
}

// TestSeveralListeners serves TCP besides the Unix socket.
func TestSeveralListeners(t *testing.T) {
	ts := start(t, Config{}, one())
	ln, err := Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- ts.Serve(ctx, ln) }()
	c, err := nbdclient.DialMulti("tcp", ln.Addr().String(), "", 3, nbdclient.Options{Structured: true})
	require.NoError(t, err)
	hammer(t, c, 5, 20)
	require.NoError(t, c.Close())
	cancel()
	require.NoError(t, <-served)
	ts.usable(t)
}

func TestListenReplacesOnlyADeadSocket(t *testing.T) {
	ts := start(t, Config{}, one())
	_, err := Listen("unix", ts.addr)
	require.ErrorContains(t, err, "in use")
	ts.usable(t)

	dead := filepath.Join(t.TempDir(), "s")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead, Net: "unix"})
	require.NoError(t, err)
	ln.SetUnlinkOnClose(false)
	require.NoError(t, ln.Close())
	again, err := Listen("unix", dead)
	require.NoError(t, err)
	info, err := os.Stat(dead)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	require.NoError(t, again.Close())

	require.NoError(t, os.WriteFile(dead, []byte("data"), 0o600))
	_, err = Listen("unix", dead)
	require.Error(t, err, "not a socket")
	require.FileExists(t, dead)
}

// TestSteadyStateAllocatesNothing covers client and server at once, for they
// share the process.
func TestSteadyStateAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes pools forget")
	}
	c := start(t, Config{}, one()).dial(t, "", nbdclient.Options{})
	p := make([]byte, 4096)
	_, err := c.WriteAt(p, 0)
	require.NoError(t, err)
	var failure error
	require.Less(t, testing.AllocsPerRun(2000, func() { _, failure = c.WriteAt(p, 0) }), 1.0, "writes")
	require.NoError(t, failure)
	require.Less(t, testing.AllocsPerRun(2000, func() { _, failure = c.ReadAt(p, 0) }), 1.0, "reads")
	require.NoError(t, failure)
}

func BenchmarkWrite4K(b *testing.B) {
	c := start(b, Config{}, one()).dial(b, "", nbdclient.Options{})
	p := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.WriteAt(p, 0); err != nil {
			b.Fatal(err)
		}
	}
}
