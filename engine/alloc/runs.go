// SPDX-License-Identifier: Apache-2.0

package alloc

import (
	"cmp"
	"slices"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

func byFirst(a, b layout.SlotRun) int { return cmp.Compare(a.First, b.First) }

// length returns how many slots the runs have.
func length(runs []layout.SlotRun) uint64 {
	n := uint64(0)
	for _, r := range runs {
		n += r.Len
	}
	return n
}

// merge returns the runs of both, ascending, neighbours joined. No slot may be in
// two runs.
func merge(a, b []layout.SlotRun) []layout.SlotRun {
	all := append(slices.Clone(a), b...)
	slices.SortFunc(all, byFirst)
	joined := all[:0]
	for _, r := range all {
		if n := len(joined); n > 0 && joined[n-1].First+block.Slot(joined[n-1].Len) == r.First {
			joined[n-1].Len += r.Len
			continue
		}
		joined = append(joined, r)
	}
	return joined
}

// Subtract returns runs, ascending, without the slots of cut.
func Subtract(runs []layout.SlotRun, cut layout.SlotRun) []layout.SlotRun {
	cutEnd := cut.First + block.Slot(cut.Len)
	left := make([]layout.SlotRun, 0, len(runs)+1)
	for _, r := range runs {
		end := r.First + block.Slot(r.Len)
		if end <= cut.First || r.First >= cutEnd {
			left = append(left, r)
			continue
		}
		if r.First < cut.First {
			left = append(left, layout.SlotRun{First: r.First, Len: uint64(cut.First - r.First)})
		}
		if end > cutEnd {
			left = append(left, layout.SlotRun{First: cutEnd, Len: uint64(end - cutEnd)})
		}
	}
	return left
}

// drain calls fn for the slots of runs, from the first on, those of one word at a
// time, and removes from runs what is done: after an error it goes on where it
// stopped.
func drain(runs *[]layout.SlotRun, fn func(layout.SlotRun) error) error {
	for len(*runs) > 0 {
		r := &(*runs)[0]
		n := min(r.Len, wordSlots-uint64(r.First)%wordSlots)
		if err := fn(layout.SlotRun{First: r.First, Len: n}); err != nil {
			return err
		}
		r.First += block.Slot(n)
		r.Len -= n
		if r.Len == 0 {
			*runs = (*runs)[1:]
		}
	}
	return nil
}
