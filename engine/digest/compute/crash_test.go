// SPDX-License-Identifier: Apache-2.0

package compute_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/digest/compute"
	"zumastor.org/zumastor/engine/volume"
)

var errCut = errors.New("cut")

// cutAfter is a manager that can be asked so many times.
type cutAfter struct {
	admin.Manager
	left int
}

func (m *cutAfter) Do(ctx context.Context, r admin.Request) (admin.Response, error) {
	if m.left == 0 {
		return admin.Response{}, errCut
	}
	m.left--
	return m.Manager.Do(ctx, r)
}

// TestCrashes has the machine crash after each request of a digest, with and without a
// checkpoint before it: the digest is there whole or not at all, the older snapshot's is
// what it was, and computed anew it is right.
func TestCrashes(t *testing.T) {
	for n, done := 0, false; !done; n++ {
		for _, checkpoint := range []bool{false, true} {
			h := newHistory(t, uint64(n))
			h.snapshot(1)
			_, err := h.compute(1, 0)
			require.NoError(t, err)
			h.snapshot(2)
			require.NoError(t, h.r.Server.Store.Checkpoint())
			done = h.cutShort(n)
			if checkpoint {
				require.NoError(t, h.r.Server.Store.Checkpoint())
			}
			h.r = h.r.Crash(h.rng, memdev.RandomFate(h.rng))
			require.NoError(t, h.r.Open())
			h.kept(1)
			if _, known, err := compute.Known(t.Context(), h.manager(), admin.Ref{Tag: 2}); known {
				require.NoError(t, err)
				h.kept(2)
			}
			res, err := h.compute(2, 0)
			require.NoError(t, err)
			require.Equal(t, h.was[2].sum, res.Sum)
			h.kept(1)
			h.kept(2)
			require.NoError(t, h.r.Close())
		}
	}
}

// cutShort computes the digest of snapshot 2 with n requests, and reports whether they
// were enough.
func (h *history) cutShort(n int) (done bool) {
	v, err := volume.OpenSnapshot(h.r.Source(), 2)
	require.NoError(h.t, err)
	defer v.Close()
	_, err = compute.Run(h.t.Context(), &cutAfter{h.manager(), n}, admin.Ref{Tag: 2}, v, compute.Options{}.Batched(1))
	if err != nil {
		require.ErrorIs(h.t, err, errCut)
	}
	return err == nil
}
