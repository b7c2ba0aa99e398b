// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/analysis/goals"
	"zumastor.org/zumastor/harness/spec"
)

// The faults of a round are counted, and have the goals' values.
func TestCuts(t *testing.T) {
	x := &cuts{bench{Experiment: spec.Experiment{Name: "D4", Procedure: spec.Cuts, MinOps: 5}}}
	samples, err := x.round(t.Context(), 0)
	require.NoError(t, err)
	require.Len(t, samples, 1)
	require.GreaterOrEqual(t, samples[0].Values[goals.Faults], 5.0)
	require.Zero(t, samples[0].Values[goals.Corrupted])
	require.LessOrEqual(t, samples[0].Values[goals.CarriedAgain], 1.0)
}
