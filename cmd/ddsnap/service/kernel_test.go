// SPDX-License-Identifier: Apache-2.0

package service

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/ring"
)

// A file that root has put a loop device on is known by sysfs.
func TestFilesBehindLoopDevices(t *testing.T) {
	sys, file := t.TempDir(), filepath.Join(t.TempDir(), "store")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.False(t, isBehindLoop(file, sys))
	dir := filepath.Join(sys, "block/loop3/loop")
	require.NoError(t, os.MkdirAll(dir, 0o700))
	backing := filepath.Join(dir, "backing_file")
	require.NoError(t, os.WriteFile(backing, []byte("/elsewhere\n"), 0o600))
	require.False(t, isBehindLoop(file, sys))
	require.NoError(t, os.WriteFile(backing, []byte(file+"\n"), 0o600))
	require.True(t, isBehindLoop(file, sys))
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(file, link))
	require.True(t, isBehindLoop(link, sys))
	require.True(t, isBehindLoop(filepath.Join(sys, "none"), sys), "it cannot be told")
}

func TestWhoServesTheKernel(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	_, err := (&Config{Kernel: KernelRequired, Logger: log}).ServesKernel()
	require.ErrorContains(t, err, "page cache")
	serves, err := (&Config{Kernel: KernelOff, Direct: true, Logger: log}).ServesKernel()
	require.NoError(t, err)
	require.False(t, serves)
	if ring.Present() {
		return
	}
	serves, err = (&Config{Kernel: KernelAuto, Direct: true, Logger: log}).ServesKernel()
	require.NoError(t, err)
	require.False(t, serves)
}
