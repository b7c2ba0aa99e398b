// SPDX-License-Identifier: Apache-2.0

package device_test

import (
	"bytes"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/device"
)

// TestRoles opens a file in every pair of ways.
func TestRoles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	made, err := device.OpenFile(path, device.FileOptions{Create: 1 << 20})
	require.NoError(t, err)
	require.NoError(t, made.Close())
	ways := map[string]device.FileOptions{
		"alone": {}, "reader": {ReadOnly: true}, "server": {Role: device.Server}, "origin": {Role: device.Origin},
		"snapshots": {Role: device.Snapshots},
	}
	together := map[[2]string]bool{
		{"reader", "reader"}: true, {"server", "origin"}: true, {"server", "snapshots"}: true,
		{"origin", "snapshots"}: true, {"snapshots", "snapshots"}: true,
	}
	for a := range ways {
		for b := range ways {
			first, err := device.OpenFile(path, ways[a])
			require.NoError(t, err)
			second, err := device.OpenFile(path, ways[b])
			if together[[2]string{a, b}] || together[[2]string{b, a}] {
				require.NoError(t, err, "%s, then %s", a, b)
				require.NoError(t, second.Close())
			} else {
				require.ErrorIs(t, err, device.ErrInUse, "%s, then %s", a, b)
			}
			require.NoError(t, first.Close())
		}
	}
	_, err = device.OpenFile(path, device.FileOptions{ReadOnly: true, Role: device.Snapshots})
	require.ErrorContains(t, err, "read-only")
}

// TestPatience: who reads is waited for, who writes is not.
func TestPatience(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	reader, err := device.OpenFile(path, device.FileOptions{Create: 1 << 20})
	require.NoError(t, err)
	require.NoError(t, reader.Close())
	for _, role := range []device.Role{device.Alone, device.Server, device.Origin, device.Snapshots} {
		reader, err := device.OpenFile(path, device.FileOptions{ReadOnly: true})
		require.NoError(t, err)
		_, err = device.OpenFile(path, device.FileOptions{Role: role, Patience: time.Millisecond})
		require.ErrorIs(t, err, device.ErrInUse, "it reads for longer")
		time.AfterFunc(20*time.Millisecond, func() { reader.Close() })
		writer, err := device.OpenFile(path, device.FileOptions{Role: role, Patience: time.Hour})
		require.NoError(t, err, "role %d", role)
		_, err = device.OpenFile(path, device.FileOptions{Patience: time.Hour})
		require.ErrorIs(t, err, device.ErrInUse, "role %d", role)
		require.NoError(t, writer.Close())
	}
}

// TestUnlocked: who takes no lock reads what another has, and is in nobody's way.
func TestUnlocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "origin")
	writer, err := device.OpenFile(path, device.FileOptions{Create: 4096})
	require.NoError(t, err)
	content := bytes.Repeat([]byte("written "), 64)
	_, err = writer.WriteAt(content, 0)
	require.NoError(t, err)
	reader, err := device.OpenFile(path, device.FileOptions{ReadOnly: true, Unlocked: true})
	require.NoError(t, err)
	a, err := writer.Identity()
	require.NoError(t, err)
	b, err := reader.Identity()
	require.NoError(t, err)
	require.Equal(t, a, b)
	p := make([]byte, len(content))
	_, err = reader.ReadAt(p, 0)
	require.NoError(t, err)
	require.Equal(t, content, p)
	require.NoError(t, writer.Close())
	writer, err = device.OpenFile(path, device.FileOptions{})
	require.NoError(t, err, "the reader has no lock")
	require.NoError(t, writer.Close())
	require.NoError(t, reader.Close())
	_, err = reader.Identity()
	require.ErrorIs(t, err, device.ErrClosed)
	_, err = device.OpenFile(path, device.FileOptions{Unlocked: true})
	require.ErrorContains(t, err, "must be read-only")
}

// TestOrphaned: only clients without a server have one to wait for.
func TestOrphaned(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	require.False(t, device.Orphaned(path))
	server, err := device.OpenFile(path, device.FileOptions{Create: 1 << 20, Role: device.Server})
	require.NoError(t, err)
	require.False(t, device.Orphaned(path), "a server")
	origin, err := device.OpenFile(path, device.FileOptions{Role: device.Origin})
	require.NoError(t, err)
	require.False(t, device.Orphaned(path), "both")
	require.NoError(t, server.Close())
	require.True(t, device.Orphaned(path), "a client")
	require.NoError(t, origin.Close())
	require.False(t, device.Orphaned(path), "none")
	alone, err := device.OpenFile(path, device.FileOptions{})
	require.NoError(t, err)
	require.False(t, device.Orphaned(path), "one that is alone")
	require.NoError(t, alone.Close())
}

// TestTakenBytes: a server sees who lives, and who has ended.
func TestTakenBytes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	server, err := device.OpenFile(path, device.FileOptions{Create: 1 << 20, Role: device.Server})
	require.NoError(t, err)
	defer server.Close()
	taken := func() []uint32 {
		list, err := server.TakenBytes(device.OriginByte, device.LastSnapshotByte)
		require.NoError(t, err)
		return list
	}
	require.Empty(t, taken())
	var clients []*device.File
	for i := range uint32(3) {
		c, err := device.OpenFile(path, device.FileOptions{Role: device.Snapshots})
		require.NoError(t, err)
		require.Equal(t, device.FirstSnapshotByte+i, c.HeldByte())
		clients = append(clients, c)
	}
	require.Equal(t, []uint32{16, 17, 18}, taken())
	require.NoError(t, clients[1].Close())
	require.Equal(t, []uint32{16, 18}, taken())
	require.NoError(t, server.TakeByte(device.OriginByte), "an origin in the server's own process")
	require.Equal(t, []uint32{16, 18}, taken(), "its own are not another's")
	_, err = device.OpenFile(path, device.FileOptions{Role: device.Origin})
	require.ErrorIs(t, err, device.ErrInUse)
	require.NoError(t, clients[0].Close())
	require.NoError(t, clients[2].Close())
	require.Empty(t, taken())
}
