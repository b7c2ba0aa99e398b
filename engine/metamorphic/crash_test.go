// SPDX-License-Identifier: Apache-2.0

package metamorphic

import (
	"math/rand/v2"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/metamorphic/rig"
)

func name(o rig.Options) string {
	if o.Separate {
		return o.Placement.String() + "-separate"
	}
	return o.Placement.String()
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

// TestCrashAtEveryFlush tries all setups; with -short, each placement with one place
// of the metadata.
func TestCrashAtEveryFlush(t *testing.T) {
	for i, o := range setups() {
		if testing.Short() && i%4 != 0 && i%4 != 3 {
			continue
		}
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
