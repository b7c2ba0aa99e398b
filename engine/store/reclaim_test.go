// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"testing"

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
