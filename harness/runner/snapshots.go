// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"zumastor.org/zumastor/analysis/goals"
	"zumastor.org/zumastor/harness/spec"
	"zumastor.org/zumastor/harness/stack"
	"zumastor.org/zumastor/results"
)

// snapshots measures what snapshots cost by how many there are. In each round
// every stack deletes its oldest snapshot and makes a new one, so the number
// held stays.
type snapshots struct {
	bench
	stacks []*held
	count  int // first writes of a window
}

func (s *snapshots) prepare(ctx context.Context) (err error) {
	s.stacks, err = s.buildHeld(ctx, func() *stack.FlushMeter { return new(stack.FlushMeter) })
	if err != nil {
		return err
	}
	// What a round copies older snapshots need as well: it stays until the end.
	limit := s.Store / s.Chunks[0] / int64(3*(s.Rounds+2))
	s.count = int(max(1, min(limit, int64(s.MaxOps), s.Origin/s.Chunks[0])))
	return nil
}

func (s *snapshots) close() (err error) {
	closeHeld(s.stacks, &err)
	return err
}

func (s *snapshots) round(ctx context.Context, n int) ([]results.Sample, error) {
	rng := s.random(n)
	tallies := map[string][]tally{}
	for _, op := range s.Ops {
		tallies[op] = make([]tally, len(s.stacks))
	}
	for _, i := range rng.Perm(len(s.stacks)) {
		if err := s.replace(s.stacks[i], &tallies["delete"][i], &tallies["create"][i]); err != nil {
			return nil, err
		}
	}
	if err := s.firstWrites(ctx, rng, tallies["firstwrite"]); err != nil {
		return nil, err
	}
	if err := s.reads(ctx, rng, tallies["read"]); err != nil {
		return nil, err
	}
	var all []results.Sample
	for _, op := range s.Ops {
		for i, h := range s.stacks {
			if tallies[op][i].ops > 0 {
				all = append(all, tallies[op][i].sample(s.Name, results.Measured, n, config(op, h.Variant, h.ChunkSize, 0, h.count, "")))
			}
		}
	}
	if n == 0 && slices.Contains(s.Ops, "space") {
		space, err := s.space(ctx, spaceExceptions)
		if err != nil {
			return nil, err
		}
		all = append(all, space...)
	}
	return all, nil
}

// replace deletes a stack's oldest snapshot and makes a new one. Stacks without
// an engine only begin to copy anew.
func (s *snapshots) replace(h *held, deleted, created *tally) error {
	if !spec.IsPlacement(h.Variant) {
		return h.Snapshot(0)
	}
	if h.count > 0 {
		began := time.Now()
		if err := h.drop(); err != nil {
			return err
		}
		deleted.elapsed += time.Since(began)
		deleted.ops++
	}
	began, flushes := time.Now(), h.Meter.Spent()
	if err := h.create(); err != nil {
		return err
	}
	took := time.Since(began)
	created.elapsed += took
	created.ops++
	created.set(goals.BeyondFlush, float64(took-(h.Meter.Spent()-flushes)))
	return nil
}

// firstWrites measures random first writes on all stacks in turns.
func (s *snapshots) firstWrites(ctx context.Context, rng *rand.Rand, tallies []tally) error {
	if tallies == nil {
		return nil
	}
	a := newAddresses(rng.Uint64(), s.Origin, s.Chunks[0], s.Block, s.count)
	lookHeld(s.Depths[0], s.stacks)
	err := inTurns(ctx, rng, turns, len(s.stacks), func(v, slice int) error {
		r, err := drive(ctx, s.stacks[v].Stack, a.slice(slice, turns), s.Depths[0], s.newVersion())
		tallies[v].add(r)
		return err
	})
	s.tookHeld("firstwrite", tallies)
	return err
}

// reads measures random reads of each stack's oldest snapshot in turns.
func (s *snapshots) reads(ctx context.Context, rng *rand.Rand, tallies []tally) error {
	if tallies == nil {
		return nil
	}
	seed := rng.Uint64()
	lookHeld(s.Depths[0], s.stacks)
	err := inTurns(ctx, rng, shortTurns, len(s.stacks), func(v, slice int) error {
		h := s.stacks[v]
		if !spec.IsPlacement(h.Variant) {
			return nil
		}
		snap, err := h.Open(h.oldest, false)
		if err != nil {
			return err
		}
		r, err := readRandom(ctx, h.Seen(snap), s.Block, s.Depths[0], seed+uint64(slice), s.Window/shortTurns)
		tallies[v].add(r)
		if cerr := snap.Close(); err == nil {
			err = cerr
		}
		return err
	})
	s.tookHeld("read", tallies)
	return err
}

// tookHeld keeps the accounts of an op.
func (s *snapshots) tookHeld(op string, tallies []tally) {
	for i, h := range s.stacks {
		c := config(op, h.Variant, h.ChunkSize, 0, h.count, "")
		s.took(h.Stack, &tallies[i], false, results.Sample{Experiment: s.Name, Kind: results.Measured, Config: c})
	}
}
