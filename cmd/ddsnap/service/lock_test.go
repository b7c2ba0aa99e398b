// SPDX-License-Identifier: Apache-2.0

package service

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/client"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
	"zumastor.org/zumastor/engine/wire/fault"
)

// A client that says that it holds a lock which nobody holds would be taken for dead
// while it lives: it is refused, and told why.
func TestClientMustHoldItsLock(t *testing.T) {
	const size = 1 << 20
	paths := Paths{Store: filepath.Join(t.TempDir(), "store")}
	file, err := device.OpenFile(paths.Store, device.FileOptions{Create: 64 << 20})
	require.NoError(t, err)
	_, err = store.Format(placement.Devices{Store: file}, store.FormatOptions{OriginSize: size})
	require.NoError(t, err)
	require.NoError(t, file.Close())
	server := startServer(t, paths.Store)
	defer killServer(t, server)
	socket, err := Socket(paths.Store, ClientsSuffix)
	require.NoError(t, err)
	without := dialServer(t, socket, 0)
	defer without.Close()

	_, err = client.Dial(t.Context(), socket, client.Options{Lock: device.FirstSnapshotByte})
	require.ErrorIs(t, err, fault.ErrDenied)
	require.ErrorContains(t, err, "byte 16")
	devs, err := OpenDevices(paths, Access{Role: device.Snapshots})
	require.NoError(t, err)
	defer devs.Close()
	c, err := client.Dial(t.Context(), socket, client.Options{Lock: devs.StoreFile.HeldByte()})
	require.NoError(t, err)
	defer c.Close()

	attach := func() error {
		v, err := volume.OpenOrigin(c, memdev.New(size), devs.Devices, volume.Options{})
		if err != nil {
			return err
		}
		return v.Close()
	}
	err = attach()
	require.ErrorIs(t, err, fault.ErrDenied)
	require.ErrorContains(t, err, "byte 1 ")
	require.NoError(t, devs.StoreFile.TakeByte(device.OriginByte))
	require.NoError(t, attach())
}
