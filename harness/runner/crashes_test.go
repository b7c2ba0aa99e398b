// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/analysis/goals"
	"zumastor.org/zumastor/harness/spec"
)

func TestCrashesAreCounted(t *testing.T) {
	all := []spec.Experiment{{Name: "E10", Procedure: spec.Crashes, Measured: true, Ops: []string{"revert", "group-snapshot"}, MinOps: 3, Rounds: 1}}
	r := start(t, t.TempDir(), all)
	require.NoError(t, r.all(t.Context(), all))
	survived := map[string]float64{}
	for s := range r.record.Measured().All() {
		survived[s.Config.Get("op")] = s.Values[goals.Crashes]
	}
	require.GreaterOrEqual(t, survived["revert"], 3.0)
	require.GreaterOrEqual(t, survived["group-snapshot"], 3.0)
	require.Len(t, survived, 2)
}

// TestCrashesKnowTheOpsOfFiles holds the names in files to those of the verbs.
func TestCrashesKnowTheOpsOfFiles(t *testing.T) {
	for _, suite := range []spec.Suite{spec.Smoke, spec.Quick, spec.Full} {
		all, err := spec.Load(suite)
		require.NoError(t, err)
		chosen, err := spec.Select(all, []string{"E10"})
		require.NoError(t, err)
		require.NoError(t, newProcedure(bench{Experiment: chosen[0]}).prepare(t.Context()))
	}
	bad := spec.Experiment{Procedure: spec.Crashes, Ops: []string{"dance"}}
	require.ErrorIs(t, newProcedure(bench{Experiment: bad}).prepare(t.Context()), spec.ErrSpec)
}
