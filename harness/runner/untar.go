// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/harness/spec"
	"zumastor.org/zumastor/harness/stack"
	"zumastor.org/zumastor/results"
	"zumastor.org/zumastor/workloads"
	"zumastor.org/zumastor/workloads/traces"
)

// untar replays the phases of a trace with a snapshot after each, as the
// original's nsnaps did: phase i, counted from 0, runs with i snapshots held.
type untar struct {
	bench
	phases [][]workloads.Op
	size   int64 // of the origin
}

// phasePrefix begins the names of the trace's phases that are replayed; the
// others are mounting and the like.
const phasePrefix = "round "

// loadPhases returns the phases of a trace and the size of the device that they
// need, in bytes.
func loadPhases(name string) (phases [][]workloads.Op, size int64, err error) {
	t, err := traces.Load(name)
	if err != nil {
		return nil, 0, err
	}
	for _, p := range t.Phases() {
		if !strings.HasPrefix(p.Name, phasePrefix) {
			continue
		}
		phases = append(phases, p.Ops)
		for _, op := range p.Ops {
			size = max(size, op.End())
		}
	}
	if len(phases) == 0 {
		return nil, 0, fmt.Errorf("trace %s has no phase %q", name, phasePrefix)
	}
	const unit = 64 << 20
	return phases, (size + unit - 1) / unit * unit, nil
}

// storeSize returns what n phases copy at most in chunks of a size, in bytes,
// with room for descriptors, leases and what is copied ahead.
func storeSize(phases [][]workloads.Op, n int, chunk int64) int64 {
	var copied int64
	for i := range n {
		seen := map[int64]bool{}
		for _, op := range phases[i%len(phases)] {
			for c := op.Off / chunk; op.Mutates() && c*chunk < op.End(); c++ {
				seen[c] = true
			}
		}
		copied += int64(len(seen)) * chunk
	}
	return (copied*3/2 + 256<<20) >> 20 << 20
}

func (u *untar) prepare(context.Context) (err error) {
	u.phases, u.size, err = loadPhases(u.Trace)
	return err
}

func (u *untar) close() error { return nil }

// configs returns the stacks that are measured: each variant but raw at each
// chunk size.
func (u *untar) configs(phases int) []stack.Config {
	var all []stack.Config
	off := int64(0)
	for _, v := range u.Variants {
		if v == spec.Raw {
			all = append(all, stack.Config{Variant: v, Origin: u.size, Account: u.accounts != nil})
			continue
		}
		for _, chunk := range u.Chunks {
			c := stack.Config{Variant: v, ChunkSize: chunk, Origin: u.size, StoreOff: off, StoreSize: storeSize(u.phases, phases, chunk), Account: u.accounts != nil}
			off += c.StoreSize
			all = append(all, c)
		}
	}
	return all
}

func (u *untar) round(ctx context.Context, n int) ([]results.Sample, error) {
	var all []results.Sample
	if u.bed != nil {
		samples, err := u.measured(ctx, n, u.random(n))
		if err != nil {
			return nil, err
		}
		all = samples
	}
	if n == 0 && len(u.Models) > 0 {
		samples, err := u.modelled(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, samples...)
	}
	return all, nil
}

// measured replays each phase on all stacks, one after the other.
func (u *untar) measured(ctx context.Context, round int, rng *rand.Rand) (all []results.Sample, err error) {
	configs := u.configs(u.Phases)
	stacks := make([]*stack.Stack, len(configs))
	defer func() { closeAll(stacks, &err) }()
	for i, c := range configs {
		if stacks[i], err = u.bed.Build(c); err != nil {
			return nil, err
		}
	}
	for phase := range u.Phases {
		for _, i := range rng.Perm(len(stacks)) {
			s, err := u.phase(ctx, stacks[i], phase, round, results.Measured, "")
			if err != nil {
				return nil, err
			}
			all = append(all, s)
		}
	}
	return all, nil
}

// phase replays one phase and makes the snapshot behind it.
func (u *untar) phase(ctx context.Context, st *stack.Stack, phase, round int, kind results.Kind, model string) (results.Sample, error) {
	look(u.Depths[0], st)
	r, err := driveGroups(ctx, st, workloads.NewSlice(u.phases[phase%len(u.phases)]), u.Depths[0], u.newVersion())
	if err != nil {
		return results.Sample{}, fmt.Errorf("%s, phase %d: %w", st.Variant, phase, err)
	}
	var t tally
	t.add(r)
	s := t.sample(u.Name, kind, round, config("", st.Variant, st.ChunkSize, 0, phase, model))
	u.took(st, &t, true, s)
	return s, st.Snapshot(block.Tag(phase + 1))
}

// modelled replays all phases on each model and stack.
func (u *untar) modelled(ctx context.Context) ([]results.Sample, error) {
	configs := u.configs(u.ModelPhases)
	samples := make([][]results.Sample, len(u.Models)*len(configs))
	err := parallel(len(samples), func(i int) (err error) {
		part := untar{bench: u.bench, phases: u.phases, size: u.size}
		samples[i], err = part.modelledStack(ctx, u.Models[i/len(configs)], configs[i%len(configs)])
		return err
	})
	var all []results.Sample
	for _, s := range samples {
		all = append(all, s...)
	}
	return all, err
}

func (u *untar) modelledStack(ctx context.Context, model string, c stack.Config) (all []results.Sample, err error) {
	c.StoreOff = 0
	bed, err := stack.NewModel(model, stack.Size{Origin: c.Origin, Stores: max(c.StoreSize, 1<<20)})
	if err != nil {
		return nil, err
	}
	st, err := bed.Build(c)
	if err != nil {
		return nil, err
	}
	defer closeAll([]*stack.Stack{st}, &err)
	for phase := range u.ModelPhases {
		s, err := u.phase(ctx, st, phase, 0, results.Modelled, model)
		if err != nil {
			return nil, fmt.Errorf("%s model: %w", model, err)
		}
		all = append(all, s)
	}
	return all, nil
}
