// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/results"
)

// TestGateOverTime takes the recorded comparisons of the noise study.
func TestGateOverTime(t *testing.T) {
	run, err := results.Open("../../results/studies/noise")
	require.NoError(t, err)
	of := func(op string) []results.Sample {
		var out []results.Sample
		for s := range run.Measured().All() {
			if s.Config.Get("op") == op && s.Config.Get("duel") != "" {
				out = append(out, s)
			}
		}
		return out
	}
	same, slowed := of("same"), of("slowed")
	require.Len(t, same, 40)
	require.Len(t, slowed, 20)
	alarms, caught, orders := overTime(same, slowed)
	require.Zero(t, alarms)
	require.Equal(t, 10, orders)
	require.Equal(t, 10, caught)

	// Builds that are not slower are not found, and a change amid equal ones is an alarm.
	_, caught, orders = overTime(same[:20], same[20:])
	require.Equal(t, 10, orders)
	require.Zero(t, caught)
	changing := same[:20:20]
	for _, s := range slowed {
		s.Config = s.Config.With("duel", "1"+s.Config.Get("duel"))
		changing = append(changing, s)
	}
	alarms, _, _ = overTime(changing, nil)
	require.Equal(t, 2, alarms)
	alarms, caught, orders = overTime(nil, nil)
	require.Zero(t, alarms+caught+orders)
}
