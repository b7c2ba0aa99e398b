// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"fmt"
	"time"

	"zumastor.org/zumastor/analysis/goals"
	"zumastor.org/zumastor/engine/replicate/cuttest"
	"zumastor.org/zumastor/results"
)

// cuts replicates snapshots of a volume in use, cuts connections and kills either side,
// and counts what came of it. Time is that of a fault with all that it caused; the
// machines are in memory.
type cuts struct{ bench }

func (x *cuts) prepare(context.Context) error { return nil }

func (x *cuts) close() error { return nil }

// round makes MinOps faults. Other rounds make other ones.
func (x *cuts) round(ctx context.Context, n int) ([]results.Sample, error) {
	began := time.Now()
	out, err := cuttest.Run(ctx, cuttest.Options{Faults: x.MinOps, Seed: x.random(n).Uint64()})
	if err != nil {
		return nil, fmt.Errorf("cutting replication: %w", err)
	}
	t := tally{elapsed: time.Since(began), ops: int64(out.Faults())}
	t.set(goals.Faults, float64(out.Faults()))
	t.set(goals.Corrupted, float64(out.Corrupted))
	t.set(goals.CarriedAgain, float64(out.MostLost))
	return []results.Sample{t.sample(x.Name, results.Measured, n, config("replicate", "", 0, 0, noSnapshots, ""))}, nil
}
