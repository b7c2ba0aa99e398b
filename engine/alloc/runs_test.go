// SPDX-License-Identifier: Apache-2.0

package alloc

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

// apart draws runs that are ascending, apart from or next to each other, with
// their slots.
func apart(t *rapid.T, name string) (runs []layout.SlotRun, slots map[block.Slot]bool) {
	slots = map[block.Slot]bool{}
	next := uint64(0)
	for range rapid.IntRange(0, 6).Draw(t, name) {
		first := next + rapid.Uint64Range(0, 70).Draw(t, "gap")
		n := rapid.Uint64Range(1, 150).Draw(t, "len")
		runs = append(runs, layout.SlotRun{First: block.Slot(first), Len: n})
		for i := range n {
			slots[block.Slot(first+i)] = true
		}
		next = first + n
	}
	return runs, slots
}

// slotsOf returns the slots of runs, which must be ascending, not empty, and have
// none in common.
func slotsOf(t require.TestingT, runs []layout.SlotRun) map[block.Slot]bool {
	slots := map[block.Slot]bool{}
	for i, r := range runs {
		require.NotZero(t, r.Len)
		if i > 0 {
			require.GreaterOrEqual(t, r.First, runs[i-1].First+block.Slot(runs[i-1].Len))
		}
		for j := range r.Len {
			slots[r.First+block.Slot(j)] = true
		}
	}
	return slots
}

func TestMergeAndSubtract(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		runs, want := apart(t, "runs")
		require.Equal(t, uint64(len(want)), length(runs))
		cut := layout.SlotRun{First: block.Slot(rapid.Uint64Range(0, 500).Draw(t, "first")), Len: rapid.Uint64Range(0, 400).Draw(t, "cut")}
		before := append([]layout.SlotRun(nil), runs...)
		left := Subtract(runs, cut)
		require.Equal(t, before, runs, "the argument was changed")
		var out []layout.SlotRun
		for s := range want {
			if s >= cut.First && s < cut.First+block.Slot(cut.Len) {
				out = append(out, layout.SlotRun{First: s, Len: 1})
			}
		}
		got := slotsOf(t, left)
		require.Len(t, got, len(want)-len(out))
		for _, r := range out {
			require.NotContains(t, got, r.First)
		}
		joined := merge(left, out)
		require.Equal(t, want, slotsOf(t, joined))
		for i := range joined[:max(0, len(joined)-1)] {
			require.Less(t, joined[i].First+block.Slot(joined[i].Len), joined[i+1].First, "neighbours are joined")
		}
	})
}

// Drain goes through every slot once, whatever fails, and no call crosses a word.
func TestDrain(t *testing.T) {
	errTry := errors.New("try again")
	rapid.Check(t, func(t *rapid.T) {
		runs, want := apart(t, "runs")
		got := map[block.Slot]bool{}
		for {
			fails := rapid.IntRange(0, 3).Draw(t, "fails")
			before := length(runs)
			done := uint64(0)
			err := drain(&runs, func(r layout.SlotRun) error {
				if fails--; fails == 0 {
					return errTry
				}
				require.NotZero(t, r.Len)
				require.Equal(t, uint64(r.First)/64, (uint64(r.First)+r.Len-1)/64)
				for i := range r.Len {
					require.NotContains(t, got, r.First+block.Slot(i))
					got[r.First+block.Slot(i)] = true
				}
				done += r.Len
				return nil
			})
			require.Equal(t, before-done, length(runs))
			if err == nil {
				break
			}
			require.ErrorIs(t, err, errTry)
		}
		require.Empty(t, runs)
		require.Equal(t, want, got)
	})
}
