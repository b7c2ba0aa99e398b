// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"zumastor.org/zumastor/engine/alloc"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/server"
	"zumastor.org/zumastor/engine/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve serves m on a socket, whose path it returns, until the test ends.
func serve(t *testing.T, m Manager) string {
	path := filepath.Join(t.TempDir(), "control")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	s := Server{Manager: m, Logger: slog.New(slog.DiscardHandler)}
	go func() { done <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return path
}

func dial(t *testing.T, path string) *Client {
	c, err := Dial(t.Context(), path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func openStore(t *testing.T) *server.Server {
	devs := placement.Devices{Store: memdev.NewVolatile(8 << 20)}
	_, err := store.Format(devs, store.FormatOptions{OriginSize: 1 << 20, ChunkSize: 4096, Created: 5e9})
	require.NoError(t, err)
	s, err := server.Open(devs, server.Options{Manual: true, Store: store.Options{Now: func() int64 { return 7e9 }}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// TestManagers has the same conversation with both kinds of Manager.
func TestManagers(t *testing.T) {
	for name, over := range map[string]func(*testing.T, Local) Manager{
		"local":  func(_ *testing.T, l Local) Manager { return l },
		"socket": func(t *testing.T, l Local) Manager { return dial(t, serve(t, l)) },
	} {
		t.Run(name, func(t *testing.T) {
			s := openStore(t)
			m, ctx := over(t, Local{s}), t.Context()

			list, err := m.List(ctx)
			require.NoError(t, err)
			require.Empty(t, list)
			for _, tag := range []block.Tag{0, 1<<32 - 1} {
				snap, err := m.Create(ctx, tag)
				require.NoError(t, err)
				require.Equal(t, tag, snap.Tag)
				require.Equal(t, time.Unix(7, 0).UTC(), snap.Created)
			}
			_, err = m.Create(ctx, 0)
			require.ErrorIs(t, err, store.ErrExists)
			require.ErrorIs(t, m.Delete(ctx, 5), store.ErrNoSnapshot)
			opened, err := s.OpenSnapshot(0)
			require.NoError(t, err)
			require.ErrorIs(t, m.Delete(ctx, 0), store.ErrInUse)

			list, err = m.List(ctx)
			require.NoError(t, err)
			require.Equal(t, []Snapshot{
				{Tag: 0, Generation: 1, Created: time.Unix(7, 0).UTC(), Size: 1 << 20, Readers: 1},
				{Tag: 1<<32 - 1, Generation: 2, Created: time.Unix(7, 0).UTC(), Size: 1 << 20},
			}, list)
			s.CloseSnapshot(opened.Generation)
			require.NoError(t, m.Delete(ctx, 0))

			status, err := m.Status(ctx)
			require.NoError(t, err)
			require.Equal(t, 1, status.Snapshots)
			require.Equal(t, 1, status.BeingFreed)
			require.Equal(t, 4096, status.ChunkSize)
			require.Equal(t, s.UUID().String(), status.UUID)
			rows, err := m.Sharing(ctx)
			require.NoError(t, err)
			require.Equal(t, []Sharing{{Tag: 1<<32 - 1, Chunks: make([]uint64, store.SharingClasses)}}, rows)
		})
	}
}

// failing is a Manager whose Delete fails and whose Status never ends by itself.
type failing struct {
	Manager
	err error
}

func (f failing) Delete(context.Context, block.Tag) error { return f.err }
func (f failing) Status(ctx context.Context) (Status, error) {
	<-ctx.Done()
	return Status{}, ctx.Err()
}

func TestErrorsKeepTheirKind(t *testing.T) {
	for kind, sentinel := range map[Kind]error{
		KindExists: store.ErrExists, KindAbsent: store.ErrNoSnapshot, KindInUse: store.ErrInUse, KindReadOnly: store.ErrReadOnly,
		KindFailed: store.ErrFailed, KindNoSpace: alloc.ErrNoSpace, KindCorrupt: layout.ErrCorrupt, KindOther: io.ErrNoProgress,
	} {
		t.Run(string(kind), func(t *testing.T) {
			sent := fmt.Errorf("about a store: %w", sentinel)
			err := dial(t, serve(t, failing{err: sent})).Delete(t.Context(), 1)
			require.EqualError(t, err, sent.Error())
			require.Equal(t, kind, KindOf(err))
			require.Equal(t, kind != KindOther, errors.Is(err, sentinel))
		})
	}
}

func TestClientGivesUp(t *testing.T) {
	c := dial(t, serve(t, failing{}))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err := c.Status(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestHostileRequests(t *testing.T) {
	path := serve(t, failing{})
	for name, tt := range map[string]struct{ send, want string }{
		"not JSON":          {"hello\n", "bad-request"},
		"unknown verb":      {`{"verb":"format"}` + "\n", `unknown verb \"format\"`},
		"unknown member":    {`{"verb":"list","force":true}` + "\n", "force"},
		"missing tag":       {`{"verb":"create"}` + "\n", "needs a tag"},
		"superfluous tag":   {`{"verb":"list","tag":1}` + "\n", "takes no tag"},
		"negative tag":      {`{"verb":"create","tag":-1}` + "\n", "bad-request"},
		"tag over 32 bits":  {`{"verb":"create","tag":4294967296}` + "\n", "bad-request"},
		"two objects":       {`{"verb":"list"}{"verb":"list"}` + "\n", "follows"},
		"endless line":      {strings.Repeat(" ", maxRequest+1), "too long"},
		"unfinished line":   {`{"verb":"list"}`, ""},
		"nothing":           {"", ""},
		"deeply nested":     {strings.Repeat("[", 4000) + "\n", "bad-request"},
		"binary, then line": {"\x00\xff\n", "bad-request"},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("unix", path)
			require.NoError(t, err)
			defer conn.Close()
			_, err = io.WriteString(conn, tt.send)
			require.NoError(t, err)
			require.NoError(t, conn.(*net.UnixConn).CloseWrite())
			got, _ := bufio.NewReader(conn).ReadString('\n')
			require.Contains(t, got, tt.want)
			require.Equal(t, tt.want == "", got == "")
		})
	}
}

func TestNotAControlSocket(t *testing.T) {
	for name, tt := range map[string]struct{ greeting, want string }{
		"NBD":     {"NBDMAGICIHAVEOPT\x00\x03", "exports NBD"},
		"text":    {"220 smtp\n", ErrProtocol.Error()},
		"nothing": {"", ErrProtocol.Error()},
		"object":  {"{}\n", ErrProtocol.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "other")
			ln, err := net.Listen("unix", path)
			require.NoError(t, err)
			done := make(chan struct{})
			go func() {
				defer close(done)
				conn, err := ln.Accept()
				if err == nil {
					_, _ = io.WriteString(conn, tt.greeting)
					_, _ = bufio.NewReader(conn).ReadString('\n')
					_ = conn.Close()
				}
			}()
			_, err = dial(t, path).Create(t.Context(), 1)
			require.ErrorIs(t, err, ErrProtocol)
			require.ErrorContains(t, err, tt.want)
			_ = ln.Close()
			<-done
		})
	}
	_, err := Dial(t.Context(), filepath.Join(t.TempDir(), "absent"))
	require.ErrorContains(t, err, "connecting to the control socket")
}

func TestPeers(t *testing.T) {
	require.NoError(t, allow(1000, 1000))
	require.NoError(t, allow(0, 1000), "root may")
	require.Error(t, allow(1000, 0))
	require.Error(t, allow(1001, 1000))
}

func TestTooManyConnections(t *testing.T) {
	path := serve(t, failing{err: io.ErrNoProgress})
	for range maxConns {
		require.ErrorContains(t, dial(t, path).Delete(t.Context(), 1), io.ErrNoProgress.Error())
	}
	require.ErrorContains(t, dial(t, path).Delete(t.Context(), 1), "too many connections")
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"verb":"create","tag":7}`))
	f.Add([]byte(`{"verb":"list"}`))
	f.Add([]byte(`{"verb":`))
	f.Fuzz(func(t *testing.T, line []byte) {
		req, err := decodeRequest(line)
		if err != nil {
			require.ErrorIs(t, err, ErrRequest)
			return
		}
		require.Equal(t, req.Tag != nil, req.Verb == verbCreate || req.Verb == verbDelete)
	})
}

func TestReadLineBound(t *testing.T) {
	long := bytes.Repeat([]byte("x"), 10000)
	_, err := readLine(bufio.NewReader(bytes.NewReader(long)), 5000)
	require.ErrorIs(t, err, errTooLong)
	got, err := readLine(bufio.NewReader(bytes.NewReader(append(long, '\n'))), 10001)
	require.NoError(t, err)
	require.Len(t, got, 10001)
}
