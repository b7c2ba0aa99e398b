// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/metamorphic"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/wire"
)

// TestSharing compares the sharing table with one counted from where each chunk of
// each snapshot is.
func TestSharing(t *testing.T) {
	r := newRunner(t, options(4<<10, 4000), rig.Wrappers{})
	rng := rand.New(rand.NewPCG(9, 9))
	for tag := block.Tag(1); tag <= 40; tag++ {
		ops := []metamorphic.Op{{Kind: metamorphic.Snapshot, Tag: tag}}
		for range 1 + rng.IntN(20) {
			chunk := min(rng.Int64N(257), rng.Int64N(257))
			ops = append(ops, metamorphic.Op{Kind: metamorphic.Write, Off: chunk * 4096, Len: block.SectorSize})
		}
		if rng.IntN(4) == 0 {
			ops = append(ops, metamorphic.Op{Kind: metamorphic.Delete, Tag: 1 + block.Tag(rng.IntN(int(tag)))})
		}
		require.NoError(t, r.All(ops))
	}
	require.NoError(t, r.Rig.Maintain())
	requireSharing(t, r.Rig)
	require.NoError(t, r.Do(metamorphic.Op{Kind: metamorphic.Reopen}))
	requireSharing(t, r.Rig)
}

func requireSharing(t *testing.T, r *rig.Rig) {
	slots := map[block.Slot]int{} // how many snapshots have a chunk there
	held := make([][]block.Slot, 0)
	for _, s := range r.Server.Snapshots() {
		var mine []block.Slot
		mappings, err := r.Map(s.Tag, 0, block.Chunk(r.Server.Geometry().Chunks()))
		require.NoError(t, err)
		for _, m := range mappings {
			for i := range m.Len {
				if m.Kind == wire.Stored {
					mine = append(mine, m.Slot+block.Slot(i))
					slots[m.Slot+block.Slot(i)]++
				}
			}
		}
		held = append(held, mine)
	}
	rows, err := r.Server.Sharing()
	require.NoError(t, err)
	require.Len(t, rows, len(held))
	for i, row := range rows {
		want := store.Sharing{Snapshot: row.Snapshot, Total: uint64(len(held[i]))}
		for _, slot := range held[i] {
			class := 0
			for 1<<class < slots[slot] {
				class++
			}
			want.Chunks[min(class, store.SharingClasses-1)]++
		}
		require.Equal(t, want, row)
	}
	require.Equal(t, uint64(len(slots)), r.Server.Status().Exceptions, "no exception is kept in vain")
}
