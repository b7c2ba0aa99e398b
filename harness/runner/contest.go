// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"fmt"
	"math/rand/v2"

	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/harness/stack"
	"zumastor.org/zumastor/results"
	"zumastor.org/zumastor/workloads/apply"
)

// contest measures the same ops of variants that are all there at once, in turns. Who
// embeds it has made the devices and takes the snapshots.
type contest struct {
	bench
	device   func(variant string) device.Device
	snapshot func(context.Context) error // replaces the snapshots that all hold by new ones
	turns    func(op string) int         // slices of a window
	counts   map[int]int                 // first writes of a window, by queue depth
}

// calibrate finds out how many first writes fill a window.
func (c *contest) calibrate(ctx context.Context) error {
	c.counts = map[int]int{}
	for _, qd := range c.Depths {
		if err := c.snapshot(ctx); err != nil {
			return err
		}
		limit := int(max(1, min(c.Origin, c.Store/3)/c.Chunks[0]))
		a := newAddresses(c.seed, c.Origin, c.Chunks[0], c.Block, min(c.MinOps, limit))
		r, err := c.drive(ctx, "inline", "firstwrite", &a, 0, 1, qd)
		if err != nil {
			return err
		}
		fit := int(float64(c.Window) / float64(r.Elapsed) * float64(a.n))
		c.counts[qd] = min(max(fit, c.MinOps), c.MaxOps, limit)
	}
	return nil
}

func (c *contest) round(ctx context.Context, n int) ([]results.Sample, error) {
	var all []results.Sample
	rng := c.random(n)
	for _, i := range rng.Perm(len(c.Depths)) {
		samples, err := c.depth(ctx, c.Depths[i], n, rng)
		if err != nil {
			return nil, err
		}
		all = append(all, samples...)
	}
	return all, nil
}

func (c *contest) depth(ctx context.Context, qd, round int, rng *rand.Rand) ([]results.Sample, error) {
	if err := c.snapshot(ctx); err != nil {
		return nil, err
	}
	a := newAddresses(rng.Uint64(), c.Origin, c.Chunks[0], c.Block, c.counts[qd])
	var all []results.Sample
	for _, op := range c.Ops {
		tallies := make([]tally, len(c.Variants))
		slices := c.turns(op)
		err := inTurns(ctx, rng, slices, len(c.Variants), func(v, slice int) error {
			r, err := c.drive(ctx, c.Variants[v], op, &a, slice, slices, qd)
			tallies[v].add(r)
			return err
		})
		if err != nil {
			return nil, err
		}
		for i, v := range c.Variants {
			all = append(all, tallies[i].sample(c.Name, results.Measured, round, config(op, v, c.Chunks[0], qd, noSnapshots, "")))
		}
	}
	return all, nil
}

// drive measures one slice of n of a variant.
func (c *contest) drive(ctx context.Context, variant, op string, a *addresses, slice, n, qd int) (apply.Result, error) {
	r, err := apply.Run(ctx, c.device(variant), c.stream(op, variant, a, slice, n), apply.Options{
		Depth: qd, Seed: stack.ContentSeed, Version: c.newVersion(),
	})
	if err != nil {
		return r, fmt.Errorf("%s: %w", variant, err)
	}
	return r, nil
}
