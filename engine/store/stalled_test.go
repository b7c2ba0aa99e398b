// SPDX-License-Identifier: Apache-2.0

package store

import (
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/wire"
)

// obedient is a snapshot's client with nothing under way.
type obedient struct{}

func (obedient) Quiesce(change func() (wire.SnapshotState, error)) error {
	_, err := change()
	return err
}

// What a snapshot of a written snapshot reads is not overwritten in place while the
// client of the former may read it: not while it is live, and once it is squashed not
// before the client has heard of that.
func TestStalledReaderIsNotOverwritten(t *testing.T) {
	devs := placement.Devices{Store: memdev.New(16 << 20)}
	_, err := Format(devs, FormatOptions{OriginSize: 1 << 20})
	require.NoError(t, err)
	s, err := Open(devs, Options{})
	require.NoError(t, err)
	_, err = s.CreateSnapshot(1)
	require.NoError(t, err)
	writer, err := s.OpenSnapshot(wire.SnapshotRef{Tag: 1}, true, obedient{})
	require.NoError(t, err)
	runs, err := s.LeaseBranch(writer.Handle, 1)
	require.NoError(t, err)
	require.NoError(t, s.ReportBranch(writer.Handle, writer.State.Generation, []layout.Copy{{Chunk: 7, Slot: runs[0].First}}))
	owned := func() bool {
		list, err := s.Map(writer.Handle, 7, 8, nil)
		require.NoError(t, err)
		return list[0].Owned
	}
	require.True(t, owned())

	child, err := s.Create(NewSnapshot{Tag: 2, Parent: &wire.SnapshotRef{Tag: 1}})
	require.NoError(t, err)
	reader, err := s.OpenSnapshot(wire.SnapshotRef{Tag: 2}, false, obedient{})
	require.NoError(t, err)
	require.False(t, owned(), "it is live")
	child.State = layout.SnapshotSquashed
	require.NoError(t, s.recordWith(child))
	require.False(t, owned(), "its client has not heard of it")
	s.tellSquashed(s.handles[reader.Handle])
	require.True(t, owned())
}
