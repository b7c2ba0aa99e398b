// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

// leases are the slots that the origin may write to, in the order in which it
// will. With placement inline, the first is the next descriptor's and a batch
// must leave one for the descriptor after it, whose place it records.
type leases struct {
	heads uint64 // slots that a batch's record takes: 1 or 0
	runs  []layout.SlotRun
	taken uint64 // slots after the head that the batch being built has
}

// free returns how many slots a batch may still take.
func (l *leases) free() uint64 {
	n := uint64(0)
	for _, r := range l.runs {
		n += r.Len
	}
	return n - min(n, 2*l.heads+l.taken)
}

// headless reports whether there is no slot even for the next descriptor.
func (l *leases) headless() bool { return l.heads > 0 && len(l.runs) == 0 }

// add puts more slots at the end.
func (l *leases) add(runs []layout.SlotRun) {
	for _, r := range runs {
		if n := len(l.runs); n > 0 && l.runs[n-1].First+block.Slot(l.runs[n-1].Len) == r.First {
			l.runs[n-1].Len += r.Len
			continue
		}
		l.runs = append(l.runs, r)
	}
}

// at returns the slot n places after the first.
func (l *leases) at(n uint64) (block.Slot, bool) {
	for _, r := range l.runs {
		if n < r.Len {
			return r.First + block.Slot(n), true
		}
		n -= r.Len
	}
	return 0, false
}

// peek returns the next slot that the batch may take.
func (l *leases) peek() (block.Slot, bool) {
	if l.free() == 0 {
		return 0, false
	}
	return l.at(l.heads + l.taken)
}

// take gives the slot that peek returned to the batch.
func (l *leases) take() { l.taken++ }

// putBack takes the batch's slots back: it was not written.
func (l *leases) putBack() { l.taken = 0 }

// nextHead returns the slot of the descriptor after the batch's.
func (l *leases) nextHead() block.Slot {
	if l.heads == 0 {
		return 0
	}
	s, _ := l.at(l.heads + l.taken)
	return s
}

// passHead forgets the slots of the batch and its descriptor: they are used.
func (l *leases) passHead() {
	for n := l.heads + l.taken; n > 0; {
		r := &l.runs[0]
		if n < r.Len {
			r.First += block.Slot(n)
			r.Len -= n
			break
		}
		n -= r.Len
		l.runs = l.runs[1:]
	}
	l.taken = 0
}
