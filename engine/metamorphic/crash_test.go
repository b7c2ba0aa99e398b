// SPDX-License-Identifier: Apache-2.0

package metamorphic

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic/rig"
)

// setups are the placements, each with its metadata on the store and apart.
func setups() []rig.Options {
	var all []rig.Options
	for _, p := range []layout.Placement{layout.PlacementInline, layout.PlacementDisk, layout.PlacementNVRAM, layout.PlacementPMem} {
		for _, separate := range []bool{false, true} {
			o := roomy(p, separate)
			o.OriginSize, o.ChunkSize, o.StoreSize = 96<<10+5*block.SectorSize, 8<<10, 8<<20
			o.BatchBytes, o.AheadBytes, o.LeaseBytes, o.JournalSize = 32<<10, 16<<10, 128<<10, 280<<10
			o.StoreLeaseBytes = o.LeaseBytes
			all = append(all, o)
		}
	}
	return all
}

func name(o rig.Options) string {
	if o.Separate {
		return o.Placement.String() + "-separate"
	}
	return o.Placement.String()
}

// cutter cuts the power of copies of a runner's machine while the runner works,
// and has each copy recover. With depth, the power of the copies fails again
// while they recover.
type cutter struct {
	of    *Runner
	rng   *rand.Rand
	draws int // power cuts at each begin and end of a flush
	depth int
	cuts  int
	err   error
}

// fates are what power cuts do, in turn.
func (c *cutter) fate() memdev.Fate {
	switch c.cuts % 4 {
	case 0:
		return memdev.Fate{}
	case 1:
		return memdev.Fate{Tear: 1}
	case 2:
		return memdev.Fate{Keep: 1}
	}
	return memdev.RandomFate(c.rng)
}

// watch makes c cut at the events of its runner's machine.
func (c *cutter) watch() { c.of.Rig.Machine.SetHook(c.event) }

func (c *cutter) event(e memdev.Event) {
	if (e.Kind == memdev.Wrote || e.Kind == memdev.Discarded) && c.rng.IntN(8) > 0 {
		return
	}
	for n := 0; n < c.draws && c.err == nil; n++ {
		if err := c.cut(); err != nil {
			c.err = fmt.Errorf("power cut %d, depth %d: %w", c.cuts, c.depth, err)
		}
	}
}

// cut cuts the power of a copy, and lets it recover.
func (c *cutter) cut() error {
	fate := c.fate()
	c.cuts++
	left := c.of.Rig.Crash(c.rng, fate)
	r := &Runner{Rig: left, Model: c.of.Model.Clone()}
	if c.cuts%5 == 0 {
		r.Check = checkStore
	}
	again := &cutter{of: r, rng: c.rng, draws: 1, cuts: c.cuts}
	if c.depth > 0 && c.cuts%7 == 0 {
		again.depth = c.depth - 1
		again.watch()
	}
	err := r.Crash(left)
	left.Machine.SetHook(nil)
	left.Abandon()
	if err == nil {
		err = again.err
	}
	if err != nil {
		return fmt.Errorf("%+v: %w", fate, err)
	}
	return nil
}

