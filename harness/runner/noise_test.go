// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/harness/spec"
	"zumastor.org/zumastor/results"
)

func TestSpread(t *testing.T) {
	times := make([]time.Duration, 100)
	for i := range times {
		times[i] = 1000
	}
	require.Zero(t, spread(times))
	for i := range 9 {
		times[i*7] = 5000
	}
	require.Zero(t, spread(times), "a few slow pieces are not noise")
	for i := range 30 {
		times[i] = 1200
	}
	require.InDelta(t, 0.2, spread(times), 1e-9)
}

func TestNoiseMarksARun(t *testing.T) {
	record, err := results.Create(t.TempDir(), results.Manifest{Suite: "smoke"})
	require.NoError(t, err)
	noise := &results.Noise{Spread: 0.09, Pieces: 200, Limit: 0.10}
	require.NoError(t, warnOfNoise(record, noise))
	require.NoError(t, warnOfNoise(record, nil))
	require.Empty(t, record.Manifest().Warnings)
	noise.Spread = 0.234
	require.NoError(t, warnOfNoise(record, noise))
	require.Equal(t, []string{"noisy machine: before the run, 23.4% slower than the median at the 90th percentile of 200 equal pieces of work, 0.0% of the time stolen by the host"},
		record.Manifest().Warnings)
}

func TestNoiseIsMeasuredBeforeTimes(t *testing.T) {
	n, err := preflight(t.Context(), []spec.Experiment{{Measured: false}}, true)
	require.NoError(t, err)
	require.Nil(t, n)
	n, err = preflight(t.Context(), []spec.Experiment{{Measured: true}}, false)
	require.NoError(t, err)
	require.Equal(t, noisePieces, n.Pieces)
}
