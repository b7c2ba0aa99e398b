// SPDX-License-Identifier: Apache-2.0

package compute_test

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/digest/compute"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
	"zumastor.org/zumastor/engine/wire"
)

// TestBackgroundWhileWritten: digests that are computed while the volume is written to, and
// snapshots come and go, are those of the snapshots as they were taken.
func TestBackgroundWhileWritten(t *testing.T) {
	h := newHistory(t, 3)
	b := &compute.Background{
		Manager: h.manager(), Age: 1, Rate: 1 << 40, Logger: slog.New(slog.DiscardHandler),
		Open: func(s admin.Snapshot) (compute.Content, error) {
			info, err := h.r.Server.Find(wire.SnapshotRef{Tag: s.Tag})
			if err != nil {
				return nil, err
			}
			u, err := volume.NewUnheld(h.r.Source(), h.r.Server, info.Snapshot)
			return struct {
				io.ReaderAt
				io.Closer
			}{u, io.NopCloser(nil)}, err
		},
	}
	events, end := h.r.Server.Subscribe(1)
	defer end()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b.Run(ctx, events)
	}()
	const snapshots = 15
	for tag := block.Tag(1); tag <= snapshots; tag++ {
		h.snapshot(tag)
		if old := tag - 3; tag > 3 && h.rng.IntN(3) == 0 {
			require.NoError(t, h.r.Server.DeleteSnapshot(old), "nobody has it open")
		}
	}
	require.Eventually(t, func() bool {
		_, known, err := compute.Known(t.Context(), h.manager(), admin.Ref{Tag: snapshots})
		return err == nil && known
	}, time.Minute, time.Millisecond)
	cancel()
	<-ended
	seen := 0
	for _, s := range h.r.Server.Snapshots() {
		sum, known, err := compute.Known(t.Context(), h.manager(), admin.Ref{Tag: s.Tag})
		require.NoError(t, err)
		require.Equal(t, known, s.Digest)
		if known {
			require.Equal(t, h.was[s.Tag].sum, sum, "snapshot %d", s.Tag)
			seen++
		}
	}
	require.Equal(t, seen, h.r.Server.Status().SnapshotsDigested)
	require.Positive(t, seen)
}

// swapping deletes the snapshot that a digest begins with, and gives another one its tag,
// before what changed is asked for.
type swapping struct {
	admin.Manager
	h    *history
	base block.Tag
}

func (s *swapping) Do(ctx context.Context, r admin.Request) (admin.Response, error) {
	if r.Verb == admin.VerbChanges {
		require.NoError(s.h.t, s.h.r.Server.DeleteSnapshot(s.base))
		s.h.snapshot(s.base)
	}
	return s.Manager.Do(ctx, r)
}

// TestBaseIsAnotherOne: what changed since a snapshot that has the tag of the one that a
// digest begins with makes no digest.
func TestBaseIsAnotherOne(t *testing.T) {
	h := newHistory(t, 5)
	h.snapshot(1)
	_, err := h.compute(1, 0)
	require.NoError(t, err)
	_, err = h.r.Volume.WriteAt(make([]byte, 4096), 0)
	require.NoError(t, err)
	h.snapshot(2)
	v, err := volume.OpenSnapshot(h.r.Source(), 2)
	require.NoError(t, err)
	defer v.Close()
	_, err = compute.Run(t.Context(), &swapping{h.manager(), h, 1}, admin.Ref{Tag: 2}, v, compute.Options{})
	require.ErrorIs(t, err, store.ErrNoDigest)
	_, known, err := compute.Known(t.Context(), h.manager(), admin.Ref{Tag: 2})
	require.NoError(t, err)
	require.False(t, known)
	res, err := h.compute(2, 0)
	require.NoError(t, err)
	require.Equal(t, h.was[2].sum, res.Sum, "another try is whole")
}
