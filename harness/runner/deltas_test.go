// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/analysis/goals"
	"zumastor.org/zumastor/harness/export"
	"zumastor.org/zumastor/harness/spec"
)

// TestReplication: the longest stage counts, and an extent's time of the others.
func TestReplication(t *testing.T) {
	m := outcome{encode: export.DeltaReport{Seconds: 2, Coded: 1e6, Extents: 10}, decode: export.DeltaReport{Seconds: 1}}
	require.Equal(t, 8300*time.Millisecond, m.replication(1), "8 s on the link")
	require.Equal(t, 2100800*time.Microsecond, m.replication(1000), "2 s of coding, and 8 ms on the link")
	m.encode.Extents = 0
	require.Equal(t, 11*time.Second, m.replication(1), "what cannot be streamed goes as a whole")
}

func TestCompared(t *testing.T) {
	d := &deltas{bench: bench{Experiment: spec.Experiment{Name: "D1", Extents: []int64{1 << 20}}}}
	made := func(variant string, coded int64, seconds float64) *outcome {
		m := &outcome{coding: coding{variant: variant, extent: 1 << 20}, encode: export.DeltaReport{Coded: coded, Seconds: seconds, PeakBytes: 1 << 20}}
		if m.program() {
			m.extent = 0
		}
		return m
	}
	s := d.compared("x", []*outcome{made("zlib", 100, 1), nil, made("similar:11", 50, 9), made("best", 40, 2), made("XDELTA3", 80, 8), made("GZIP", 90, 1)}, 0)
	require.NoError(t, s.Validate())
	require.Equal(t, 0.8, s.Values[goals.AgainstSmallest])
	require.InDelta(t, 40.0/90, s.Values[goals.AgainstGzip], 1e-9)
	require.Equal(t, 4.0, s.Values[goals.SpeedAgainstXdelta])
	require.Equal(t, 0.5, s.Values[goals.BytesAgainstXdelta])
	require.NotContains(t, s.Values, goals.BytesAgainstPatch, "there is no zstd")
}

// TestDeltaSamples: what is recorded of every coding is valid, and no two are one series.
func TestDeltaSamples(t *testing.T) {
	all, err := spec.Load(spec.Delta)
	require.NoError(t, err)
	chosen, err := spec.Select(all, []string{"D1"})
	require.NoError(t, err)
	d := &deltas{bench: bench{Experiment: chosen[0]}}
	seen := map[string]bool{}
	for _, c := range d.codings(0) {
		r := export.DeltaReport{Seconds: 1, Coded: 1000, Content: 4000, Extents: 4, PeakBytes: 1 << 20}
		for _, s := range d.samples(&outcome{coding: c, data: "x", encode: r, decode: r, applied: true}, 4000, 0) {
			require.NoError(t, s.Validate())
			require.False(t, seen[s.Name()], s.Name())
			seen[s.Name()] = true
		}
	}
}

// TestLaterRoundsLeaveOut what no goal needs.
func TestLaterRoundsLeaveOut(t *testing.T) {
	all, err := spec.Load(spec.Delta)
	require.NoError(t, err)
	chosen, err := spec.Select(all, []string{"D1"})
	require.NoError(t, err)
	d := &deltas{bench: bench{Experiment: chosen[0]}}
	first, later := d.codings(0), d.codings(1)
	require.Greater(t, len(first), len(later)+10)
	for _, c := range later {
		require.Contains(t, first, c)
	}
	for _, v := range []string{"best", "XDELTA3", "ZSTD-PATCH-FROM", "zlib", "zstd"} {
		require.True(t, slices.ContainsFunc(later, func(c coding) bool { return c.variant == v }), v)
	}
}
