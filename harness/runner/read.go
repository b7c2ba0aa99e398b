// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"math/rand/v2"
	"time"

	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/harness/spec"
	"zumastor.org/zumastor/harness/stack"
	"zumastor.org/zumastor/results"
	"zumastor.org/zumastor/workloads"
	"zumastor.org/zumastor/workloads/apply"
	"zumastor.org/zumastor/workloads/gen"
)

// read measures random reads of the origin with snapshots held.
type read struct {
	bench
	stacks []*held
}

func (r *read) prepare(ctx context.Context) (err error) {
	r.stacks, err = r.buildHeld(ctx, func() *stack.FlushMeter { return nil })
	return err
}

func (r *read) close() (err error) {
	closeHeld(r.stacks, &err)
	return err
}

func (r *read) round(ctx context.Context, n int) ([]results.Sample, error) {
	var all []results.Sample
	rng := r.random(n)
	for _, i := range rng.Perm(len(r.Depths)) {
		samples, err := r.depth(ctx, r.Depths[i], n, rng)
		if err != nil {
			return nil, err
		}
		all = append(all, samples...)
	}
	return all, nil
}

func (r *read) depth(ctx context.Context, qd, round int, rng *rand.Rand) ([]results.Sample, error) {
	tallies := make([]tally, len(r.stacks))
	seed := rng.Uint64()
	lookHeld(qd, r.stacks)
	err := inTurns(ctx, rng, shortTurns, len(r.stacks), func(v, slice int) error {
		got, err := readRandom(ctx, r.stacks[v].Device(), r.Block, qd, seed+uint64(slice), r.Window/shortTurns)
		tallies[v].add(got)
		return err
	})
	if err != nil {
		return nil, err
	}
	var all []results.Sample
	for i, h := range r.stacks {
		c := config("read", h.Variant, h.ChunkSize, qd, h.count, "")
		if h.Variant == spec.Raw {
			c = config("read", h.Variant, 0, qd, noSnapshots, "")
		}
		s := tallies[i].sample(r.Name, results.Measured, round, c)
		r.took(h.Stack, &tallies[i], false, s)
		all = append(all, s)
	}
	return all, nil
}

// readRandom reads random blocks of a device for a time.
func readRandom(ctx context.Context, d device.Device, size int64, qd int, seed uint64, length time.Duration) (apply.Result, error) {
	places, err := gen.New(gen.Spec{Pattern: gen.Random, Seed: seed, Range: d.Size(), Block: size, Reads: 1})
	if err != nil {
		return apply.Result{}, err
	}
	s := &timed{next: func(int) workloads.Op {
		op, _ := places.Next() // endless
		return op
	}, least: 8, length: length}
	return apply.Run(ctx, d, s, apply.Options{Depth: qd})
}
