// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAwaitCut(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "cut")
	ctx, cancel := context.WithCancel(t.Context())
	cut := make(chan error)
	go func() { cut <- AwaitCut(ctx, dir) }()
	require.NoError(t, os.WriteFile(name, nil, 0o600), "not written to yet")
	require.NoError(t, os.WriteFile(name, []byte("5\n"), 0o600))
	require.NoError(t, <-cut)
	require.NoFileExists(t, name)

	require.NoError(t, os.WriteFile(name, []byte("soon\n"), 0o600))
	require.ErrorContains(t, AwaitCut(ctx, dir), "cut")
	require.NoError(t, os.Remove(name))
	cancel()
	require.ErrorIs(t, AwaitCut(ctx, dir), context.Canceled)
}

func TestNextMachineHasTheSameDisks(t *testing.T) {
	cfg := testConfig(t)
	cfg.Disks = []Disk{{Name: "d", Size: 1 << 20}}
	require.NoError(t, prepare(cfg))
	require.NoError(t, os.WriteFile(cfg.diskFile("d"), []byte("kept"), 0o600))
	require.False(t, WantsAgain(cfg.Dir))
	require.NoError(t, os.WriteFile(filepath.Join(cfg.Dir, "again"), nil, 0o600))
	require.True(t, WantsAgain(cfg.Dir))
	require.False(t, WantsAgain(cfg.Dir))

	cfg.Again = true
	require.NoError(t, prepare(cfg))
	left, err := os.ReadFile(cfg.diskFile("d"))
	require.NoError(t, err)
	require.Equal(t, "kept", string(left))
	require.Contains(t, strings.Join(arguments(cfg), " "), "cache=none")
	cfg.Again = false
	require.NoError(t, prepare(cfg))
	left, err = os.ReadFile(cfg.diskFile("d"))
	require.NoError(t, err)
	require.NotContains(t, string(left), "kept")
}
