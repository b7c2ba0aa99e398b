// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"time"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/harness/spec"
	"zumastor.org/zumastor/harness/stack"
	"zumastor.org/zumastor/results"
)

// write measures first writes, rewrites of what they settled, and sequential
// first writes.
type write struct {
	bench
	counts map[cell]int // ops of a first-write window, by calibration
}

// cell is a setting of which all variants are measured in turns.
type cell struct {
	chunk int64
	qd    int
}

func (w *write) cells() []cell {
	var all []cell
	for _, c := range w.Chunks {
		for _, qd := range w.Depths {
			all = append(all, cell{c, qd})
		}
	}
	return all
}

func (w *write) prepare(ctx context.Context) error {
	if w.bed == nil {
		return nil
	}
	for _, c := range w.cells() {
		if err := w.calibrate(ctx, c); err != nil {
			return err
		}
		for i, v := range w.Variants {
			if spec.IsPlacement(v) {
				if err := w.verify(ctx, w.config(c, i)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (w *write) close() error { return nil }

// config returns the stack of a variant, by its number.
func (w *write) config(c cell, variant int) stack.Config {
	return stack.Config{
		Variant: w.Variants[variant], ChunkSize: c.chunk, Origin: w.Origin,
		Share: stack.Share{Nth: storesOf(w.Variants[:variant]), Of: storesOf(w.Variants)}, StoreSize: w.Store,
		Account: w.accounts != nil,
	}
}

// storesOf returns how many of the variants have a store.
func storesOf(variants []string) int {
	n := 0
	for _, v := range variants {
		if v != spec.Raw {
			n++
		}
	}
	return n
}

// capacity is how many chunks a store takes for certain, descriptors and leases
// beside them.
func (w *write) capacity(chunk int64) int {
	return int(max(1, min(w.Origin/chunk, w.Store/chunk/3)))
}

// calibrate finds out how many first writes fill a window, and warms up.
func (w *write) calibrate(ctx context.Context, c cell) (err error) {
	at := len(w.Variants) - 1
	for i, v := range w.Variants {
		if v == "inline" {
			at = i
		}
	}
	st, err := w.bed.Build(w.config(c, at))
	if err != nil {
		return err
	}
	defer closeAll([]*stack.Stack{st}, &err)
	if err := st.Snapshot(1); err != nil {
		return err
	}
	limit := w.capacity(c.chunk)
	a := newAddresses(w.seed, w.Origin, c.chunk, w.Block, min(w.MinOps, limit))
	r, err := drive(ctx, st, a.slice(0, 1), c.qd, w.newVersion())
	if err != nil {
		return err
	}
	fit := int(float64(w.Window) / float64(r.Elapsed) * float64(a.n))
	w.counts[c] = min(max(fit, w.MinOps), w.MaxOps, limit)
	return nil
}

func (w *write) round(ctx context.Context, n int) ([]results.Sample, error) {
	var all []results.Sample
	rng := w.random(n)
	if w.bed != nil {
		cells := w.cells()
		for _, i := range rng.Perm(len(cells)) {
			samples, err := w.cell(ctx, cells[i], n, rng)
			if err != nil {
				return nil, err
			}
			all = append(all, samples...)
		}
	}
	if n == 0 && len(w.Models) > 0 {
		modelled, err := w.modelled(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, modelled...)
	}
	return all, nil
}

// cell measures all variants and ops at one setting.
func (w *write) cell(ctx context.Context, c cell, round int, rng *rand.Rand) (all []results.Sample, err error) {
	stacks := make([]*stack.Stack, len(w.Variants))
	defer func() { closeAll(stacks, &err) }()
	for i := range stacks {
		if stacks[i], err = w.bed.Build(w.config(c, i)); err != nil {
			return nil, err
		}
	}
	a := newAddresses(rng.Uint64(), w.Origin, c.chunk, w.Block, w.counts[c])
	for i, op := range w.Ops {
		if op != "rewrite" { // all is to be copied again
			for _, st := range stacks {
				if err := st.Snapshot(block.Tag(i + 1)); err != nil {
					return nil, err
				}
			}
		}
		samples, err := w.windows(ctx, c, op, stacks, &a, round, rng)
		if err != nil {
			return nil, fmt.Errorf("%s, chunk %d, queue depth %d: %w", op, c.chunk, c.qd, err)
		}
		all = append(all, samples...)
	}
	return all, nil
}

// windows measures one op of all stacks in turns.
func (w *write) windows(ctx context.Context, c cell, op string, stacks []*stack.Stack, a *addresses, round int, rng *rand.Rand) ([]results.Sample, error) {
	var chosen []*stack.Stack
	for _, st := range stacks {
		if op != "rewrite" || !st.Bound() { // its rewrite is raw's
			chosen = append(chosen, st)
		}
	}
	tallies := make([]tally, len(chosen))
	if op == "rewrite" {
		for i, st := range chosen {
			if spec.IsPlacement(st.Variant) {
				allocs, err := allocations(st.Device(), a)
				if err != nil {
					return nil, err
				}
				tallies[i].set(results.AllocsPerOp, allocs)
			}
		}
	}
	look(c.qd, chosen...)
	err := inTurns(ctx, rng, turnsOf(op), len(chosen), func(v, slice int) error {
		r, err := drive(ctx, chosen[v], w.stream(op, chosen[v].Variant, a, slice, turnsOf(op)), c.qd, w.newVersion())
		tallies[v].add(r)
		return err
	})
	if err != nil {
		return nil, err
	}
	var all []results.Sample
	for i, st := range chosen {
		s := tallies[i].sample(w.Name, results.Measured, round, config(op, st.Variant, c.chunk, c.qd, noSnapshots, ""))
		w.took(st, &tallies[i], false, s)
		all = append(all, s)
	}
	return all, nil
}

// allocations returns how many heap allocations a write of settled chunks makes,
// rounded down as testing.AllocsPerRun does: what others allocate meanwhile is
// not of the path.
func allocations(d device.Device, a *addresses) (float64, error) {
	const most, longest = 500, 200 * time.Millisecond
	p := device.Buffer(int(a.block))
	if _, err := d.WriteAt(p, a.op(0).Off); err != nil {
		return 0, err
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n, end := uint64(0), time.Now().Add(longest)
	for n < most && time.Now().Before(end) {
		if _, err := d.WriteAt(p, a.op(int(n)%a.n).Off); err != nil {
			return 0, err
		}
		n++
	}
	runtime.ReadMemStats(&after)
	return float64((after.Mallocs - before.Mallocs) / max(1, n)), nil
}
