// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/engine/admin"
)

// environment returns what os.Getenv does for a process of that environment.
func environment(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

// managed returns a socket on which a service manager hears, and the next thing that
// it hears.
func managed(t *testing.T) (path string, next func() string) {
	path = filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return path, func() string {
		p := make([]byte, 256)
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
		n, err := conn.Read(p)
		require.NoError(t, err)
		return string(p[:n])
	}
}

func TestTellsTheManager(t *testing.T) {
	path, next := managed(t)
	t.Setenv("NOTIFY_SOCKET", path)
	cfg := makeStore(t)
	_, stop := start(t, cfg)
	require.Equal(t, "READY=1", next())
	require.NoError(t, stop())
	require.Equal(t, "STOPPING=1", next())
}

func TestSignsOfLife(t *testing.T) {
	path, next := managed(t)
	m, err := managedBy(environment(map[string]string{"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "2000"}))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	asked := make(chan struct{}, 1000)
	go func() {
		m.live(ctx, func() { asked <- struct{}{} })
		close(done)
	}()
	require.Equal(t, "WATCHDOG=1", next())
	<-asked
	cancel()
	<-done
	m, err = managedBy(environment(map[string]string{"WATCHDOG_USEC": "2000", "WATCHDOG_PID": "1"}))
	require.NoError(t, err)
	require.Zero(t, m.watchdog, "another process is watched")
}

func TestListenersOfTheManager(t *testing.T) {
	own := strconv.Itoa(os.Getpid())
	for _, n := range []string{"-1", "x", "17", ""} {
		_, err := managedBy(environment(map[string]string{"LISTEN_PID": own, "LISTEN_FDS": n}))
		require.ErrorContains(t, err, "LISTEN_FDS")
	}
	m, err := managedBy(environment(map[string]string{"LISTEN_PID": "1", "LISTEN_FDS": "3"}))
	require.NoError(t, err)
	require.Empty(t, m.listeners, "they are another process's")

	path := filepath.Join(t.TempDir(), "control")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	require.NoError(t, err)
	f, err := ln.File()
	require.NoError(t, err)
	fd, err := unix.Dup(int(f.Fd()))
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.NoError(t, m.take(fd, "control"))
	require.Nil(t, m.listener("nbd"))
	got := m.listener("control")
	require.Equal(t, path, got.Addr().String())
	require.Nil(t, m.listener("control"), "it was given away")
	require.NoError(t, got.Close())
	require.FileExists(t, path, "the socket is the manager's")
	require.NoError(t, ln.Close())

	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer w.Close()
	fd, err = unix.Dup(int(r.Fd()))
	require.NoError(t, err)
	require.NoError(t, r.Close())
	require.Error(t, m.take(fd, "pipe"))
}

func TestMetrics(t *testing.T) {
	cfg := makeStore(t)
	cfg.Metrics = Address{"unix", cfg.Store + ".metrics"}
	control, stop := start(t, cfg)
	require.NoError(t, ask(t, control, admin.VerbCreate, 1))
	c := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", cfg.Metrics.Address)
		},
	}}
	r, err := c.Get("http://store/metrics")
	require.NoError(t, err)
	text, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	require.NoError(t, r.Body.Close())
	for _, m := range metrics {
		require.Contains(t, string(text), "\nddsnap_"+m.name+"{store=\"", m.name)
		require.Equal(t, m.kind == counter, strings.HasSuffix(m.name, "_total"), m.name)
	}
	require.Regexp(t, `ddsnap_snapshots\{store="[^"]+"\} 1\n`, string(text))
	require.NoError(t, stop())
}

// TestUnits has systemd read the units that are shipped.
func TestUnits(t *testing.T) {
	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd-analyze")
	}
	units, err := filepath.Glob("../../../packaging/systemd/*")
	require.NoError(t, err)
	require.NotEmpty(t, units)
	dir := t.TempDir()
	for _, u := range units {
		text, err := os.ReadFile(u)
		require.NoError(t, err)
		text = []byte(strings.ReplaceAll(string(text), "/usr/bin/ddsnap", "/bin/true"))
		require.NoError(t, os.WriteFile(filepath.Join(dir, strings.Replace(filepath.Base(u), "@", "@vm", 1)), text, 0o600))
	}
	out, err := exec.Command(tool, "verify", "--man=no", filepath.Join(dir, "ddsnap@vm.service"), filepath.Join(dir, "ddsnap@vm.socket")).CombinedOutput()
	require.NoError(t, err, string(out))
	for line := range strings.Lines(string(out)) {
		require.NotContains(t, line, dir, "a warning about a unit")
	}
}
