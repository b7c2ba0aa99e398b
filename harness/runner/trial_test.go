// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/harness/spec"
	"zumastor.org/zumastor/results"
)

// TestTrialsMakeTheWhole: the trials of a suite record what one run of it does: the same
// series in the same rounds, and the same modelled figures.
func TestTrialsMakeTheWhole(t *testing.T) {
	all := tiny()
	whole := start(t, t.TempDir(), all)
	require.NoError(t, whole.all(t.Context(), all))
	want, got := map[string]float64{}, map[string]float64{}
	take := func(to map[string]float64, run *results.Run) {
		for _, set := range []results.Set{run.Measured(), run.Modelled()} {
			for s := range set.All() {
				key := fmt.Sprint(s.Kind, s.Name(), s.Round)
				require.NotContains(t, to, key)
				to[key] = 0
				if s.Kind == results.Modelled {
					to[key] = s.Values[results.NsPerOp]
				}
			}
		}
	}
	take(want, whole.record)
	for i := range spec.Rounds(all) {
		part, err := spec.Trial{Index: i, Count: spec.Rounds(all)}.Take(all)
		require.NoError(t, err)
		require.Len(t, part, 1, "one round a trial")
		r := start(t, t.TempDir(), part)
		require.NoError(t, r.all(t.Context(), part))
		take(got, r.record)
	}
	require.Equal(t, want, got)
}

// TestPlanDigest: plans are equal where all that decides what is measured is.
func TestPlanDigest(t *testing.T) {
	o := Options{Suite: spec.Smoke, Experiments: []string{"E6"}, Seed: 1}
	one, err := PlanOf(o)
	require.NoError(t, err)
	require.Equal(t, 4, one.Rounds)
	same := o
	same.Trial, same.Origin, same.ID = spec.Trial{Index: 1, Count: 4}, map[string]string{"machine": "x"}, "y"
	two, err := PlanOf(same)
	require.NoError(t, err)
	require.Equal(t, one.Digest, two.Digest)
	require.Equal(t, "1/4", Settings(same)["trial"])
	require.Equal(t, "x", Settings(same)["machine"])
	for _, change := range []func(*Options){
		func(o *Options) { o.Seed = 2 }, func(o *Options) { o.Suite = spec.Quick }, func(o *Options) { o.Experiments = []string{"E3"} },
		func(o *Options) { o.Bed.Device = "/dev/x" }, func(o *Options) { o.Axes.Chunks = []int64{4096} },
	} {
		other := o
		change(&other)
		three, err := PlanOf(other)
		require.NoError(t, err)
		require.NotEqual(t, one.Digest, three.Digest)
	}
}

// TestTrialIsMarked: who looks at one trial is told that it is a part.
func TestTrialIsMarked(t *testing.T) {
	for trial, want := range map[spec.Trial][]string{
		{}: nil, {Index: 0, Count: 1}: nil, {Index: 1, Count: 3}: {"this is trial 1/3: a part of the rounds"},
	} {
		record, err := results.Create(t.TempDir(), results.Manifest{Suite: "smoke"})
		require.NoError(t, err)
		require.NoError(t, warnOfTrial(record, trial))
		require.Equal(t, want, record.Manifest().Warnings)
	}
}
