// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/harness/spec"
	"zumastor.org/zumastor/harness/stack"
	"zumastor.org/zumastor/results"
	"zumastor.org/zumastor/workloads"
	"zumastor.org/zumastor/workloads/apply"
	"zumastor.org/zumastor/workloads/gen"
)

// snapshotIO measures reads of chunks that a snapshot shares with its origin, reads
// of chunks that were copied out, and writes of whole chunks to a snapshot, against
// the bare device.
type snapshotIO struct{ bench }

func (x *snapshotIO) prepare(context.Context) error { return nil }

func (x *snapshotIO) close() error { return nil }

func (x *snapshotIO) round(ctx context.Context, n int) (all []results.Sample, err error) {
	rng := x.random(n)
	for _, chunk := range x.Chunks {
		for _, op := range x.Ops {
			samples, err := x.op(ctx, op, chunk, n, rng)
			if err != nil {
				return nil, fmt.Errorf("%s, chunk %d: %w", op, chunk, err)
			}
			all = append(all, samples...)
		}
	}
	return all, nil
}

// target is what one variant's ops go to.
type target struct {
	*stack.Stack
	dev   device.Device
	close func() error
}

// op measures one op at all depths.
func (x *snapshotIO) op(ctx context.Context, op string, chunk int64, round int, rng *rand.Rand) (all []results.Sample, err error) {
	targets := make([]target, len(x.Variants))
	defer func() {
		for _, t := range targets {
			if t.Stack != nil {
				err = errors.Join(err, t.close(), t.Close())
			}
		}
	}()
	for i, v := range x.Variants {
		if targets[i], err = x.target(ctx, op, v, chunk); err != nil {
			return nil, err
		}
	}
	a := newAddresses(rng.Uint64(), x.Origin, chunk, chunk, int(x.Origin/chunk/2))
	for i, qd := range x.Depths {
		tallies := make([]tally, len(targets))
		seed := rng.Uint64()
		slices := turnsOf("read")
		if op == "write-chunk" {
			slices = turns
		}
		for _, t := range targets {
			look(qd, t.Stack)
		}
		err := inTurns(ctx, rng, slices, len(targets), func(v, slice int) error {
			got, err := x.slice(ctx, op, targets[v].dev, &a, qd, seed, part{slice, slices, i})
			tallies[v].add(got)
			return err
		})
		if err != nil {
			return nil, err
		}
		for v, t := range targets {
			s := tallies[v].sample(x.Name, results.Measured, round, config(op, t.Variant, chunk, qd, noSnapshots, ""))
			x.took(t.Stack, &tallies[v], false, s)
			all = append(all, s)
		}
	}
	return all, nil
}

// part is a slice of the window at one of the depths.
type part struct{ slice, slices, depth int }

// slice carries out a part of an op's window. Every write goes to a chunk that the
// snapshot has not been written to before.
func (x *snapshotIO) slice(ctx context.Context, op string, d device.Device, a *addresses, qd int, seed uint64, p part) (apply.Result, error) {
	if op == "write-chunk" {
		n := min(a.n/len(x.Depths), x.MaxOps)
		first := p.depth * n
		s := &pass{addresses: a, next: first + n*p.slice/p.slices, end: first + n*(p.slice+1)/p.slices}
		return apply.Run(ctx, d, s, apply.Options{Depth: qd, Seed: stack.ContentSeed, Version: x.newVersion()})
	}
	start := int64(0) // of the chunks that were copied out
	if op == "read-shared" {
		start = x.Origin / 2
	}
	places, err := gen.New(gen.Spec{Pattern: gen.Random, Seed: seed + uint64(p.slice), Start: start, Range: x.Origin / 2, Block: x.Block, Reads: 1})
	if err != nil {
		return apply.Result{}, err
	}
	s := &timed{next: func(int) workloads.Op {
		op, _ := places.Next() // endless
		return op
	}, least: 8, length: x.Window / shortTurns}
	return apply.Run(ctx, d, s, apply.Options{Depth: qd})
}

// target builds a variant's stack. One with a store gets a snapshot, and the first
// half of its origin is overwritten, so that the snapshot has these chunks stored.
func (x *snapshotIO) target(ctx context.Context, op, variant string, chunk int64) (target, error) {
	st, err := x.bed.Build(stack.Config{
		Variant: variant, ChunkSize: chunk, Origin: x.Origin, Share: stack.Share{Nth: 0, Of: 1}, StoreSize: x.Store,
		Account: x.accounts != nil,
	})
	if err != nil {
		return target{}, err
	}
	t := target{Stack: st, dev: st.Device(), close: func() error { return nil }}
	if variant == spec.Raw {
		return t, nil
	}
	fail := func(err error) (target, error) { return target{}, errors.Join(err, st.Close()) }
	const tag block.Tag = 1
	if err := st.Snapshot(tag); err != nil {
		return fail(err)
	}
	if op == "read-stored" {
		s := &sequence{end: x.Origin / 2, block: chunk}
		if _, err := apply.Run(ctx, st.Device(), s, apply.Options{Depth: 32, Seed: stack.ContentSeed, Version: x.newVersion()}); err != nil {
			return fail(err)
		}
	}
	snap, err := st.Open(tag, op == "write-chunk")
	if err != nil {
		return fail(err)
	}
	t.dev, t.close = st.Seen(snap), snap.Close
	return t, nil
}
