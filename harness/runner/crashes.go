// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"fmt"
	"strings"
	"time"

	"zumastor.org/zumastor/analysis/goals"
	"zumastor.org/zumastor/engine/metamorphic"
	"zumastor.org/zumastor/harness/spec"
	"zumastor.org/zumastor/results"
)

// crashes cuts the power in the middle of operations, again and again, and counts
// the cuts after which all that was promised was there. One broken promise ends the
// run with an error. Time is that of a cut with its recovery and comparison; the
// volumes are in memory.
type crashes struct{ bench }

func (x *crashes) prepare(context.Context) error {
	for _, op := range x.Ops {
		if verbOf(op) == "" {
			return fmt.Errorf("%w: op %q is nothing that crashes are made in", spec.ErrSpec, op)
		}
	}
	return nil
}

func (x *crashes) close() error { return nil }

// verbOf returns the verb that an op of an experiment's file names; "" if none.
func verbOf(op string) metamorphic.Verb {
	for _, v := range metamorphic.Verbs {
		if strings.ReplaceAll(string(v), " ", "-") == op {
			return v
		}
	}
	return ""
}

// round makes MinOps crashes in each verb. Other rounds make other ones.
func (x *crashes) round(ctx context.Context, n int) ([]results.Sample, error) {
	rng := x.random(n)
	var all []results.Sample
	for _, op := range x.Ops {
		began := time.Now()
		report, err := metamorphic.Crashes(ctx, verbOf(op), x.MinOps, rng.Uint64())
		if err != nil {
			return nil, fmt.Errorf("crashes: %w", err)
		}
		survived := int64(report.Crashes + report.Nested)
		all = append(all, x.sample(tally{elapsed: time.Since(began), ops: survived}, op, n))
	}
	return all, nil
}

func (x *crashes) sample(t tally, op string, round int) results.Sample {
	t.set(goals.Crashes, float64(t.ops))
	return t.sample(x.Name, results.Measured, round, config(op, "", 0, 0, noSnapshots, ""))
}
