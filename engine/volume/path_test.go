// SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/devtest"
	"zumastor.org/zumastor/engine/device/errdev"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, o rig.Options, w rig.Wrappers) *rig.Rig {
	r, err := rig.New(o, w)
	require.NoError(t, err)
	t.Cleanup(r.Abandon)
	return r
}

// TestOriginIsADevice runs the conformance suite of devices on an origin whose
// writes all need a copy-out, or none.
func TestOriginIsADevice(t *testing.T) {
	for _, snapshots := range []int{0, 1} {
		t.Run(fmt.Sprintf("snapshots=%d", snapshots), func(t *testing.T) {
			devtest.Run(t, func(t *testing.T) device.Device {
				o := small(layout.PlacementInline)
				o.OriginSize, o.StoreSize, o.Background = 16<<20, 64<<20, true
				r := open(t, o, rig.Wrappers{})
				for tag := range snapshots {
					_, err := r.Server.CreateSnapshot(block.Tag(tag))
					require.NoError(t, err)
				}
				return r.Volume
			})
		})
	}
}

// TestPathsWithoutAllocation measures what no write of a settled chunk and no read
// may do. It needs a device that does not allocate either.
func TestPathsWithoutAllocation(t *testing.T) {
	o := small(layout.PlacementInline)
	r := open(t, o, rig.Wrappers{Device: func(name string, d device.Device) device.Device {
		if name != rig.Origin {
			return d
		}
		return still{d.Size()}
	}})
	p := device.Buffer(32 << 10)
	write := func() {
		_, err := r.Volume.WriteAt(p, 8<<10)
		require.NoError(t, err)
	}
	require.Zero(t, testing.AllocsPerRun(100, write), "without snapshots")
	_, err := r.Server.CreateSnapshot(1)
	require.NoError(t, err)
	write()
	require.Zero(t, testing.AllocsPerRun(100, write), "settled")
	require.Zero(t, testing.AllocsPerRun(100, func() {
		_, err := r.Volume.ReadAt(p, 512)
		require.NoError(t, err)
	}), "read")
}

// still is a device that does nothing.
type still struct{ size int64 }

func (still) ReadAt(p []byte, _ int64) (int, error)  { return len(p), nil }
func (still) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (still) Flush() error                           { return nil }
func (still) Discard(_, _ int64) error               { return nil }
func (s still) Size() int64                          { return s.size }

// TestEveryAlignment writes and reads at every offset of sectors around the bounds
// of chunks and at the partial last one.
func TestEveryAlignment(t *testing.T) {
	const sectors = 4096 / block.SectorSize
	o := small(layout.PlacementInline)
	o.ChunkSize, o.OriginSize, o.AheadBytes = 4<<10, 5*4096+3*block.SectorSize, -1
	r, err := metamorphic.NewRunner(o, rig.Wrappers{})
	require.NoError(t, err)
	t.Cleanup(func() { r.Rig.Abandon() })
	all := o.OriginSize / block.SectorSize
	seed := uint64(0)
	for off := int64(0); off < all; off++ {
		for n := int64(1); n <= min(2*sectors+1, all-off); n += 1 + n/3 {
			seed++
			w := metamorphic.Op{Kind: metamorphic.Write, Off: off * block.SectorSize, Len: n * block.SectorSize, Seed: seed}
			if seed%4 == 0 {
				w.Kind = metamorphic.Zero
			}
			require.NoError(t, r.All([]metamorphic.Op{
				{Kind: metamorphic.Snapshot, Tag: 1}, w, {Kind: metamorphic.Read, Off: w.Off, Len: w.Len},
				{Kind: metamorphic.ReadSnap, Tag: 1, Off: w.Off, Len: w.Len},
			}))
			require.NoError(t, r.Compare(), "%v", w)
			require.NoError(t, r.Do(metamorphic.Op{Kind: metamorphic.Delete, Tag: 1}))
		}
		require.NoError(t, r.Rig.Maintain())
	}
	require.NoError(t, r.Do(metamorphic.Op{Kind: metamorphic.Reopen}))
	require.Zero(t, r.Rig.Server.Status().Exceptions)
}

