// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/store"
)

// Twenty servers take over from one another, each a process, under an origin and a
// snapshot that are written to and read back, and verbs without a pause: no request
// fails, nobody is refused a connection, and no byte is wrong.
func TestServersTakeOver(t *testing.T) {
	b := newVolumeBed(t)
	defer b.close()
	control, err := Socket(b.paths.Store, ControlSuffix)
	require.NoError(t, err)
	var verbs sync.WaitGroup
	var stop atomic.Bool
	var asked atomic.Int64
	defer verbs.Wait()
	defer stop.Store(true)
	verbs.Go(func() { askAlways(t, control, &stop, &asked) })
	takeovers := 20
	if testing.Short() {
		takeovers = 3
	}
	for n := range takeovers {
		b.goesOn()
		next := startServer(t, b.paths.Store, takingOver+"=1")
		require.NoError(t, b.server.Wait(), "the server before")
		b.server = next
		if n%5 == 2 {
			b.take(uint32(100 + n))
		}
	}
	b.goesOn()
	b.check()
	t.Logf("%d takeovers, %d verbs", takeovers, asked.Load())
}

// askAlways asks for the snapshots, over a new connection each time.
func askAlways(t *testing.T, control string, stop *atomic.Bool, asked *atomic.Int64) {
	for !stop.Load() {
		c, err := admin.Dial(context.Background(), control)
		if err != nil {
			t.Errorf("connecting: %v", err)
			return
		}
		_, err = c.Do(context.Background(), admin.Request{Verb: admin.VerbList})
		if err = errors.Join(err, c.Close()); err != nil {
			t.Errorf("listing: %v", err)
			return
		}
		asked.Add(1)
		time.Sleep(time.Millisecond)
	}
}

// begin runs a service until ctx ends, and returns where its error goes.
func begin(ctx context.Context, cfg Config) chan error {
	done := make(chan error, 1)
	go func() { done <- Run(ctx, cfg) }()
	return done
}

// reachable returns a client of a control socket, once it is there.
func reachable(t *testing.T, path string) *admin.Client {
	var c *admin.Client
	require.Eventually(t, func() (ok bool) {
		var err error
		c, err = admin.Dial(t.Context(), path)
		return err == nil
	}, time.Minute, time.Millisecond)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// What cannot be taken over goes on, and says why.
func TestTakeoverIsRefused(t *testing.T) {
	cfg := makeStore(t)
	taking := Config{Paths: cfg.Paths, Serve: true, TakeOver: true, Logger: cfg.Logger}
	require.ErrorContains(t, Run(t.Context(), taking), "start it without --takeover")

	_, stop := start(t, cfg) // of the volume, too
	require.ErrorContains(t, Run(t.Context(), taking), "only a \"ddsnap server\" can be taken over")
	require.NoError(t, stop())

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := begin(ctx, Config{Paths: cfg.Paths, Serve: true, Logger: cfg.Logger})
	c := reachable(t, cfg.Store+ControlSuffix)
	other := taking
	other.Store, other.Control = makeStore(t).Store, cfg.Store+ControlSuffix
	require.ErrorContains(t, Run(t.Context(), other), "has store")
	other.Store = filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(other.Store, make([]byte, 1<<20), 0o600))
	require.ErrorContains(t, Run(t.Context(), other), "nothing was taken over: "+other.Store+": no store on this device")
	ln, err := net.Listen("tcp", "localhost:0")
	require.NoError(t, err)
	defer ln.Close()
	other = taking
	other.Metrics = Address{"tcp", ln.Addr().String()}
	require.ErrorContains(t, Run(t.Context(), other), "nothing was taken over: metrics: ")
	require.NoError(t, ask(t, c, admin.VerbCreate, 1), "it goes on")
	cancel()
	require.NoError(t, <-done)

	path, next := managed(t)
	t.Setenv("NOTIFY_SOCKET", path)
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	done = begin(ctx, Config{Paths: cfg.Paths, Serve: true, Logger: cfg.Logger})
	require.Equal(t, "READY=1", next())
	err = Run(t.Context(), taking)
	require.ErrorIs(t, err, store.ErrInUse)
	require.ErrorContains(t, err, ": it was started by a service manager, which would start it again")
	cancel()
	require.NoError(t, <-done)
	require.NoFileExists(t, cfg.Store+ControlSuffix)
	require.NoFileExists(t, cfg.Store+ClientsSuffix)
}

// The sockets of a server that was taken over are removed by the one that ends last. A
// server that cannot open the store after the other has let go says what to do.
func TestTakeoverOfSockets(t *testing.T) {
	cfg := makeStore(t)
	serving := Config{Paths: cfg.Paths, Serve: true, Logger: cfg.Logger}
	taking := serving
	taking.TakeOver = true
	first := begin(t.Context(), serving)
	c := reachable(t, cfg.Store+ControlSuffix)
	require.NoError(t, ask(t, c, admin.VerbCreate, 1))
	ctx, cancel := context.WithCancel(t.Context())
	second := begin(ctx, taking)
	require.NoError(t, <-first)
	require.FileExists(t, cfg.Store+ControlSuffix)
	c = reachable(t, cfg.Store+ControlSuffix)
	r, err := c.Do(t.Context(), admin.Request{Verb: admin.VerbList})
	require.NoError(t, err)
	require.Equal(t, block.Tag(1), r.List[0].Tag)
	cancel()
	require.NoError(t, <-second)
	require.NoFileExists(t, cfg.Store+ControlSuffix)
	require.NoFileExists(t, cfg.Store+ClientsSuffix)

	first = begin(t.Context(), serving)
	require.NoError(t, reachable(t, cfg.Store+ControlSuffix).Close()) // or its first request is waited for
	lacking := taking
	lacking.Meta = filepath.Join(t.TempDir(), "other")
	copied, err := os.ReadFile(cfg.Store)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(lacking.Meta, copied[:1<<20], 0o600)) // so that all looks well before
	err = Run(t.Context(), lacking)
	require.ErrorContains(t, err, "the server that ran has ended: start one that can open the store (\"ddsnap server "+cfg.Store+"\"")
	require.NoError(t, <-first)
	devs, err := OpenDevices(cfg.Paths, Access{})
	require.NoError(t, err, "nobody has it")
	require.NotErrorIs(t, devs.Close(), device.ErrInUse)
}
