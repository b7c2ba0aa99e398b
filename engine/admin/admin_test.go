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
	"math"
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
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/server"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/wire"
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
			m, ctx := over(t, Local{Store: s, Volume: func() Volume { return Volume{Reads: 1, WrittenBytes: 2} }}), t.Context()

			do := func(v Verb, ref *Ref) (Response, error) { return m.Do(ctx, Request{Verb: v, Snapshot: ref}) }
			create := func(n NewSnapshot) (Response, error) { return m.Do(ctx, Request{Verb: VerbCreate, New: &n}) }

			r, err := do(VerbList, nil)
			require.NoError(t, err)
			require.Empty(t, r.List)
			for _, tag := range []block.Tag{0, 1<<32 - 1} {
				r, err := create(NewSnapshot{Tag: tag})
				require.NoError(t, err)
				require.Equal(t, tag, r.Snapshot.Tag)
				require.Equal(t, time.Unix(7, 0).UTC(), r.Snapshot.Created)
			}
			_, err = create(NewSnapshot{})
			require.ErrorIs(t, err, store.ErrExists)
			_, err = do(VerbDelete, &Ref{Tag: 5})
			require.ErrorIs(t, err, store.ErrNoSnapshot)
			opened, err := s.OpenSnapshot(wire.SnapshotRef{Tag: 0}, false, rig.Passive{})
			require.NoError(t, err)
			_, err = do(VerbDelete, &Ref{})
			require.ErrorIs(t, err, store.ErrInUse)

			r, err = do(VerbList, nil)
			require.NoError(t, err)
			require.Equal(t, []Snapshot{
				{Tag: 0, Generation: 1, State: "live", Created: time.Unix(7, 0).UTC(), Size: 1 << 20, Readers: 1},
				{Tag: 1<<32 - 1, Generation: 2, State: "live", Created: time.Unix(7, 0).UTC(), Size: 1 << 20},
			}, r.List)
			require.NoError(t, s.CloseSnapshot(opened.Handle))
			_, err = do(VerbDelete, &Ref{})
			require.NoError(t, err)

			r, err = do(VerbStatus, nil)
			require.NoError(t, err)
			require.Equal(t, 1, r.Status.Snapshots)
			require.Equal(t, 1, r.Status.BeingFreed)
			require.Equal(t, 4096, r.Status.ChunkSize)
			require.Equal(t, s.UUID().String(), r.Status.UUID)
			require.Equal(t, Volume{Reads: 1, WrittenBytes: 2}, *r.Status.Volume)
			r, err = do(VerbSharing, nil)
			require.NoError(t, err)
			require.Equal(t, []Sharing{{Tag: 1<<32 - 1, Chunks: make([]uint64, store.SharingClasses)}}, r.Sharing)

			name, priority, held := "last", int8(-5), true
			change := func(c Change) (Response, error) {
				return m.Do(ctx, Request{Verb: VerbChange, Snapshot: &Ref{Tag: 1<<32 - 1}, Change: &c})
			}
			r, err = change(Change{Name: &name, Priority: &priority, Held: &held, Uses: 2})
			require.NoError(t, err)
			want := Snapshot{
				Tag: 1<<32 - 1, Name: "last", Generation: 2, State: "live", Held: true, Priority: -5, UseCount: 2,
				Created: time.Unix(7, 0).UTC(), Size: 1 << 20,
			}
			require.Equal(t, want, *r.Snapshot)
			for _, uses := range []int64{-3, 1<<32 - 2, math.MinInt64, math.MaxInt64} {
				_, err = change(Change{Uses: uses})
				require.ErrorIs(t, err, ErrRequest)
			}
			r, err = do(VerbList, nil)
			require.NoError(t, err)
			require.Equal(t, []Snapshot{want}, r.List)
			_, err = do(VerbDelete, &Ref{Name: "last"})
			require.ErrorIs(t, err, store.ErrHeld)
			r, err = create(NewSnapshot{Tag: 3, Parent: &Ref{Name: "last"}, Name: "child", Priority: 1})
			require.NoError(t, err)
			require.Equal(t, want.Generation, r.Snapshot.Parent)

			r, err = m.Do(ctx, Request{Verb: VerbEvents, Events: &EventQuery{}})
			require.NoError(t, err)
			last := r.Events[len(r.Events)-1]
			require.Equal(t, `created snapshot 3 "child"`, last.Line)
			require.Equal(t, block.Tag(3), *last.Tag)
			go func() { _, _ = s.CreateSnapshot(4) }()
			r, err = m.Do(ctx, Request{Verb: VerbEvents, Events: &EventQuery{Since: last.Number, Wait: true}})
			require.NoError(t, err)
			require.Equal(t, "created", r.Events[0].Kind)

			_, err = do(VerbDelete, nil)
			require.ErrorIs(t, err, ErrRequest, "whoever asks")
		})
	}
}

