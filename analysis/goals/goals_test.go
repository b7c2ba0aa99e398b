// SPDX-License-Identifier: Apache-2.0

package goals

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/results"
)

func sample(kind results.Kind, experiment string, round int, unit string, v float64, conf ...string) results.Sample {
	return results.Sample{
		Experiment: experiment, Kind: kind, Round: round, N: 1,
		Config: results.Conf(conf...), Values: map[string]float64{unit: v},
	}
}

func row(t *testing.T, name string, samples ...results.Sample) Row {
	t.Helper()
	var sets [2][]results.Sample
	for _, s := range samples {
		i := 0
		if s.Kind == results.Modelled {
			i = 1
		}
		sets[i] = append(sets[i], s)
	}
	measured, err := results.NewSet(results.Measured, sets[0]...)
	require.NoError(t, err)
	modelled, err := results.NewSet(results.Modelled, sets[1]...)
	require.NoError(t, err)
	for _, r := range EvaluateAll(All(), measured, modelled) {
		if r.Name == name {
			return r
		}
	}
	require.Fail(t, "no goal "+name)
	return Row{}
}

func pairs(ours, base float64) []results.Sample {
	var out []results.Sample
	for round := range 6 {
		slow := float64(round + 1)
		out = append(out,
			sample(results.Measured, "E6", round, results.NsPerOp, base*slow, "op", "rewrite", "variant", "raw", "qd", "1"),
			sample(results.Measured, "E6", round, results.NsPerOp, ours*slow, "op", "rewrite", "variant", "inline", "chunk", "65536", "qd", "1"))
	}
	return out
}

// The crashes of one verb say nothing of another.
func TestCrashesOfEveryVerbCount(t *testing.T) {
	verbs := []string{"resize-the-origin", "resize-the-store", "revert", "merge", "delete", "delete-recursively", "drop", "squash", "group-snapshot"}
	require.Len(t, verbs, CrashVerbs)
	var samples []results.Sample
	add := func(verb string, n float64) {
		samples = append(samples, sample(results.Measured, "E10", 0, Crashes, n, "op", verb))
	}
	for _, verb := range verbs[1:] {
		add(verb, 5000)
	}
	r := row(t, "crashes-survived", samples...)
	require.Equal(t, NotMeasured, r.Status)
	require.Equal(t, []string{"only 8 of 9 settings were measured"}, r.Warnings)
	add(verbs[0], 999)
	r = row(t, "crashes-survived", samples...)
	require.Equal(t, NotMet, r.Status)
	require.EqualValues(t, 999, r.Center)
	samples[len(samples)-1].Values[Crashes] = 1000
	require.Equal(t, Met, row(t, "crashes-survived", samples...).Status)
}

func TestEveryGoalIsNotMeasuredWithoutSamples(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range EvaluateAll(All(), results.Set{}, results.Set{}) {
		require.Equal(t, NotMeasured, r.Status, r.Name)
		require.Zero(t, r.N)
		require.False(t, seen[r.Name], "%s is there twice", r.Name)
		seen[r.Name] = true
		require.NotEmpty(t, r.What)
	}
	for _, name := range []string{"origin-read-vs-raw", "rewrite-vs-raw", "settled-allocs", "firstwrite-vs-copybound",
		"inline-vs-nvram-measured", "inline-vs-nvram-hdd", "inline-vs-nvram-ssd", "inline-vs-nvram-nvme",
		"write-1000-vs-1-snapshots", "write-1000-vs-1-median", "create-10000th", "nsnaps-hdd-16k", "metadata-per-exception", "memory-bounded",
		"qemu-firstwrite", "qemu-rewrite"} {
		require.True(t, seen[name], name)
	}
}

func TestRatioGoal(t *testing.T) {
	for name, tc := range map[string]struct {
		ours float64
		want Status
	}{"met": {100, Met}, "just met": {100 / 0.95, Met}, "not met": {110, NotMet}} {
		t.Run(name, func(t *testing.T) {
			r := row(t, "rewrite-vs-raw", pairs(tc.ours, 100)...)
			require.Equal(t, tc.want, r.Status)
			require.InDelta(t, 100/tc.ours, r.Center, 1e-9)
			require.Equal(t, 6, r.N)
			require.Contains(t, r.Setting, "variant=inline")
		})
	}
	noisy := append(pairs(100, 100)[:8], sample(results.Measured, "E6", 4, results.NsPerOp, 100, "op", "rewrite", "variant", "raw", "qd", "1"),
		sample(results.Measured, "E6", 4, results.NsPerOp, 130, "op", "rewrite", "variant", "inline", "chunk", "65536", "qd", "1"))
	require.Equal(t, Unclear, row(t, "rewrite-vs-raw", noisy...).Status)
}

