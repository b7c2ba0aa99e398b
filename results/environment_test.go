// SPDX-License-Identifier: Apache-2.0

package results

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCollectEnvironment(t *testing.T) {
	e := CollectEnvironment(t.TempDir())
	require.Contains(t, e.Kernel, "Linux ")
	require.NotZero(t, e.CPUs)
	require.NotZero(t, e.MemoryBytes)
	require.NotEmpty(t, e.Go)
	require.NotEmpty(t, e.LoadStart)
	require.NotEmpty(t, e.Storage.FileSystem)
}

func TestCollectEnvironmentOfNothing(t *testing.T) {
	e := CollectEnvironment(t.TempDir() + "/gone")
	require.False(t, e.Storage.Direct)
	require.NotEmpty(t, e.Kernel)
}

func TestParseMount(t *testing.T) {
	m, ok := parseMount(`36 35 98:0 /root /a\040b rw,noatime master:1 - ext4 /dev/vda rw` + "\n")
	require.True(t, ok)
	require.Equal(t, mount{device: "98:0", point: "/a b", kind: "ext4", options: "rw,noatime"}, m)
	for _, line := range []string{"", "36 35 - ext4", "36 35 98:0 / /a rw"} {
		_, ok := parseMount(line)
		require.False(t, ok, line)
	}
	require.True(t, holds("/", "/a"))
	require.True(t, holds("/a", "/a"))
	require.False(t, holds("/a", "/ab"))
}
