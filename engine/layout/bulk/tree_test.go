// SPDX-License-Identifier: Apache-2.0

package bulk_test

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/layout/bulk"
)

func superblock() *layout.Superblock {
	return &layout.Superblock{
		UUID: layout.UUID{7}, Checkpoint: 5,
		TreePages: layout.Extent{First: 3, Len: 10}, Grown: []layout.Extent{{First: 100, Len: 4000}},
	}
}

// read returns the entries of a tree in order, and judges its pages on the way.
func read(t *testing.T, d *memdev.Device, sb *layout.Superblock, p block.Page, level uint8) (all []layout.Exception) {
	require.True(t, sb.HasTreePage(p))
	buf := make([]byte, block.PageSize)
	_, err := d.ReadAt(buf, int64(p)*block.PageSize)
	require.NoError(t, err)
	h := layout.PageHeader{Kind: layout.KindExceptions, Level: level, Page: p, Identity: sb.UUID}
	page, err := layout.DecodePage(layout.ExceptionCodec{}, h, buf)
	require.NoError(t, err)
	require.Equal(t, sb.Checkpoint, page.Checkpoint)
	if level == 0 {
		return page.Entries
	}
	for i, child := range page.Children {
		below := read(t, d, sb, child, level-1)
		require.Equal(t, page.Entries[i], below[0])
		all = append(all, below...)
	}
	return all
}

func TestTreeHoldsWhatWasAdded(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 2, 300, 5000, 150000} {
		for _, fill := range []float64{0.3, 1} {
			sb, d := superblock(), memdev.New(64<<20)
			pages := bulk.NewPages(d, sb)
			tree := bulk.NewTree(pages, layout.ExceptionCodec{}, layout.KindExceptions, sb, fill)
			var want []layout.Exception
			e := layout.Exception{Generation: 1}
			for range n {
				e.Chunk, e.Slot, e.Sum = e.Chunk+1, e.Slot+1, rng.Uint32()
				if rng.IntN(3) == 0 {
					e.Chunk, e.Slot = e.Chunk+block.Chunk(rng.IntN(1000)), block.Slot(rng.Uint32())
				}
				want = append(want, e)
				require.NoError(t, tree.Add(e))
			}
			root, err := tree.Finish()
			require.NoError(t, err)
			require.NoError(t, pages.Finish())
			require.EqualValues(t, n, root.Entries)
			if n == 0 {
				require.Zero(t, root)
				continue
			}
			got := read(t, d, sb, root.Page, root.Level)
			require.Len(t, got, len(want))
			for i := range want {
				require.Equal(t, want[i], got[i]) // require.Equal of the whole prints too much
			}
		}
	}
}

func TestTreeRefusesDisorderAndLackOfSpace(t *testing.T) {
	sb := superblock()
	tree := bulk.NewTree(bulk.NewPages(memdev.New(64<<20), sb), layout.ExceptionCodec{}, layout.KindExceptions, sb, 1)
	require.NoError(t, tree.Add(layout.Exception{Chunk: 5}))
	require.Error(t, tree.Add(layout.Exception{Chunk: 5}))

	sb.Grown, sb.TreePages.Len = nil, 3
	changes := bulk.NewTree(bulk.NewPages(memdev.New(64<<20), sb), layout.ChangeCodec{}, layout.KindChanges, sb, 0.1)
	var err error
	for c := block.Chunk(0); err == nil && c < 100000; c += 2 {
		err = changes.Add(layout.Change{Generation: 1, Chunk: c})
	}
	require.ErrorContains(t, err, "too few pages")

	pages := bulk.NewPages(broken{}, superblock())
	changes = bulk.NewTree(pages, layout.ChangeCodec{}, layout.KindChanges, superblock(), 1)
	require.NoError(t, changes.Add(layout.Change{Generation: 1}))
	_, err = changes.Finish()
	require.NoError(t, err)
	require.ErrorContains(t, pages.Finish(), "no disk")
}

type broken struct{}

func (broken) WriteAt([]byte, int64) (int, error) { return 0, errors.New("no disk") }