// script touches everything that has an order of flushes: first writes alone and
// in vectors, over several generations, runs that are copied ahead, discards,
// snapshots made, deleted and reclaimed, checkpoints and clean closings.
func script(o rig.Options) []Op {
	rng := rand.New(rand.NewPCG(11, 13))
	size := o.OriginSize
	at := func(sector, sectors int64) (int64, int64) {
		off := sector * block.SectorSize % (size - size%block.SectorSize)
		return off, min(sectors*block.SectorSize, size-off)
	}
	write := func(sector, sectors int64) Op {
		off, n := at(sector, sectors)
		return Op{Kind: Write, Off: off, Len: n, Seed: rng.Uint64N(1 << 32)}
	}
	vector := func(sectors ...int64) Op {
		v := Op{Kind: Vector}
		for _, s := range sectors {
			v.Ops = append(v.Ops, write(s, 3))
		}
		return v
	}
	return []Op{
		write(0, 197), {Kind: Flush}, write(3, 4), {Kind: Snapshot, Tag: 1},
		write(0, 1), write(15, 2), write(16, 16), write(32, 16), write(48, 16), {Kind: Flush},
		{Kind: Snapshot, Tag: 2}, vector(1, 40, 100, 150, 190), {Kind: Discard, Off: 8192, Len: 4096},
		{Kind: Checkpoint}, write(100, 20), {Kind: Snapshot, Tag: 3}, {Kind: Delete, Tag: 2},
		write(100, 1), {Kind: Maintain}, write(60, 80), {Kind: Flush}, {Kind: Checkpoint},
		vector(0, 16, 32, 48), {Kind: Snapshot, Tag: 4}, {Kind: Zero, Off: 16384, Len: 32768}, {Kind: Delete, Tag: 1},
		{Kind: Maintain}, {Kind: Maintain}, {Kind: Reopen}, write(0, 197), {Kind: Snapshot, Tag: 1}, write(5, 1),
		{Kind: Delete, Tag: 4}, {Kind: Delete, Tag: 3}, {Kind: Maintain}, write(9, 180), {Kind: Checkpoint},
		{Kind: Delete, Tag: 1}, {Kind: Maintain}, {Kind: Checkpoint}, write(0, 3), {Kind: Snapshot, Tag: 5}, write(0, 197), {Kind: Reopen},
	}
}

// soaking multiplies the power cuts of a soak.
func soaking(normal, soak int) int {
	if os.Getenv("ZUMASTOR_SOAK") != "" {
		return soak
	}
	return normal
}

func TestCrashAtEveryFlush(t *testing.T) {
	for _, o := range setups() {
		t.Run(name(o), func(t *testing.T) {
			r, err := NewRunner(o, rig.Wrappers{})
			require.NoError(t, err)
			defer func() { r.Rig.Abandon() }()
			r.Check = checkStore
			c := &cutter{of: r, rng: rand.New(rand.NewPCG(1, 2)), draws: soaking(1, 40), depth: 2}
			for i, op := range script(o) {
				c.watch()
				require.NoError(t, r.Do(op), "operation %d, %v", i, op)
				require.NoError(t, c.err, "operation %d, %v", i, op)
			}
			r.Rig.Machine.SetHook(nil)
			require.NoError(t, r.Compare())
			require.Greater(t, c.cuts, 100)
			t.Logf("%d power cuts", c.cuts)
		})
	}
}

// TestCrashAgainAndAgain lets one store live through many power cuts, each in the
// midst of an operation, sometimes of recovery.
func TestCrashAgainAndAgain(t *testing.T) {
	for _, o := range setups() {
		t.Run(name(o), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(21, uint64(o.Placement)))
			o.StoreSize = 6 << 20 // slots are used again
			r, err := NewRunner(o, rig.Wrappers{})
			require.NoError(t, err)
			defer func() { r.Rig.Abandon() }()
			ops := RandomOps(rng, o.OriginSize, 60*soaking(3, 200))
			for i, op := range ops {
				if i%10 != 9 || op.Kind == Crash || op.Kind == Reopen {
					require.NoError(t, r.Do(op), "operation %d, %v", i, op)
					continue
				}
				left := crashWithin(t, rng, r, op)
				if left == nil {
					continue // there was no I/O
				}
				r.Rig.Abandon()
				require.NoError(t, left.Crash(left.Rig), "after operation %d, %v", i, op)
				r = left
			}
			require.NoError(t, r.Compare())
		})
	}
}

// crashWithin does op to r, and returns a runner whose power was cut at one of its
// events.
func crashWithin(t *testing.T, rng *rand.Rand, r *Runner, op Op) *Runner {
	var left *Runner
	seen := 0
	r.Rig.Machine.SetHook(func(memdev.Event) {
		if seen++; rng.IntN(seen) == 0 { // each with the same probability
			left = &Runner{Rig: r.Rig.Crash(rng, memdev.RandomFate(rng)), Model: r.Model.Clone(), Check: checkStore}
		}
	})
	require.NoError(t, r.Do(op), "%v", op)
	r.Rig.Machine.SetHook(nil)
	return left
}
