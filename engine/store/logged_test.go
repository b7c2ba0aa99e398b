// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic/rig"
)

// Recovery reads the batches of the log one after the other: a checkpoint is due after
// 8192 of them, however little was copied.
func TestCheckpointBoundsTheNumberOfBatches(t *testing.T) {
	const most = 8192
	r := newRig(t, rig.Options{
		OriginSize: 2 * most * block.PageSize, ChunkSize: block.PageSize, Placement: layout.PlacementInline,
		StoreSize: 256 << 20, CacheBytes: 1 << 30, CheckpointBytes: 1 << 40, AheadBytes: -1,
		LeaseBytes: 128 << 20, StoreLeaseBytes: 128 << 20,
	})
	_, err := r.Server.CreateSnapshot(1)
	require.NoError(t, err)
	require.NoError(t, r.Maintain())
	_, err = r.Server.Checkpoint()
	require.NoError(t, err)
	chunk := int64(0)
	write := func(n int) uint64 {
		buf := device.Buffer(block.PageSize)
		for range n {
			_, err := r.Volume.WriteAt(buf, chunk*block.PageSize)
			require.NoError(t, err)
			chunk++
		}
		require.NoError(t, r.Maintain())
		return r.Server.Status().Checkpoint
	}
	before := write(1)
	require.Equal(t, before, write(most-2), "one fewer")
	require.Equal(t, before+1, write(1))
	require.Equal(t, before+1, write(most-1), "they are counted anew")
}
