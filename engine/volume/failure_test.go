// SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/errdev"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/store"
)

// small returns the options of a small volume with room for everything.
func small(p layout.Placement) rig.Options {
	return rig.Options{
		OriginSize: 1<<20 + 3*block.SectorSize, ChunkSize: 16 << 10, Placement: p, Separate: true,
		StoreSize: 32 << 20, MetaSize: 16 << 20, JournalSize: 1 << 20,
	}
}

// planned puts a plan on one device of a rig.
func planned(part string, plan *errdev.Plan) rig.Wrappers {
	return rig.Wrappers{Device: func(name string, d device.Device) device.Device {
		if name != part {
			return d
		}
		return plan.Wrap(d)
	}}
}

// A snapshot's record was written and its flush failed: the snapshot may be there
// after opening the store again. It was there, with what had been written to the
// origin since, because the client had been told that there was no snapshot.
func TestDoubtfulSnapshotIsNotOverwritten(t *testing.T) {
	var plan errdev.Plan
	r, err := rig.New(small(layout.PlacementInline), planned(rig.Meta, &plan))
	require.NoError(t, err)
	_, err = r.Volume.WriteAt(make([]byte, 512), 0)
	require.NoError(t, err)
	plan.Inject(errdev.Fault{Kinds: errdev.Flushes})
	_, err = r.Server.CreateSnapshot(1)
	require.ErrorIs(t, err, store.ErrFailed)

	_, err = r.Volume.WriteAt([]byte{511: 1}, 0)
	require.ErrorIs(t, err, store.ErrFailed)

	again := r.Flushed()
	r.Abandon()
	require.NoError(t, again.Open())
	defer again.Abandon()
	require.Equal(t, []block.Tag{1}, again.Live(), "the record survived")
	p, err := again.ReadSnapshot(1, 0, 512)
	require.NoError(t, err)
	require.Equal(t, make([]byte, 512), p)
}
