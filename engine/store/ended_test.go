// SPDX-License-Identifier: Apache-2.0

package store

import (
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/alloc"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/wire"
)

// A merge that cannot end, for want of metadata pages, is under way as before, in the
// tree of snapshots too, and ends when there are some.
func TestMergeThatCannotEnd(t *testing.T) {
	devs := placement.Devices{Store: memdev.New(16 << 20)}
	_, err := Format(devs, FormatOptions{OriginSize: 1 << 20})
	require.NoError(t, err)
	s, err := Open(devs, Options{})
	require.NoError(t, err)
	snap, err := s.CreateSnapshot(1)
	require.NoError(t, err)
	require.NoError(t, s.Merge(wire.SnapshotRef{Tag: 1}))
	done := wire.RestoreProgress{Generation: snap.Generation, Done: true}
	var taken []block.Page
	for s.pages.Free() > 0 {
		p, err := s.pages.Alloc()
		require.NoError(t, err)
		taken = append(taken, p)
	}
	_, err = s.Restored(done)
	require.ErrorIs(t, err, alloc.ErrNoSpace)
	require.NotNil(t, s.Status().Restore)
	require.Equal(t, snap.Generation, s.state().Restoring)
	require.NoError(t, s.snaps.tree.Ascend(layout.Snapshot{}, func(e layout.Snapshot) bool {
		require.Equal(t, layout.SnapshotLive, e.State)
		return true
	}))
	for _, p := range taken {
		s.pages.Defer(p)
	}
	s.pages.Thaw(len(taken))
	_, err = s.Restored(done)
	require.NoError(t, err)
	require.Zero(t, s.state().Restoring)
	require.Empty(t, s.Snapshots())
}
