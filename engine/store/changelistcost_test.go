// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/store"
)

// countedReads counts the reads of a device.
type countedReads struct {
	device.Device
	n atomic.Int64
}

func (d *countedReads) ReadAt(p []byte, off int64) (int, error) {
	d.n.Add(1)
	return d.Device.ReadAt(p, off)
}

// hugeStore is the store of a volume of 16 TiB in which 1,000 chunks all over it
// changed between snapshots 1 and 2, among others before and after. Nothing of it is
// in memory.
func hugeStore(t testing.TB, others int) (*store.Store, *countedReads) {
	const size = 16 << 40
	reads := &countedReads{Device: memdev.New(1 << 40)}
	devs := placement.Devices{Store: memdev.New(1 << 40), Meta: reads}
	_, err := store.Format(devs, store.FormatOptions{OriginSize: size, ChunkSize: 4096})
	require.NoError(t, err)
	s, err := store.Open(devs, store.Options{CacheBytes: 2 << 30})
	require.NoError(t, err)
	for tag := range block.Tag(3) {
		snap, err := s.CreateSnapshot(tag)
		require.NoError(t, err)
		n, stride := others/2, block.Chunk(3)
		if tag == 1 {
			n, stride = 1000, 4_000_000
		}
		require.NoError(t, s.InsertExceptions(snap.Generation, n, stride))
	}
	require.NoError(t, s.Checkpoint())
	require.NoError(t, s.Close())
	s, err = store.Open(devs, store.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	reads.n.Store(0)
	return s, reads
}

// TestChangeListCost: how many pages of the index are read does not depend on what
// else there is.
func TestChangeListCost(t *testing.T) {
	for _, others := range []int{2, 200_000} {
		t.Run(fmt.Sprint(others), func(t *testing.T) {
			s, reads := hugeStore(t, others)
			list, err := s.ChangeList(store.ChangeQuery{From: tagged(1), To: tagged(2)})
			require.NoError(t, err)
			require.Len(t, list.Runs, 1000)
			require.LessOrEqual(t, reads.n.Load(), int64(8), "pages of 1,000 changes and of the way to them")
			reads.n.Store(0)
			_, err = s.ChangeList(store.ChangeQuery{From: tagged(1), To: tagged(2)})
			require.NoError(t, err)
			require.Zero(t, reads.n.Load(), "they are in memory now")
		})
	}
}

func BenchmarkChangeList(b *testing.B) {
	s, _ := hugeStore(b, 10_000_000)
	for b.Loop() {
		list, err := s.ChangeList(store.ChangeQuery{From: tagged(1), To: tagged(2)})
		require.NoError(b, err)
		require.Len(b, list.Runs, 1000)
	}
}
