// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device/errdev"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/server"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const originSize = 4 << 20

// format returns the devices of a new store, whose store device obeys the plan.
func format(t *testing.T) (placement.Devices, *errdev.Plan) {
	d := errdev.New(memdev.New(64 << 20))
	devices := placement.Devices{Store: d}
	_, err := store.Format(devices, store.FormatOptions{OriginSize: originSize, ChunkSize: 16 << 10})
	require.NoError(t, err)
	return devices, d.Plan()
}

// written opens a server, and a volume on which a snapshot was made and a first
// write.
func written(t *testing.T, d placement.Devices, o server.Options) (*server.Server, *volume.Origin) {
	s, err := server.Open(d, o)
	require.NoError(t, err)
	v, err := volume.OpenOrigin(s, memdev.New(originSize), d, volume.Options{})
	require.NoError(t, err)
	_, err = s.CreateSnapshot(1)
	require.NoError(t, err)
	_, err = v.WriteAt(make([]byte, 4096), 0)
	require.NoError(t, err)
	return s, v
}

// eventually waits for what the server does in the background.
func eventually(t *testing.T, what func() bool) {
	require.Eventually(t, what, time.Minute, time.Millisecond)
}

func TestDeletionsEndInTheBackground(t *testing.T) {
	d, _ := format(t)
	s, v := written(t, d, server.Options{})
	require.NoError(t, s.DeleteSnapshot(1))
	eventually(t, func() bool { return s.Status().Exceptions == 0 && s.Status().SnapshotsGoing == 0 })
	require.NoError(t, v.Close())
	require.NoError(t, s.Close())
}

func TestCheckpointsComeByThemselves(t *testing.T) {
	for _, o := range []server.Options{
		{CheckpointInterval: time.Millisecond},
		{Store: store.Options{CheckpointBytes: 1}},
	} {
		d, _ := format(t)
		s, v := written(t, d, o)
		eventually(t, func() bool { return s.Status().UnsavedBytes == 0 })
		require.NoError(t, v.Close())
		require.NoError(t, s.Close())
	}
}

func TestManualServerWaitsToBeAsked(t *testing.T) {
	d, plan := format(t)
	s, v := written(t, d, server.Options{Manual: true, Store: store.Options{CheckpointBytes: 1}})
	require.NoError(t, s.DeleteSnapshot(1))
	before := plan.Counts()
	require.Equal(t, uint64(1), s.Status().Exceptions)
	require.Equal(t, before, plan.Counts())
	more, err := s.Maintain()
	require.NoError(t, err)
	require.False(t, more)
	require.Zero(t, s.Status().Exceptions)
	require.NoError(t, v.Close())
	require.NoError(t, s.Close())
}

func TestBackgroundErrorsFailTheStore(t *testing.T) {
	d, plan := format(t)
	s, v := written(t, d, server.Options{CheckpointInterval: time.Millisecond, Store: store.Options{OnFailure: store.FailWrites}})
	plan.Inject(errdev.Fault{Kinds: errdev.Writes, Forever: true})
	eventually(t, func() bool { return s.Status().Mode == store.Failed || s.Status().UnsavedBytes == 0 })
	require.ErrorIs(t, s.DeleteSnapshot(1), store.ErrFailed)
	_, err := s.CreateSnapshot(2)
	require.ErrorIs(t, err, store.ErrFailed)
	require.ErrorIs(t, err, errdev.ErrInjected, "the cause is told")
	_, err = v.WriteAt(make([]byte, 4096), 0)
	require.NoError(t, err, "settled chunks are written")
	require.NoError(t, v.Close())
	require.NoError(t, s.Close())

	plan.Clear()
	s, err = server.Open(d, server.Options{})
	require.NoError(t, err)
	require.Len(t, s.Snapshots(), 1)
	require.NoError(t, s.Close())
}

func TestReadOnlyWritesNothing(t *testing.T) {
	d, plan := format(t)
	written(t, d, server.Options{Manual: true})
	// The server is left as by a crash: d holds a log to be replayed.
	before := plan.Counts()
	r, err := server.Open(d, server.Options{Store: store.Options{ReadOnly: true}})
	require.NoError(t, err)
	require.Len(t, r.Snapshots(), 1)
	require.Equal(t, uint64(1), r.Status().Exceptions)
	_, err = r.CreateSnapshot(2)
	require.ErrorIs(t, err, store.ErrReadOnly)
	require.ErrorIs(t, r.DeleteSnapshot(1), store.ErrReadOnly)
	_, err = r.Checkpoint()
	require.ErrorIs(t, err, store.ErrReadOnly)
	_, err = volume.OpenOrigin(r, memdev.New(originSize), d, volume.Options{})
	require.ErrorIs(t, err, store.ErrReadOnly)
	require.Equal(t, store.ReadOnly, r.Status().Mode)
	require.NoError(t, r.Close())
	after := plan.Counts()
	require.Equal(t, before.Writes, after.Writes)
	require.Equal(t, before.Flushes, after.Flushes)
}

func TestCloseNeedsTheClientGone(t *testing.T) {
	d, _ := format(t)
	s, v := written(t, d, server.Options{})
	require.Error(t, s.Close())
	require.NoError(t, v.Close())
	require.NoError(t, s.Close())
	require.Error(t, s.Close(), "twice")
}

func TestBadTagsAreNamed(t *testing.T) {
	d, _ := format(t)
	s, v := written(t, d, server.Options{Manual: true})
	_, err := s.CreateSnapshot(1)
	require.ErrorIs(t, err, store.ErrExists)
	require.ErrorContains(t, err, "snapshot 1")
	require.ErrorIs(t, s.DeleteSnapshot(7), store.ErrNoSnapshot)
	_, err = volume.OpenSnapshot(volume.SnapshotSource{Server: s}, block.Tag(9))
	require.ErrorIs(t, err, store.ErrNoSnapshot)
	require.NoError(t, v.Close())
	require.NoError(t, s.Close())
}
