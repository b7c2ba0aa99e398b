// SPDX-License-Identifier: Apache-2.0

// Package duel compares the wall-clock time of two builds by running them in turns.
//
// It owns the order of the runs, what is one sample, and the sides: test binaries
// of two revisions ([Checkout]) and the pace of this program ([Pace]). It does not
// judge: analysis/regress does, of pairs that were taken next to each other, so that
// what slows the machine for a while slows both. zbench against and the experiment
// that measures the gate itself call it. A duel takes place in one goroutine; its
// processes are ended with its context. An error of a side ends it.
package duel

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"zumastor.org/zumastor/analysis/regress"
	"zumastor.org/zumastor/analysis/stats"
	"zumastor.org/zumastor/results"
)

// Side is one of the two builds.
type Side interface {
	// Measure runs a benchmark n times the number of operations given, in a process
	// of its own, and returns the nanoseconds of an operation in each.
	Measure(ctx context.Context, benchmark string, times, ops int) ([]float64, error)
}

// Options say how long a duel is.
type Options struct {
	Benchmarks []string
	Pairs      int // samples of each side
	// Slice is how long one repetition is to take, about: less than what a scheduler
	// gives at a time. A sample is the fastest of Repeats repetitions in one process,
	// for what interrupts a program only ever adds.
	Slice   time.Duration
	Repeats int
	Seed    uint64 // of the order
	// Progress, if not nil, is told how many of all runs of processes are done.
	Progress func(done, all int)
}

// Defaults returns what is enough to find a slowdown of 10 % on a busy machine.
func Defaults() Options {
	return Options{Pairs: 20, Slice: time.Millisecond, Repeats: 25, Seed: 1}
}

// Run has the two sides run each benchmark in turns, in an order drawn anew for each
// pair, and compares them.
func Run(ctx context.Context, old, new Side, o Options) ([]regress.Row, error) {
	rng := rand.New(rand.NewPCG(o.Seed, 0))
	var rows []regress.Row
	all := len(o.Benchmarks) * o.Pairs * 2
	for i, name := range o.Benchmarks {
		ops, err := calibrate(ctx, old, name, o.Slice)
		if err != nil {
			return rows, fmt.Errorf("calibrating %s: %w", name, err)
		}
		sides, taken := [2]Side{old, new}, [2][]stats.Obs{}
		for pair := range o.Pairs {
			first := rng.IntN(2)
			for turn := range 2 {
				s := (first + turn) % 2
				times, err := sides[s].Measure(ctx, name, o.Repeats, ops)
				if err != nil {
					return rows, fmt.Errorf("running %s: %w", name, err)
				}
				taken[s] = append(taken[s], stats.Obs{Round: pair, Value: slices.Min(times)})
				if o.Progress != nil {
					o.Progress((i*o.Pairs+pair)*2+turn+1, all)
				}
			}
		}
		rows = append(rows, regress.Paired(name, results.NsPerOp, taken[0], taken[1], regress.Gate(len(o.Benchmarks))))
	}
	return rows, nil
}

// calibrate returns how many operations take a slice.
func calibrate(ctx context.Context, s Side, name string, slice time.Duration) (int, error) {
	const most = 1 << 20
	ops := 64
	for {
		times, err := s.Measure(ctx, name, 3, ops)
		if err != nil {
			return 0, err
		}
		took := max(1, slices.Min(times)*float64(ops))
		if took >= float64(slice)/2 || ops == most {
			return min(most, max(1, int(float64(ops)*float64(slice)/took))), nil
		}
		ops = min(most, max(ops*2, int(float64(ops)*float64(slice)/took)))
	}
}
