// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestProcessOf(t *testing.T) {
	t.Chdir(t.TempDir()) // a socket's path is short
	dir, err := os.Getwd()
	require.NoError(t, err)
	path := filepath.Join(dir, "control")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	for _, name := range []string{"control", path} {
		process, err := ProcessOf(name)
		require.NoError(t, err)
		require.Equal(t, os.Getpid(), process)
		process, err = holderOf(name)
		require.NoError(t, err)
		require.Equal(t, os.Getpid(), process)
	}
	require.NoError(t, l.Close())
	_, err = ProcessOf("control")
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = holderOf("control")
	require.EqualError(t, err, "no process listens at control")
}
