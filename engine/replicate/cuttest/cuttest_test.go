// SPDX-License-Identifier: Apache-2.0

package cuttest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/replicate/cuttest"
)

// TestTwoHundredCuts: no cut of the connection and no end of either side leaves a copy that
// is not what it says, or costs more than one record. With -short there are fewer.
func TestTwoHundredCuts(t *testing.T) {
	o := cuttest.Options{Faults: 200, Seed: 1}
	if testing.Short() {
		o.Faults = 10
	}
	out, err := cuttest.Run(t.Context(), o)
	t.Logf("%+v", out)
	require.NoError(t, err)
	require.Zero(t, out.Corrupted, out.Trouble)
	require.LessOrEqual(t, out.MostLost, 1)
	require.GreaterOrEqual(t, out.Faults(), o.Faults)
	require.Positive(t, out.Snapshots)
	if testing.Short() {
		return
	}
	require.Positive(t, out.Resumed)
	for _, n := range []int{out.Cuts, out.SenderKills, out.ReceiverKills, out.PowerCuts} {
		require.Positive(t, n)
	}
}
