// SPDX-License-Identifier: Apache-2.0

package repair_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/check"
	"zumastor.org/zumastor/engine/check/checktest"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/repair"
	"zumastor.org/zumastor/engine/repair/damage"
)

// Of a store that is well, closed or not, a repair makes one with the same content.
func TestNothingIsLostWithoutDamage(t *testing.T) {
	for p := layout.PlacementInline; p <= layout.PlacementPMem; p++ {
		for _, closed := range []bool{true, false} {
			if closed != (p%2 == 0) && p != layout.PlacementInline {
				continue
			}
			h := newHistory(t, uint64(p), options(p, p%2 == 0))
			if closed {
				require.NoError(t, h.r.Close())
			}
			c := h.copied()
			checktest.MustBeClean(t, check.Devices{Store: c.devices().Store, Meta: c.devices().Meta, Journal: c.devices().Journal})
			report, to := c.repaired(t)
			plan, err := repair.Plan(context.Background(), c.devices(), repair.Options{})
			require.NoError(t, err)
			plan.New = report.New
			require.Equal(t, plan, report, "a plan says what a run does")
			require.True(t, report.Whole(), "%v %v", report.Problems, report)
			require.Zero(t, report.LostPages)
			s := h.compare(t, c, to)
			require.Equal(t, 1.0, s.fraction(), "%v closed=%t: %+v", p, closed, s)
		}
	}
}

// soak returns how many seeds to try: n, or as many as ZUMASTOR_SOAK says.
func soak(n uint64) uint64 {
	if more, err := strconv.ParseUint(os.Getenv("ZUMASTOR_SOAK"), 10, 64); err == nil {
		return more
	}
	return n
}

// One damaged page, of any kind: no wrong byte is ever read, and nearly all is right.
func TestOneDamagedPage(t *testing.T) {
	for seed := range soak(2) {
		h := newHistory(t, seed, options(layout.PlacementInline, seed%2 == 1))
		closed := seed%2 == 0
		if closed {
			require.NoError(t, h.r.Close())
		}
		spots, err := damage.Spots(h.copied().meta)
		require.NoError(t, err)
		rng := rand.New(rand.NewPCG(seed, 3))
		var all survival
		n := 0
		for i, spot := range spots {
			// That the last record is lost cannot be known.
			if spot.Part == damage.ControlPage && (i%8 != 0 || i == len(spots)-1) || spot.Level == 0 && !spot.Root && i%3 != 0 {
				continue
			}
			c := h.copied()
			kind := damage.Kind(rng.IntN(int(damage.Kinds)))
			require.NoError(t, c.meta.Spoil(spot, kind, rng))
			if spot.Part == damage.TreePage && kind != damage.Torn { // whose second half may be empty
				d := c.devices()
				require.NotEmpty(t, checktest.Violations(check.Devices{Store: d.Store, Meta: d.Meta}, check.Damage), "check finds it")
			}
			report, to := c.repaired(t)
			s := h.compare(t, c, to)
			require.Zero(t, s.wrong, "%v: %v: %v", kind, spot, report.Problems)
			if s.fraction() < 0.9 {
				t.Logf("%v: %v: %.3f %+v %v", kind, spot, s.fraction(), s, report.Problems)
			}
			if spot.Part != damage.ControlPage { // nobody knows what a lost record said
				all.add(s)
			}
			n++
		}
		t.Logf("seed %d: %d repairs: %.4f %+v", seed, n, all.fraction(), all)
		require.Greater(t, all.fraction(), 0.95)
	}
}

// Much damage at once: no wrong byte is ever read.
func TestManyDamagedPages(t *testing.T) {
	for seed := range soak(2) {
		h := newHistory(t, seed, options([]layout.Placement{layout.PlacementInline, layout.PlacementDisk}[seed/2%2], seed%3 == 0))
		if seed%2 == 0 {
			require.NoError(t, h.r.Close())
		}
		spots, err := damage.Spots(h.copied().meta)
		require.NoError(t, err)
		for round := range 3 {
			rng := rand.New(rand.NewPCG(seed, uint64(round)))
			c := h.copied()
			var done []string
			for range 1 + rng.IntN(6) {
				spot, kind := spots[rng.IntN(len(spots))], damage.Kind(rng.IntN(int(damage.Kinds)))
				if spot.Part == damage.ControlPage {
					continue
				}
				done = append(done, fmt.Sprintf("%v: %v", kind, spot))
				require.NoError(t, c.meta.Spoil(spot, kind, rng))
			}
			report, to := c.repaired(t)
			s := h.compare(t, c, to)
			require.Zero(t, s.wrong, "%v: %v", done, report.Problems)
		}
	}
}

