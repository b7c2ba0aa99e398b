// SPDX-License-Identifier: Apache-2.0

package service

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/nbd"
	"zumastor.org/zumastor/engine/nbd/nbdclient"
	"zumastor.org/zumastor/engine/nbd/wire"
	"zumastor.org/zumastor/engine/store"
)

const chunk = 4096

// makeStore makes an origin of 256 chunks with a store, and returns what serves
// them.
func makeStore(t *testing.T) Config {
	dir := t.TempDir()
	cfg := Config{
		Paths: Paths{Store: filepath.Join(dir, "store")}, Origin: filepath.Join(dir, "origin"),
		Logger: slog.New(slog.DiscardHandler),
	}
	for path, size := range map[string]int64{cfg.Store: 8 << 20, cfg.Origin: 256 * chunk} {
		f, err := device.OpenFile(path, device.FileOptions{Create: size})
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	devs, err := OpenDevices(cfg.Paths, Access{Placement: layout.PlacementInline})
	require.NoError(t, err)
	_, err = store.Format(devs.Devices, store.FormatOptions{OriginSize: 256 * chunk, ChunkSize: chunk})
	require.NoError(t, err)
	require.NoError(t, devs.Close())
	return cfg
}

// ask makes a request about a snapshot.
func ask(t *testing.T, m admin.Manager, v admin.Verb, tag block.Tag) error {
	r := admin.Request{Verb: v, Snapshot: &admin.Ref{Tag: tag}}
	if v == admin.VerbCreate {
		r = admin.Request{Verb: v, New: &admin.NewSnapshot{Tag: tag}}
	}
	_, err := m.Do(t.Context(), r)
	return err
}

// start runs the service until stop, which returns what it returned.
func start(t *testing.T, cfg Config) (control *admin.Client, stop func() error) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, cfg) }()
	var client *admin.Client
	require.Eventually(t, func() (ok bool) {
		var err error
		client, err = admin.Dial(ctx, cfg.Store+ControlSuffix)
		return err == nil
	}, 10*time.Second, time.Millisecond)
	var once sync.Once
	stop = func() (err error) {
		once.Do(func() {
			_ = client.Close()
			cancel()
			err = <-done
		})
		return err
	}
	t.Cleanup(func() { _ = stop() })
	return client, stop
}