// failing is a Manager whose requests fail, but for those for the status, which
// never end by themselves.
type failing struct{ err error }

func (f failing) Do(ctx context.Context, r Request) (Response, error) {
	if r.Verb == VerbStatus {
		<-ctx.Done()
		return Response{}, ctx.Err()
	}
	return Response{}, f.err
}

// remove asks for the deletion of a snapshot.
func remove(t *testing.T, m Manager) error {
	_, err := m.Do(t.Context(), Request{Verb: VerbDelete, Snapshot: &Ref{Tag: 1}})
	return err
}

func TestErrorsKeepTheirKind(t *testing.T) {
	for kind, sentinel := range map[Kind]error{
		KindExists: store.ErrExists, KindAbsent: store.ErrNoSnapshot, KindInUse: store.ErrInUse, KindHeld: store.ErrHeld,
		KindParent: store.ErrHasSnapshots, KindSquashed: store.ErrSquashed, KindName: store.ErrName, KindReadOnly: store.ErrReadOnly,
		KindFailed: store.ErrFailed, KindNoSpace: alloc.ErrNoSpace, KindCorrupt: layout.ErrCorrupt, KindOther: io.ErrNoProgress,
	} {
		t.Run(string(kind), func(t *testing.T) {
			sent := fmt.Errorf("about a store: %w", sentinel)
			err := remove(t, dial(t, serve(t, failing{err: sent})))
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
	_, err := c.Do(ctx, Request{Verb: VerbStatus})
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestHostileRequests(t *testing.T) {
	path := serve(t, failing{})
	for name, tt := range map[string]struct{ send, want string }{
		"not JSON":          {"hello\n", "bad-request"},
		"unknown verb":      {`{"verb":"format"}` + "\n", `unknown verb \"format\"`},
		"unknown member":    {`{"verb":"list","force":true}` + "\n", "force"},
		"no snapshot":       {`{"verb":"delete"}` + "\n", "needs a snapshot"},
		"no new snapshot":   {`{"verb":"create"}` + "\n", "needs a new snapshot"},
		"no change":         {`{"verb":"change","snapshot":{"tag":1}}` + "\n", "needs a change"},
		"not recursive":     {`{"verb":"list","recursive":true}` + "\n", "does not take recursive"},
		"one too many":      {`{"verb":"list","snapshot":{"tag":1}}` + "\n", "does not take a snapshot"},
		"negative tag":      {`{"verb":"delete","snapshot":{"tag":-1}}` + "\n", "bad-request"},
		"tag over 32 bits":  {`{"verb":"delete","snapshot":{"tag":4294967296}}` + "\n", "bad-request"},
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
			_, err = dial(t, path).Do(t.Context(), Request{Verb: VerbCreate, New: &NewSnapshot{Tag: 1}})
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
		require.ErrorContains(t, remove(t, dial(t, path)), io.ErrNoProgress.Error())
	}
	require.ErrorContains(t, remove(t, dial(t, path)), "too many connections")
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"verb":"delete","snapshot":{"tag":7},"recursive":true}`))
	f.Add([]byte(`{"verb":"create","new":{"tag":7,"name":"a","parent":{"tag":1}}}`))
	f.Add([]byte(`{"verb":"change","snapshot":{"name":"a"},"change":{"uses":1}}`))
	f.Add([]byte(`{"verb":"list"}`))
	f.Add([]byte(`{"verb":`))
	f.Fuzz(func(t *testing.T, line []byte) {
		req, err := DecodeRequest(line)
		if err != nil {
			require.ErrorIs(t, err, ErrRequest)
			return
		}
		require.NoError(t, req.Check())
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