// Without any superblock, sizes are guessed.
func TestAllSuperblocksLost(t *testing.T) {
	for _, o := range []rig.Options{
		options(layout.PlacementInline, false), options(layout.PlacementInline, true), options(layout.PlacementDisk, true),
	} {
		h := newHistory(t, 5, o)
		c := h.copied()
		rng := rand.New(rand.NewPCG(1, 1))
		for i := range int64(2) {
			require.NoError(t, c.meta.Spoil(damage.Spot{Off: i << 12, Len: 512}, damage.Garbage, rng))
		}
		report, to := c.repaired(t)
		require.True(t, report.Guessed)
		s := h.compare(t, c, to)
		require.Greater(t, s.fraction(), 0.9, "%+v %v", s, report.Problems)
	}
}

// Chunks that cannot be read, or have decayed, read as errors; all others are right.
func TestDamagedChunks(t *testing.T) {
	h := newHistory(t, 9, options(layout.PlacementInline, true))
	require.NoError(t, h.r.Close())
	c := h.copied()
	rng := rand.New(rand.NewPCG(2, 2))
	for range 100 {
		spot := damage.Spot{Off: chunkSize * (1 + rng.Int64N(4000)), Len: chunkSize}
		require.NoError(t, c.store.Spoil(spot, damage.BadSector, rng))
	}
	report, to := c.repaired(t)
	s := h.compare(t, c, to)
	require.NotZero(t, report.Lost)
	require.NotZero(t, s.lost)
	require.Greater(t, s.fraction(), 0.8)
	lost := uint64(0)
	for _, snap := range report.Snapshots {
		lost += snap.Lost
	}
	require.GreaterOrEqual(t, lost, report.Lost)
}

// A lost record in the midst of a log: it is known that something may be lost.
func TestDamagedLog(t *testing.T) {
	for _, p := range []layout.Placement{layout.PlacementInline, layout.PlacementDisk} {
		h := newHistory(t, 6, options(p, true))
		first := h.copied()
		spots, err := damage.Batches(first.meta, first.store)
		require.NoError(t, err)
		require.Greater(t, len(spots), 8)
		rng := rand.New(rand.NewPCG(1, 7))
		for range 4 {
			c := h.copied()
			d := c.store
			if p == layout.PlacementDisk {
				d = c.meta
			}
			require.NoError(t, d.Spoil(spots[rng.IntN(len(spots)-1)], []damage.Kind{damage.Zeroes, damage.Garbage, damage.BadSector}[rng.IntN(3)], rng))
			report, to := c.repaired(t)
			require.False(t, report.Whole())
			s := h.compare(t, c, to)
			require.Zero(t, s.wrong, "%v", report.Problems)
			require.NotZero(t, s.damaged)
		}
	}
}

// Of the origin nothing is believed without its checksum, wherever it was found.
func TestDecayedChunks(t *testing.T) {
	h := emptyHistory(t, 4, options(layout.PlacementInline, true))
	for round := range 8 {
		h.round(t, round, false)
	}
	for _, closed := range []bool{false, true} {
		if closed {
			require.NoError(t, h.r.Close())
		}
		c := h.copied()
		rng := rand.New(rand.NewPCG(2, 2))
		for range 100 {
			spot := damage.Spot{Off: chunkSize * (1 + rng.Int64N(3000)), Len: chunkSize}
			require.NoError(t, c.store.Spoil(spot, damage.Kind(rng.IntN(int(damage.Kinds))), rng))
		}
		report, to := c.repaired(t)
		s := h.compare(t, c, to)
		require.Zero(t, s.wrong)
		require.Greater(t, s.lost+s.damaged, 0)
		require.NotZero(t, report.Lost)
	}
}

func TestWhatIsRefused(t *testing.T) {
	_, err := repair.Plan(context.Background(), repair.Devices{}, repair.Options{})
	require.ErrorIs(t, err, repair.ErrNothing)
	_, err = repair.Plan(context.Background(), repair.Devices{Store: memdev.New(1 << 20)}, repair.Options{})
	require.ErrorIs(t, err, repair.ErrNothing)

	h := newHistory(t, 3, options(layout.PlacementInline, false))
	c := h.copied()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = repair.Plan(ctx, c.devices(), repair.Options{})
	require.ErrorIs(t, err, context.Canceled)
	to := placement.Devices{Store: memdev.New(3 << 19)}
	_, err = repair.Run(context.Background(), c.devices(), to, repair.Options{})
	require.ErrorContains(t, err, "slots only")
	checktest.MustBeClean(t, check.Devices{Store: to.Store})
}
