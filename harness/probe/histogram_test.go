// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/stretchr/testify/require"
)

// TestSlotsCoverAllValues walks the bounds of all slots: each begins where the one
// before ends, and none is wider than 1/16 of its values.
func TestSlotsCoverAllValues(t *testing.T) {
	next := uint64(0)
	for i := range Slots {
		require.Equal(t, i, SlotOf(next), "the lowest of slot %d", i)
		require.Equal(t, i, SlotOf(Highest(i)), "the highest of slot %d", i)
		require.LessOrEqual(t, Highest(i)-next, next/16)
		next = Highest(i) + 1
	}
	require.EqualValues(t, Beyond, next)
	for _, v := range []uint64{Beyond, 1 << 63, ^uint64(0)} {
		require.Equal(t, Slots-1, SlotOf(v))
	}
}

// TestSlotsAreThoseOfHdrHistogram compares the bounds with a histogram of one digit.
func TestSlotsAreThoseOfHdrHistogram(t *testing.T) {
	for i := range Slots {
		h := hdrhistogram.New(1, Beyond-1, 1)
		require.NoError(t, h.RecordValue(int64(Highest(i))))
		require.EqualValues(t, Highest(i), h.Max(), "slot %d", i)
	}
}

func TestQuantilesAreAtMostASixteenthTooHigh(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		var h Histogram
		var all []uint64
		for range 1 + rng.IntN(500) {
			v := rng.Uint64N(1 << rng.IntN(41))
			all = append(all, v)
			h.Add(v)
		}
		slices.Sort(all)
		for _, q := range []float64{0.01, 0.5, 0.9, 0.99, 1} {
			exact := all[max(0, min(len(all)-1, int(q*float64(len(all))+0.999999)-1))]
			got := h.Quantile(q)
			require.GreaterOrEqual(t, got, exact)
			require.LessOrEqual(t, got, exact+exact/16)
		}
		require.Equal(t, all[len(all)-1], h.Quantile(1))
	}
	require.Zero(t, new(Histogram).Quantile(0.5))
	require.Zero(t, new(Histogram).Mean())
}

func TestSinceIsTheInverseOfMerge(t *testing.T) {
	var before, more Histogram
	for v := range uint64(100) {
		before.Add(v * v)
		more.Add(v * 7)
	}
	after := before
	after.Merge(&more)
	got := after.Since(&before)
	require.GreaterOrEqual(t, got.Max, more.Max)
	require.LessOrEqual(t, got.Max, Highest(SlotOf(more.Max)))
	got.Max = more.Max
	require.Equal(t, more, got)
}

func TestOctaves(t *testing.T) {
	var h Histogram
	for _, v := range []uint64{5, 6, 40, 63, 64} {
		h.Add(v)
	}
	require.Equal(t, []Octave{{4, 7, 2}, {8, 15, 0}, {16, 31, 0}, {32, 63, 2}, {64, 127, 1}}, h.Octaves())
	var zero Histogram
	zero.Add(0)
	require.Equal(t, []Octave{{0, 0, 1}}, zero.Octaves())
	require.Empty(t, new(Histogram).Octaves())
}

func TestIntoKeepsCounts(t *testing.T) {
	var h Histogram
	for v := range uint64(1000) {
		h.Add(1000 + v*1000)
	}
	to := hdrhistogram.New(100, 600e9, 3)
	h.Into(to)
	require.EqualValues(t, 1000, to.TotalCount())
	require.InEpsilon(t, 500e3, to.ValueAtPercentile(50), 1.0/15)
}

func TestCopiesFor(t *testing.T) {
	for processors, want := range map[int]uint32{1: 1, 2: 2, 3: 4, 4: 4, 6: 8, 8: 8, 9: 8, 256: 8} {
		require.Equal(t, want, copiesFor(processors), "%d processors", processors)
	}
}