func dial(t *testing.T, cfg Config, export string, contexts ...string) *nbdclient.Client {
	c, err := nbdclient.Dial("unix", cfg.Store+NBDSuffix, export, nbdclient.Options{Contexts: contexts})
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestSnapshotsUnderWrites takes and deletes snapshots while clients write, and
// stops with clients attached.
func TestSnapshotsUnderWrites(t *testing.T) {
	cfg := makeStore(t)
	control, stop := start(t, cfg)
	var writers sync.WaitGroup
	halt := make(chan struct{})
	for w := range 3 {
		c := dial(t, cfg, OriginExport)
		writers.Go(func() {
			p := make([]byte, chunk)
			for i := int64(w); ; i += 3 {
				select {
				case <-halt:
					return
				default:
				}
				p[0]++
				if _, err := c.WriteAt(p, i%256*chunk); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for tag := block.Tag(1); tag <= 8; tag++ {
		err := ask(t, control, admin.VerbCreate, tag)
		require.NoError(t, err)
		s := dial(t, cfg, "snapshot/"+string('0'+rune(tag)))
		first, again := make([]byte, s.Size()), make([]byte, s.Size())
		_, err = s.ReadAt(first, 0)
		require.NoError(t, err)
		_, err = s.ReadAt(again, 0)
		require.NoError(t, err)
		require.True(t, bytes.Equal(first, again), "a snapshot does not change")
		require.ErrorIs(t, ask(t, control, admin.VerbDelete, tag), store.ErrInUse)
		require.NoError(t, s.Close())
		if tag%2 == 0 {
			require.Eventually(t, func() bool { return ask(t, control, admin.VerbDelete, tag) == nil }, 10*time.Second, time.Millisecond)
		}
	}
	close(halt)
	writers.Wait()
	require.NoError(t, stop())
	require.NoFileExists(t, cfg.Store+NBDSuffix)
	require.NoFileExists(t, cfg.Store+ControlSuffix)

	devs, err := OpenDevices(cfg.Paths, Access{ReadOnly: true})
	require.NoError(t, err)
	require.True(t, devs.Superblock().Clean)
	require.NoError(t, devs.Close())
}

func TestDirtyBitmaps(t *testing.T) {
	cfg := makeStore(t)
	control, _ := start(t, cfg)
	err := ask(t, control, admin.VerbCreate, 1)
	require.NoError(t, err)
	since := nbd.DirtyContext("since-1")
	c := dial(t, cfg, OriginExport, since)
	_, err = c.WriteAt(make([]byte, 512), 7*chunk)
	require.NoError(t, err)

	got, err := c.BlockStatus(since, 1024, 8*chunk)
	require.NoError(t, err)
	require.Equal(t, []nbdclient.Extent{{Length: 7*chunk - 1024}, {Length: chunk, Flags: wire.StateDirty}, {Length: 1024}}, got)

	require.NoError(t, ask(t, control, admin.VerbDelete, 1))
	_, err = c.BlockStatus(since, 0, 8*chunk)
	require.ErrorIs(t, err, wire.EIO, "a deleted snapshot's bitmap is an error, not clean")
}

func TestHoles(t *testing.T) {
	cfg := makeStore(t)
	start(t, cfg)
	c := dial(t, cfg, OriginExport, wire.ContextAllocation)
	_, err := c.WriteAt(bytes.Repeat([]byte{1}, 64<<10), 128<<10)
	require.NoError(t, err)
	require.NoError(t, c.Flush())
	got, err := c.BlockStatus(wire.ContextAllocation, 0, c.Size())
	require.NoError(t, err)
	hole := wire.StateHole | wire.StateZero
	require.Equal(t, []nbdclient.Extent{{Length: 128 << 10, Flags: hole}, {Length: 64 << 10}, {Length: 256*chunk - 192<<10, Flags: hole}}, got)
}

func TestStartFails(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*testing.T, *Config)
		want   string
	}{
		"no origin": {func(_ *testing.T, c *Config) { c.Origin += "x" }, "no such file"},
		"no store":  {func(_ *testing.T, c *Config) { c.Store += "x" }, "no such file"},
		"small origin": {func(t *testing.T, c *Config) {
			require.NoError(t, os.Truncate(c.Origin, chunk))
		}, "is it the right device"},
		"socket is a file": {func(_ *testing.T, c *Config) { c.Control = c.Origin }, "address already in use"},
		"long socket": {func(_ *testing.T, c *Config) {
			c.Listen = Address{"unix", "/" + strings.Repeat("x", maxSocketPath)}
		}, "--listen"},
		"bad host": {func(_ *testing.T, c *Config) { c.Listen = Address{"tcp", "256.0.0.1:0"} }, "256.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := makeStore(t)
			whole := cfg
			tt.change(t, &cfg)
			require.ErrorContains(t, Run(t.Context(), cfg), tt.want)
			devs, err := OpenDevices(whole.Paths, Access{})
			require.NoError(t, err, "all locks are gone")
			require.NoError(t, devs.Close())
		})
	}
}

func TestParseAddress(t *testing.T) {
	for in, want := range map[string]Address{
		"unix:sock": {"unix", "sock"}, "./sock": {"unix", "./sock"}, "/run/sock": {"unix", "/run/sock"},
		"localhost:10809": {"tcp", "localhost:10809"}, ":0": {"tcp", ":0"}, "[::1]:1": {"tcp", "[::1]:1"},
	} {
		got, err := ParseAddress(in)
		require.NoError(t, err, in)
		require.Equal(t, want, got)
	}
	for _, in := range []string{"", "unix:", "sock", "localhost", "::1"} {
		_, err := ParseAddress(in)
		require.Error(t, err, in)
	}
	bound := &net.TCPAddr{IP: net.IPv6loopback, Port: 7}
	require.Equal(t, "nbd://[::1]:7/origin", Address{"tcp", ":0"}.URI(bound, "origin", false))
	require.Equal(t, "nbds+unix:///origin?socket=/s", Address{"unix", "/s"}.URI(bound, "origin", true))
}

func TestSocketOfADevice(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", "/run/user/1")
	got, err := Socket("/dev/null", NBDSuffix)
	require.NoError(t, err)
	require.Contains(t, got, "/ddsnap/null.nbd")
	path := filepath.Join(t.TempDir(), "store")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.NoError(t, os.Symlink(path, path+".link"))
	got, err = Socket(path+".link", ControlSuffix)
	require.NoError(t, err)
	require.Equal(t, path+".control", got, "the same by whatever name")
	_, err = Socket(path+".absent", ControlSuffix)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestUnaligned(t *testing.T) {
	path := filepath.Join(t.TempDir(), "region")
	want := make([]byte, 4096)
	for i := range want {
		want[i] = byte(i / 16)
	}
	require.NoError(t, os.WriteFile(path, want, 0o600))
	f, err := device.OpenFile(path, device.FileOptions{ReadOnly: true})
	require.NoError(t, err)
	defer f.Close()
	for _, r := range [][2]int{{0, 64}, {500, 24}, {511, 2}, {4032, 64}, {64, 4032}, {0, 4096}} {
		got := make([]byte, r[1])
		_, err := unaligned{f}.ReadAt(got, int64(r[0]))
		require.NoError(t, err)
		require.Equal(t, want[r[0]:r[0]+r[1]], got)
	}
	_, err = unaligned{f}.ReadAt(make([]byte, 64), 4064)
	require.Error(t, err)
	var _ io.ReaderAt = unaligned{f}
}
