// SPDX-License-Identifier: Apache-2.0

package store

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

// Snapshots of random sizes come and go; what the table says of those that have a
// byte is compared with a search of all.
func TestSnapshotsThatHaveAByte(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	table := newTable(nil)
	all := map[block.Generation]int64{}
	for g := block.Generation(1); g < 400; g++ {
		e := layout.Snapshot{Generation: g, Tag: block.Tag(g), State: layout.SnapshotLive, Size: 1 + rng.Int64N(6)*100}
		if rng.IntN(5) == 0 {
			e.Parent = 1
		} else {
			all[g] = e.Size
		}
		table.put(e)
		if gone := block.Generation(1 + rng.Uint64N(uint64(g))); rng.IntN(3) > 0 {
			e := table.get(gone).Snapshot
			e.State = layout.SnapshotDeleting
			table.put(e)
			delete(all, gone)
		}
		off, largest, newest := rng.Int64N(700), int64(0), block.Generation(0)
		after, upTo, any := block.Generation(rng.Uint64N(uint64(g))), block.Generation(rng.Uint64N(uint64(g)+2)), false
		for live, size := range all {
			largest = max(largest, size)
			if size > off {
				newest = max(newest, live)
				any = any || live > after && live <= upTo
			}
		}
		require.Equal(t, largest, table.largest())
		require.Equal(t, newest, table.newestWith(off))
		require.Equal(t, any, table.anyWith(off, after, upTo))
	}
	table.doubtful = 1000
	require.Zero(t, table.largest(), "nobody knows")
	require.Equal(t, block.Generation(1000), table.newestWith(5000))
}
