// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/check/checktest"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/store"
)

// synthetic opens a store of many exceptions, seen through wrap.
func synthetic(t *testing.T, contents checktest.Synthetic, wrap func(device.Device) device.Device, o store.Options) *store.Store {
	t.Helper()
	d := memdev.New(contents.StoreSize())
	require.NoError(t, contents.Write(d))
	s, err := store.Open(placement.Devices{Store: wrap(d)}, o)
	require.NoError(t, err)
	return s
}

// A deletion ends, also where an older snapshot needs more of what the deleted one had
// than is looked at in one call of Maintain.
func TestDeletionOfWhatIsNeededEnds(t *testing.T) {
	contents := checktest.Synthetic{Exceptions: 40000, Snapshots: 2}
	s := synthetic(t, contents, func(d device.Device) device.Device { return d }, store.Options{})
	require.NoError(t, s.DeleteSnapshot(2))
	calls := 0
	for more := true; more; calls++ {
		var err error
		more, err = s.Maintain()
		require.NoError(t, err)
		require.Less(t, calls, 100, "it begins over and over")
	}
	require.Zero(t, s.Status().SnapshotsGoing)
	require.EqualValues(t, contents.Exceptions, s.Status().Exceptions, "the other snapshot needs all")
	require.NoError(t, s.Close())
}

// crowded is a device that others use too: every read waits.
type crowded struct {
	device.Device
	wait time.Duration
}

func (d *crowded) ReadAt(p []byte, off int64) (int, error) {
	time.Sleep(d.wait)
	return d.Device.ReadAt(p, off)
}

// A deletion keeps its least rate where reads take so long that one at a time would
// be a tenth of it, and no more than it needs where they do not.
func TestDeletionKeepsItsLeastRate(t *testing.T) {
	const rate = 500
	contents := checktest.Synthetic{Exceptions: 400000, Snapshots: 400} // a page for each that is freed
	for wait, most := range map[time.Duration]time.Duration{20 * time.Millisecond: 10 * time.Second, 100 * time.Microsecond: time.Second} {
		synctest.Test(t, func(t *testing.T) {
			d := &crowded{}
			s := synthetic(t, contents, func(under device.Device) device.Device { d.Device = under; return d },
				store.Options{DeleteRate: rate, CacheBytes: 8 << 20})
			d.wait = wait
			before, began := s.Status().Exceptions, time.Now()
			require.NoError(t, s.DeleteSnapshot(1))
			for more := true; more; {
				var err error
				more, err = s.Maintain()
				require.NoError(t, err)
			}
			freed := before - s.Status().Exceptions
			require.Greater(t, freed, uint64(900))
			require.Less(t, time.Since(began), most, "the bubble's clock, which only reads move on")
			d.wait = 0
			require.NoError(t, s.Close())
		})
	}
}
