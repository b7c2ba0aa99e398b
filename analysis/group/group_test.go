// SPDX-License-Identifier: Apache-2.0

package group

import (
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/results"
)

func sample(round int, ns float64, conf ...string) results.Sample {
	return results.Sample{
		Experiment: "E2", Kind: results.Measured, Round: round, N: 1, Config: results.Conf(conf...),
		Values: map[string]float64{results.NsPerOp: ns, results.IOPS: 1e9 / ns},
	}
}

func set(t *testing.T, samples ...results.Sample) results.Set {
	t.Helper()
	s, err := results.NewSet(results.Measured, samples...)
	require.NoError(t, err)
	return s
}

func chunkSizes(t *testing.T) results.Set {
	var all []results.Sample
	for round, slow := range []float64{1, 2, 4, 1, 1, 3} {
		all = append(all,
			sample(round, 100*slow, "op", "firstwrite", "variant", "raw"),
			sample(round, 400*slow, "op", "firstwrite", "variant", "inline", "chunk", "65536"),
			sample(round, 500*slow, "op", "firstwrite", "variant", "inline", "chunk", "4096"),
			sample(round, 800*slow, "op", "firstwrite", "variant", "disk", "chunk", "4096"),
			sample(round, 7*slow, "op", "read", "variant", "inline", "chunk", "4096"))
	}
	return set(t, all...)
}

func TestSelectAgainstABaselineWithFewerKeys(t *testing.T) {
	q := Query{
		Where: Selector{"experiment": "E2", "op": "firstwrite"}, Unit: results.NsPerOp,
		As: Cost, Against: Selector{"variant": "raw"}, X: "chunk", Line: "variant",
	}
	for _, unit := range []string{results.NsPerOp, results.IOPS} {
		q.Unit = unit
		s, err := Select(chunkSizes(t), q)
		require.NoError(t, err)
		require.Empty(t, s.AllWarnings())
		require.Equal(t, results.Measured, s.Kind)
		require.Equal(t, []string{"4096", "65536"}, s.Xs())
		require.Len(t, s.Lines, 2, "the baseline is no line")
		require.Equal(t, "inline", s.Lines[0].Name)
		for x, want := range map[string]float64{"4096": 5, "65536": 4} {
			e, ok := s.Lines[0].At(x)
			require.True(t, ok)
			require.InDelta(t, want, e.Center, 1e-9, unit)
			require.InDelta(t, want, e.Hi, 1e-9, "slow rounds cancel out")
		}
		_, ok := s.Lines[1].At("65536")
		require.False(t, ok)
	}
	q.As = Speed
	s, err := Select(chunkSizes(t), q)
	require.NoError(t, err)
	require.InDelta(t, 0.2, s.Lines[0].Points[0].Estimate.Center, 1e-9)
}

func TestSelectRefusesToMixSettings(t *testing.T) {
	_, err := Select(chunkSizes(t), Query{Unit: results.NsPerOp, X: "chunk", Line: "variant"})
	require.ErrorIs(t, err, ErrMixed)
	require.ErrorContains(t, err, "op=read")
}

func TestBaselineWithinOneVariant(t *testing.T) {
	s := set(t,
		sample(0, 103, "variant", "inline", "snapshots", "1000"),
		sample(0, 100, "variant", "inline", "snapshots", "1"),
		sample(0, 10, "variant", "disk", "snapshots", "1"))
	cells, warnings := Cells(s, Query{
		Where: Selector{"snapshots": "1000"}, Unit: results.NsPerOp, As: Cost, Against: Selector{"snapshots": "1"},
	})
	require.Empty(t, warnings)
	require.Len(t, cells, 1)
	require.InDelta(t, 1.03, cells[0].Estimate.Center, 1e-9)
}

func TestMissingAndAmbiguousBaselines(t *testing.T) {
	s := set(t,
		sample(0, 103, "variant", "inline", "qd", "1"),
		sample(0, 100, "variant", "raw", "qd", "32"),
		sample(0, 100, "variant", "a", "cache", "1"), sample(0, 100, "variant", "a", "cache", "2"),
		sample(1, 100, "variant", "late"))
	for against, want := range map[string]string{"raw": "no baseline", "a": "two baselines fit", "late": "no round has both"} {
		cells, warnings := Cells(s, Query{
			Where: Selector{"variant": "inline"}, Unit: results.NsPerOp, As: Cost, Against: Selector{"variant": against},
		})
		require.Empty(t, cells)
		require.Len(t, warnings, 1)
		require.Contains(t, warnings[0], want)
	}
}

func TestSelectorOnAbsentKeys(t *testing.T) {
	x := sample(0, 1, "variant", "raw")
	require.True(t, Selector{"chunk": "", "variant": "raw", "experiment": "E2"}.Match(x))
	require.False(t, Selector{"variant": ""}.Match(x))
	require.False(t, Selector{"experiment": "E1"}.Match(x))
	require.True(t, Selector(nil).Match(x))
}

func TestPointsKeepOrderUnlessNumbers(t *testing.T) {
	s, err := Select(set(t, sample(0, 1, "op", "write"), sample(0, 1, "op", "read")), Query{Unit: results.NsPerOp, X: "op"})
	require.NoError(t, err)
	require.Equal(t, []string{"write", "read"}, s.Xs())
}

func TestWarningsNameThePoints(t *testing.T) {
	s, err := Select(set(t, sample(0, 1, "op", "write"), sample(0, 1, "op", "read")), Query{Unit: results.NsPerOp, X: "op"})
	require.NoError(t, err)
	require.Len(t, s.AllWarnings(), 1)
	require.Contains(t, s.AllWarnings()[0], "(write and 1 more)")
}

func TestModelledValuesAreExact(t *testing.T) {
	a, b := sample(0, 310, "variant", "inline"), sample(0, 100, "variant", "raw")
	a.Kind, b.Kind = results.Modelled, results.Modelled
	s, err := results.NewSet(results.Modelled, a, b)
	require.NoError(t, err)
	cells, _ := Cells(s, Query{Unit: results.NsPerOp, As: Cost, Against: Selector{"variant": "raw"}})
	require.Len(t, cells, 1)
	require.Empty(t, cells[0].Estimate.Warnings)
	require.InDelta(t, 3.1, cells[0].Estimate.Lo, 1e-12)
	require.Equal(t, 1.0, cells[0].Estimate.Confidence)
}

func TestLatenciesMergeRounds(t *testing.T) {
	var all []results.Sample
	for round := range 3 {
		for _, variant := range []string{"raw", "inline"} {
			s := sample(round, 1, "variant", variant)
			s.Latency = results.NewLatency()
			require.NoError(t, s.Latency.RecordValue(1000))
			all = append(all, s)
		}
	}
	all = append(all, sample(0, 1, "variant", "none"))
	d, err := Latencies(set(t, all...), nil, "variant")
	require.NoError(t, err)
	require.Len(t, d.List, 2)
	require.Equal(t, "raw", d.List[0].Name)
	require.Equal(t, int64(3), d.List[0].Latency.TotalCount())
	require.Equal(t, int64(1), all[0].Latency.TotalCount(), "samples stay as they were")
	_, err = Latencies(set(t, all...), nil, "op")
	require.ErrorIs(t, err, ErrMixed)
}
