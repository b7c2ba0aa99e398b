// SPDX-License-Identifier: Apache-2.0

package device

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMapping(t *testing.T) {
	path := filepath.Join(t.TempDir(), "region")
	require.NoError(t, os.WriteFile(path, make([]byte, 3*4096+100), 0o600))
	m, err := OpenRegion(path)
	require.NoError(t, err)
	if ok, why := m.Direct(); !ok {
		require.NotEmpty(t, why)
	}
	require.EqualValues(t, 3*4096+100, m.Size())
	p := bytes.Repeat([]byte{7}, 5000)
	_, err = m.WriteAt(p, 4001)
	require.NoError(t, err)
	require.NoError(t, m.Persist(4001, 5000))
	require.NoError(t, m.Persist(m.Size(), 0))
	got := make([]byte, 5000)
	_, err = m.ReadAt(got, 4001)
	require.NoError(t, err)
	require.Equal(t, p, got)

	_, err = m.WriteAt(p, m.Size()-4999)
	require.ErrorIs(t, err, ErrRange)
	_, err = m.ReadAt(p, -1)
	require.ErrorIs(t, err, ErrRange)
	require.ErrorIs(t, m.Persist(0, m.Size()+1), ErrRange)
	_, err = OpenRegion(path)
	require.ErrorIs(t, err, ErrInUse)

	require.NoError(t, m.Close())
	require.ErrorIs(t, m.Persist(0, 1), ErrClosed)
	require.ErrorIs(t, m.Close(), ErrClosed)
	file, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, p, file[4001:9001])
}

func TestMappingRefusesEmptyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "region")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	_, err := OpenRegion(path)
	require.ErrorContains(t, err, path+": is empty")
}

// TestWriteBackLeavesContent runs the instructions on ordinary memory, at every
// alignment, up to its last byte.
func TestWriteBackLeavesContent(t *testing.T) {
	if writeBack == nil {
		t.Skip("no instructions to write back cache lines")
	}
	p := Buffer(4096)
	for i := range p {
		p[i] = byte(i)
	}
	for skew := range 130 {
		for _, n := range []int{1, 63, 64, 65, 1000, len(p) - skew} {
			writeBack(p[skew : skew+n])
		}
	}
	for i := range p {
		require.Equal(t, byte(i), p[i])
	}
}