// TestOriginReadsNeverTouchTheStore lets the store vanish.
func TestOriginReadsNeverTouchTheStore(t *testing.T) {
	var plan errdev.Plan
	r := open(t, small(layout.PlacementInline), planned(rig.Store, &plan))
	_, err := r.Server.CreateSnapshot(1)
	require.NoError(t, err)
	before := plan.Counts().Total()
	plan.DieAt(1)
	_, err = r.ReadOrigin()
	require.NoError(t, err)
	require.Equal(t, before, plan.Counts().Total())
}

// TestOneFlushABatch counts flushes: one write is one batch, and so are many
// in one submission.
func TestOneFlushABatch(t *testing.T) {
	var plan errdev.Plan
	o := small(layout.PlacementInline)
	o.AheadBytes = -1
	r := open(t, o, planned(rig.Store, &plan))
	_, err := r.Server.CreateSnapshot(1)
	require.NoError(t, err)
	flushes := func(do func()) int64 {
		before := plan.Counts()
		do()
		return plan.Counts().Flushes - before.Flushes
	}
	require.Equal(t, int64(1), flushes(func() {
		_, err := r.Volume.WriteAt(make([]byte, 512), 0)
		require.NoError(t, err)
	}))
	require.Equal(t, int64(1), flushes(func() {
		var ops []device.Op
		for i := int64(1); i < 30; i++ {
			ops = append(ops, device.Op{Kind: device.Write, Off: i * 32 << 10, Data: make([]byte, 512)})
		}
		require.NoError(t, r.Volume.Do(ops))
	}))
	require.Zero(t, flushes(func() {
		_, err := r.Volume.WriteAt(make([]byte, 16<<10), 0)
		require.NoError(t, err)
	}), "a settled chunk")
}

func TestOpenOriginRefusesWhatDoesNotFit(t *testing.T) {
	r := open(t, small(layout.PlacementInline), rig.Wrappers{})
	_, err := volume.OpenOrigin(r.Server, r.Origin, r.Devices, volume.Options{})
	require.ErrorIs(t, err, store.ErrAttached)
	require.NoError(t, r.Volume.Close())
	_, err = volume.OpenOrigin(r.Server, still{1 << 20}, r.Devices, volume.Options{})
	require.ErrorIs(t, err, block.ErrGeometry)
	r.Volume, err = volume.OpenOrigin(r.Server, r.Origin, r.Devices, volume.Options{})
	require.NoError(t, err, "a failed opening leaves no client behind")
}

// TestSettledMapForgets has room for one page of the map only, for an origin of
// several, so that bits are dropped and asked for again.
func TestSettledMapForgets(t *testing.T) {
	o := small(layout.PlacementInline)
	o.ChunkSize, o.OriginSize, o.StoreSize, o.SettledBytes, o.AheadBytes = 4<<10, 64<<20, 32<<20, 1, -1
	r, err := metamorphic.NewRunner(o, rig.Wrappers{})
	require.NoError(t, err)
	t.Cleanup(func() { r.Rig.Abandon() })
	require.NoError(t, r.Do(metamorphic.Op{Kind: metamorphic.Snapshot, Tag: 1}))
	rng := rand.New(rand.NewPCG(4, 4))
	var places []int64
	for range 50 {
		places = append(places, rng.Int64N(o.OriginSize/4096)*4096)
	}
	for round := range uint64(3) {
		for i, off := range places {
			w := metamorphic.Op{Kind: metamorphic.Write, Off: off, Len: 4096, Seed: round*100 + uint64(i)}
			require.NoError(t, r.Do(w))
		}
	}
	require.LessOrEqual(t, r.Rig.Server.Status().Exceptions, uint64(50), "nothing is copied twice")
	require.NoError(t, r.Compare())
}
