// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/store"
)

// TestShrinkMovesMetadata has the index in tree pages that the store grew by, and
// shrinks it again.
func TestShrinkMovesMetadata(t *testing.T) {
	for _, separate := range []bool{false, true} {
		o := resizeSetups()[0]
		big, small := resize{store: 30 << 20}, resize{store: 3 << 20}
		if separate {
			o = resizeSetups()[1]
			o.MetaSize = 2 << 20
			big.meta = 12 << 20
		}
		o.OriginSize, o.CacheBytes = 1<<20, 100<<10
		t.Run(setupName(o), func(t *testing.T) {
			z := newResizable(t, o, rig.Wrappers{})
			before := z.Server.Status().MetadataPages
			limit := block.Page(258 + before)
			if separate {
				small.meta = int64(limit) * block.PageSize
			}
			require.NoError(t, z.resize(big))
			require.Greater(t, z.Server.Status().MetadataPages, before+100)
			release := z.Server.HoldPages(limit)
			z.fragment(t, 4)
			for i := range 600 {
				_, err := z.Server.Create(store.NewSnapshot{Tag: block.Tag(5000 + i), Name: fmt.Sprintf("%060d", i)})
				require.NoError(t, err)
			}
			require.NoError(t, z.Server.Store.Checkpoint())
			require.Greater(t, z.Server.TreePagesFrom(limit), uint64(4), "pages that the store grew by are in use")
			release()
			require.NoError(t, z.Server.Store.Checkpoint())
			require.NoError(t, z.verify())
			plan, err := z.Server.PlanResize(0, small.store, small.meta)
			require.NoError(t, err)
			require.Greater(t, plan.MovePages, uint64(4))

			rng, cuts, sizes := rand.New(rand.NewPCG(1, 1)), 0, z.sizes()
			var failed error
			z.Machine.SetHook(func(e memdev.Event) {
				if failed == nil && e.Kind == memdev.FlushEnd {
					cuts++
					failed = z.crashed(z.Rig.Crash(rng, memdev.RandomFate(rng))).mustSurvive(sizes, small)
				}
			})
			require.NoError(t, z.resize(small))
			z.Machine.SetHook(nil)
			require.NoError(t, failed)
			require.Greater(t, cuts, 3)
			require.NoError(t, z.verify())
			require.Zero(t, z.Server.TreePagesFrom(limit))
			require.Less(t, z.Server.Status().MetadataPages, before+50)
			z.reopen(t)
			require.NoError(t, z.writeSome(20))
			require.NoError(t, z.resize(resize{store: 28 << 20}))
			z.reopen(t)
		})
	}
}

// fragment makes snapshots of which each has every third chunk copied out.
func (z *resizable) fragment(t *testing.T, n int) {
	for i := range n {
		_, err := z.snapshot()
		require.NoError(t, err)
		for off := int64(i % 3 * 4096); off < z.Volume.Size(); off += 3 * 4096 {
			require.NoError(t, z.write(off, 512))
		}
		require.NoError(t, z.Server.Store.Checkpoint())
	}
}

// A store that grows in many small steps does not use up the superblock's room for
// extents, and says what to do where it does.
func TestGrowInSmallSteps(t *testing.T) {
	o := resizeSetups()[0]
	o.StoreSize = 2 << 20
	z := newResizable(t, o, rig.Wrappers{})
	size := o.StoreSize
	for size < 16<<20 {
		size += 64 << 10
		require.NoError(t, z.resize(resize{store: size}), "to %d", size)
	}
	z.reopen(t)
	require.GreaterOrEqual(t, z.Server.Status().MetadataPages, uint64(64+12<<20/4096*96/4096))
}