func TestTheWorstSettingCounts(t *testing.T) {
	more := pairs(100, 100)
	for round := range 6 {
		more = append(more,
			sample(results.Measured, "E6", round, results.NsPerOp, 100, "op", "rewrite", "variant", "raw", "qd", "32"),
			sample(results.Measured, "E6", round, results.NsPerOp, 200, "op", "rewrite", "variant", "inline", "chunk", "65536", "qd", "32"))
	}
	r := row(t, "rewrite-vs-raw", more...)
	require.Equal(t, NotMet, r.Status)
	require.Contains(t, r.Setting, "qd=32")
	require.Contains(t, r.Note, "the worst of 2 settings; ")
	require.Empty(t, r.Warnings)
}

func TestAmountsAndScale(t *testing.T) {
	r := row(t, "create-10000th", sample(results.Measured, "E5", 0, BeyondFlush, 3e6, "op", "create", "variant", "inline", "snapshots", "10000"))
	require.Equal(t, Met, r.Status)
	require.InDelta(t, 3, r.Center, 1e-9)
	conf := []string{"op", "rewrite", "variant", "inline"}
	require.Equal(t, Met, row(t, "settled-allocs", sample(results.Measured, "E6", 0, results.AllocsPerOp, 0, conf...)).Status)
	require.Equal(t, NotMet, row(t, "settled-allocs", sample(results.Measured, "E6", 0, results.AllocsPerOp, 1, conf...)).Status)
}

func TestModelledGoalsTakeModelledSamplesOnly(t *testing.T) {
	of := func(kind results.Kind) []results.Sample {
		return []results.Sample{
			sample(kind, "E1", 0, results.NsPerOp, 310, "variant", "inline", "chunk", "16384", "snapshots", "4", "model", "hdd"),
			sample(kind, "E1", 0, results.NsPerOp, 100, "variant", "raw", "model", "hdd"),
		}
	}
	require.Equal(t, NotMeasured, row(t, "nsnaps-hdd-16k", of(results.Measured)...).Status)
	r := row(t, "nsnaps-hdd-16k", of(results.Modelled)...)
	require.Equal(t, Met, r.Status)
	require.Empty(t, r.Warnings)
	require.InDelta(t, 3.1, r.Hi, 1e-9)
}

func TestSamplesWithoutBaselineAreNotMeasured(t *testing.T) {
	r := row(t, "qemu-rewrite", sample(results.Measured, "PEER", 0, results.NsPerOp, 1, "op", "rewrite", "variant", "inline"))
	require.Equal(t, NotMeasured, r.Status)
	require.Len(t, r.Warnings, 1)
}

func TestRowsSurviveJSON(t *testing.T) {
	in := row(t, "rewrite-vs-raw", pairs(100, 100)...)
	text, err := json.Marshal(in)
	require.NoError(t, err)
	require.Contains(t, string(text), `"value":1`)
	var out Row
	require.NoError(t, json.Unmarshal(text, &out))
	require.Equal(t, in, out)
}

func TestGoalsOfTheKernelTarget(t *testing.T) {
	first := func(variant, device, snapshots string, ns float64) results.Sample {
		return sample(results.Measured, "LAB", 0, results.NsPerOp, ns, "op", "firstwrite", "variant", variant, "snapshots", snapshots, "device", device, "qd", "1")
	}
	all := []results.Sample{
		first("snapshot", "brd", "4", 250), first("snapshot", "ssd", "4", 410), first("snapshot", "ssd", "16", 1100), first("thin", "brd", "1", 90),
		first("ddsnap", "brd", "1", 100), first("ddsnap", "brd", "4", 100), first("ddsnap", "ssd", "4", 100), first("ddsnap", "ssd", "16", 100),
	}
	for name, want := range map[string]Status{
		"dm-firstwrite-brd-1": NotMeasured, "dm-firstwrite-brd-4": Met, "dm-firstwrite-ssd-4": Met, "dm-firstwrite-ssd-16": NotMet, "dm-firstwrite-thin": NotMet,
	} {
		require.Equal(t, want, row(t, name, all...).Status, name)
	}
	many := func(snapshots string, ns float64) results.Sample {
		return sample(results.Measured, "LAB", 0, results.NsPerOp, ns, "op", "many", "variant", "ddsnap", "snapshots", snapshots)
	}
	require.Equal(t, Met, row(t, "dm-many", many("1", 100), many("1000", 102)).Status)
	require.Equal(t, NotMet, row(t, "dm-many", many("1", 100), many("1000", 104)).Status)
}
