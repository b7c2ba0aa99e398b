// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"fmt"
	"time"

	"zumastor.org/zumastor/analysis/goals"
	"zumastor.org/zumastor/analysis/regress"
	"zumastor.org/zumastor/harness/baseline"
	"zumastor.org/zumastor/harness/duel"
	"zumastor.org/zumastor/results"
)

// gate has this program compared with itself, and with itself slowed down, as a
// revision is with another, and counts what the verdicts are: those of the comparisons,
// and those of the history in which each is a run. What a slower build does is planted:
// 10 % of the time of every 64 writes is spent once more.
type gate struct{ bench }

// plantedPercent is by how much the slower build is slower in wall-clock time, and
// plantedWrites by how much in writes.
const (
	plantedPercent = 10
	plantedWrites  = 5
)

func (x *gate) prepare(context.Context) error { return nil }

func (x *gate) close() error { return nil }

func (x *gate) round(ctx context.Context, n int) ([]results.Sample, error) {
	same, alarms, err := x.duels(ctx, "same", 0, x.MinOps, n)
	if err != nil {
		return nil, err
	}
	slowed, caught, err := x.duels(ctx, "slowed", plantedPercent, x.MinOps/2, n)
	if err != nil {
		return nil, err
	}
	found, err := baseline.FindsPlanted(ctx, plantedWrites)
	if err != nil {
		return nil, fmt.Errorf("planting writes: %w", err)
	}
	exact := 0
	if found {
		exact = 1
	}
	laterAlarms, laterCaught, orders := overTime(same, slowed)
	return append(append(same, slowed...),
		x.counted("history-same", n, x.MinOps, goals.FalseAlarms, float64(laterAlarms)),
		x.counted("history-slowed", n, orders, goals.CaughtShare, float64(laterCaught)/float64(max(1, orders))),
		x.counted("same", n, x.MinOps, goals.FalseAlarms, float64(alarms)),
		x.counted("slowed", n, x.MinOps/2, goals.CaughtShare, float64(caught)/float64(x.MinOps/2)),
		x.counted("exact", n, 1, goals.CaughtShare, float64(exact))), nil
}

func (x *gate) counted(op string, round, n int, unit string, v float64) results.Sample {
	return results.Sample{
		Experiment: x.Name, Kind: results.Measured, Config: config(op, "", 0, 0, noSnapshots, ""), Round: round, N: n,
		Values: map[string]float64{unit: v},
	}
}

// duels makes n comparisons and returns in how many a difference was found: for equal
// builds any, for a slower one that it is worse. The samples have each one's numbers.
func (x *gate) duels(ctx context.Context, op string, percent, n, round int) (all []results.Sample, found int, err error) {
	o := duel.Defaults()
	o.Benchmarks = []string{duel.PaceRewrite, duel.PaceFirstWrite}
	for i := range n {
		o.Seed = x.random(round).Uint64() + uint64(i)
		began := time.Now()
		rows, err := duel.Run(ctx, duel.Pace{Program: x.program}, duel.Pace{Program: x.program, Slower: percent}, o)
		if err != nil {
			return nil, 0, fmt.Errorf("comparing builds: %w", err)
		}
		changed := false
		for _, row := range rows {
			changed = changed || row.Verdict == regress.Worse || percent == 0 && row.Verdict == regress.Better
			all = append(all, results.Sample{
				Experiment: x.Name, Kind: results.Measured, Round: round, N: o.Pairs,
				Config: results.Conf("op", op, "bench", row.Name, "duel", fmt.Sprint(i)),
				Values: map[string]float64{"speed": row.Speed.Center, "speed-low": row.Speed.Lo, "speed-high": row.Speed.Hi, "p": row.P,
					"passed-ns": float64(time.Since(began))},
			})
		}
		if changed {
			found++
		}
	}
	return all, found, nil
}
