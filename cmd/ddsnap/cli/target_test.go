// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/admin"
)

// named is a server that says which store it has, and nothing else.
type named string

func (n named) Do(context.Context, admin.Request) (admin.Response, error) {
	return admin.Response{Status: &admin.Status{UUID: string(n)}}, nil
}

func TestServerIsFoundAmongOthers(t *testing.T) {
	dir := t.TempDir()
	serve := func(name, uuid string) string {
		path := filepath.Join(dir, name)
		ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		s := &admin.Server{Manager: named(uuid), Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
		go func() {
			defer close(done)
			_ = s.Serve(ctx, ln)
		}()
		t.Cleanup(func() {
			cancel()
			<-done
		})
		return path
	}
	sockets := []string{filepath.Join(dir, "dead.control"), serve("a.control", "one"), serve("b.control", "two")}

	client, socket := serverAmong(t.Context(), "two", sockets)
	require.NotNil(t, client)
	require.Equal(t, sockets[2], socket)
	r, err := client.Do(t.Context(), admin.Request{Verb: admin.VerbStatus})
	require.NoError(t, err)
	require.Equal(t, "two", r.Status.UUID)
	require.NoError(t, client.Close())

	client, _ = serverAmong(t.Context(), "three", sockets)
	require.Nil(t, client)
}
