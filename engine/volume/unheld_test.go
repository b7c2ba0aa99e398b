// SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
	"zumastor.org/zumastor/engine/wire"
)

// meddled is a device that does something before it reads.
type meddled struct {
	device.Device
	before *func()
}

func (m meddled) ReadAt(p []byte, off int64) (int, error) {
	if do := *m.before; do != nil {
		*m.before = nil
		do()
	}
	return m.Device.ReadAt(p, off)
}

func unheld(t *testing.T, r *rig.Rig, src volume.SnapshotSource, tag block.Tag) *volume.Unheld {
	info, err := r.Server.Find(wire.SnapshotRef{Tag: tag})
	require.NoError(t, err)
	u, err := volume.NewUnheld(src, r.Server, info.Snapshot)
	require.NoError(t, err)
	return u
}

func readFrom(t *testing.T, from io.ReaderAt, size int64) []byte {
	p := make([]byte, size)
	n, err := from.ReadAt(p, 0)
	require.NoError(t, err)
	require.EqualValues(t, size, n)
	return p
}

// TestUnheldWhileWritten: what is overwritten between the look at where it is and the
// read is read where it was copied to.
func TestUnheldWhileWritten(t *testing.T) {
	r := open(t, small(layout.PlacementInline), rig.Wrappers{})
	size := r.Volume.Size()
	old := bytes.Repeat([]byte{1}, int(size))
	_, err := r.Volume.WriteAt(old, 0)
	require.NoError(t, err)
	_, err = r.Server.CreateSnapshot(7)
	require.NoError(t, err)
	_, err = r.Volume.WriteAt(bytes.Repeat([]byte{2}, 8192), 0)
	require.NoError(t, err)

	var meddle func()
	src := r.Source()
	src.Origin = meddled{src.Origin, &meddle}
	u := unheld(t, r, src, 7)
	require.Equal(t, size, u.Size())
	require.Equal(t, old, readFrom(t, u, size))
	meddled := false
	meddle = func() {
		meddled = true
		_, err := r.Volume.WriteAt(bytes.Repeat([]byte{3}, int(size)), 0)
		require.NoError(t, err)
	}
	require.Equal(t, old, readFrom(t, u, size))
	require.True(t, meddled)
	_, err = u.ReadAt(make([]byte, 512), size)
	require.ErrorIs(t, err, device.ErrRange)
}

// TestUnheldIsNotInUse: a snapshot that is read so is deleted as one that nobody reads,
// and nothing of what its place has then is returned.
func TestUnheldIsNotInUse(t *testing.T) {
	r := open(t, small(layout.PlacementInline), rig.Wrappers{})
	_, err := r.Server.CreateSnapshot(7)
	require.NoError(t, err)
	var meddle func()
	src := r.Source()
	src.Origin = meddled{src.Origin, &meddle}
	u := unheld(t, r, src, 7)
	meddle = func() { require.NoError(t, r.Server.DeleteSnapshot(7)) }
	_, err = u.ReadAt(make([]byte, 4096), 0)
	require.ErrorIs(t, err, store.ErrNoSnapshot)
	_, err = r.Server.CreateSnapshot(7)
	require.NoError(t, err)
	_, err = u.ReadAt(make([]byte, 4096), 0)
	require.ErrorIs(t, err, store.ErrNoSnapshot, "another one of that tag is another one")
}
