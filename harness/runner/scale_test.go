// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/analysis/goals"
	"zumastor.org/zumastor/harness/spec"
	"zumastor.org/zumastor/results"
)

func TestScale(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	all := []spec.Experiment{{
		Name: "E9", Procedure: spec.Scale, Measured: true, Variants: []string{"inline"}, Exceptions: 40000, Snapshots: []int{400, 20},
		Chunks: []int64{4 << 10}, Depths: []int{8}, Block: 4096, Origin: 4 * mib, Window: 20 * time.Millisecond, MinOps: 8, MaxOps: 40, Rounds: 2,
	}}
	r := start(t, t.TempDir(), all)
	r.Program, r.Bed.Dir = []string{self}, t.TempDir()
	require.NoError(t, r.all(t.Context(), all))
	seen := map[string]int{}
	for s := range r.record.Measured().All() {
		require.Positive(t, s.Values[results.NsPerOp], s.Name())
		op := s.Config.Get("op")
		seen[op+" "+s.Config.Get("snapshots")+s.Config.Get("deleting")]++
		if op == "check" {
			require.Greater(t, s.Values[goals.PeakBytes], float64(mib))
		}
		if s.Config.Get("deleting") == "yes" {
			require.Contains(t, s.Values, goals.FreedExceptions)
			require.Contains(t, s.Values, goals.FreedPerSecond)
		}
		if op == "delete" && s.Config.Get("snapshots") == "20" {
			require.InDelta(t, 2000, s.Values[goals.FreedExceptions], 300)
		}
	}
	require.Equal(t, map[string]int{
		"recovery 400": 2, "check 400": 2, "foreground 400no": 2, "foreground 400yes": 2, "delete 400": 2, "delete 20": 2,
	}, seen)
}
