// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Who has connected before a server ends is answered once, and whoever has been
// answered is not waited for.
func TestFirstRequestsOfAnEndingServerAreAnswered(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	server := Server{Manager: failing{err: io.ErrNoProgress}, Logger: slog.New(slog.DiscardHandler)}
	go func() { done <- server.Serve(ctx, ln) }()
	late, idle := dial(t, path), dial(t, path)
	require.ErrorContains(t, remove(t, idle), io.ErrNoProgress.Error(), "both are accepted now: in their order")
	cancel()
	require.ErrorContains(t, remove(t, late), io.ErrNoProgress.Error())
	require.NotContains(t, remove(t, late).Error(), io.ErrNoProgress.Error(), "once only")
	require.NoError(t, <-done)
	require.NotContains(t, remove(t, idle).Error(), io.ErrNoProgress.Error())
}
