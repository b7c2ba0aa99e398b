// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"zumastor.org/zumastor/harness/spec"
	"zumastor.org/zumastor/results"
)

// ErrNoisy is wrapped when a strict run finds the machine too noisy to measure on.
var ErrNoisy = errors.New("the machine is too noisy")

// How the noise is measured: pieces of equal work, of a millisecond or some each.
const (
	noisePieces = 200
	noiseRounds = 400_000 // of arithmetic, a piece
	noiseLimit  = 0.10    // the spread from which a run is called noisy
)

// MeasureNoise does equal pieces of work and says how unequal their times were. It
// takes a fraction of a second, on one processor; of devices it says nothing.
func MeasureNoise(ctx context.Context) (*results.Noise, error) {
	began := results.ReadCPUTime()
	times := make([]time.Duration, 0, noisePieces)
	for range noisePieces {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		start := time.Now()
		work(noiseRounds)
		times = append(times, time.Since(start))
	}
	return &results.Noise{Spread: spread(times), Pieces: len(times), StealPercent: results.StealSince(began), Limit: noiseLimit}, nil
}

// spread returns how much longer the 90th percentile is than the median.
func spread(times []time.Duration) float64 {
	sorted := slices.Sorted(slices.Values(times))
	middle, slow := sorted[len(sorted)/2], sorted[len(sorted)*9/10]
	return float64(slow)/float64(max(1, middle)) - 1
}

// sink keeps the compiler from leaving the work out.
var sink uint64

// work is arithmetic in which each step needs the one before.
func work(rounds int) {
	x := sink | 1
	for range rounds {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	sink = x
}

// preflight measures the noise before a run that takes times; nil for others. A
// strict run on a noisy machine is refused, with an error that wraps [ErrNoisy].
func preflight(ctx context.Context, chosen []spec.Experiment, strict bool) (*results.Noise, error) {
	if !slices.ContainsFunc(chosen, func(e spec.Experiment) bool { return e.Measured }) {
		return nil, nil
	}
	n, err := MeasureNoise(ctx)
	if ctx.Err() != nil {
		return nil, nil // the run itself says that it was interrupted
	}
	if err == nil && strict && n.Noisy() {
		err = fmt.Errorf("%w: %s, more than %.0f%%: stop what else runs, or run without --strict, which marks the run", ErrNoisy, n, 100*n.Limit)
	}
	return n, err
}

// warnOfNoise marks a run on a noisy machine.
func warnOfNoise(record *results.Run, n *results.Noise) error {
	if !n.Noisy() {
		return nil
	}
	return record.Warn(fmt.Sprintf("noisy machine: before the run, %s", n))
}
