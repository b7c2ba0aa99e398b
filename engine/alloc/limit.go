// SPDX-License-Identifier: Apache-2.0

package alloc

import (
	"math/bits"
	"slices"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

// reserveRuns is how many runs can be leased by Reserve beside MaxLeases.
const reserveRuns = 32

// SetTotal changes the number of slots, and lets all of them be leased. Those that
// are no more must not be in use.
func (s *Slots) SetTotal(total uint64) { s.total, s.limit, s.beyond = total, total, 0 }

// Grow adds slots up to total, of which none is leased before the limit is raised.
func (s *Slots) Grow(total uint64) { s.total = total }

// Limit returns the first slot that is not to be leased.
func (s *Slots) Limit() uint64 { return s.limit }

// Beyond returns how many slots from the limit on are allocated in the tree.
func (s *Slots) Beyond() uint64 { return s.beyond }

// SetLimit says that slots from limit on are not to be leased. Those that are in use
// stay so, leased ones too.
func (s *Slots) SetLimit(limit uint64) error {
	words, err := s.tree.Scan(layout.SlotWord{Index: limit / wordSlots}, int(s.total/wordSlots)+1, nil)
	if err != nil {
		return err
	}
	s.limit, s.beyond, s.search = limit, 0, search{}
	for _, w := range words {
		s.beyond += uint64(bits.OnesCount64(w.Bits & s.beyondMask(w.Index)))
	}
	for _, r := range slices.Clone(s.found) { // a Lease is under way
		if end := uint64(r.First) + r.Len; end > limit {
			first := max(uint64(r.First), limit)
			s.Return(layout.SlotRun{First: block.Slot(first), Len: end - first})
		}
	}
	return nil
}

// beyondMask returns the bits of word index's slots from the limit on.
func (s *Slots) beyondMask(index uint64) uint64 {
	switch first := index * wordSlots; {
	case first >= s.limit:
		return ^uint64(0)
	case first+wordSlots <= s.limit:
		return 0
	default:
		return ^uint64(0) << (s.limit - first)
	}
}

// Reserve is Lease for the store itself, which finds some even when clients have
// MaxLeases runs.
func (s *Slots) Reserve(want uint64) ([]layout.SlotRun, error) {
	return s.lease(want, MaxLeases+reserveRuns)
}

// LeaseRun leases exactly the slots of r, all of which are free, whatever the limit.
func (s *Slots) LeaseRun(r layout.SlotRun) error {
	if i, ok := slices.BinarySearchFunc(s.leases, r, byFirst); !ok {
		s.leases = slices.Insert(s.leases, i, r)
	}
	return drain(&[]layout.SlotRun{r}, s.set)
}

// Unuse turns used slots into leased ones: the reverse of Use.
func (s *Slots) Unuse(r layout.SlotRun) {
	if i, ok := slices.BinarySearchFunc(s.leases, r, byFirst); !ok {
		s.leases = slices.Insert(s.leases, i, r)
	}
}

// lengthBelow returns how many slots before the limit the runs have.
func (s *Slots) lengthBelow(runs []layout.SlotRun) uint64 {
	if s.limit == s.total {
		return length(runs)
	}
	return length(Subtract(runs, layout.SlotRun{First: block.Slot(s.limit), Len: s.total - s.limit}))
}

// holdsBelow returns how many slots before the limit are held.
func (s *Slots) holdsBelow() uint64 {
	if s.limit == s.total {
		return s.holds
	}
	return s.lengthBelow(s.held)
}

// LeasedOf returns what of runs is leased.
func (s *Slots) LeasedOf(runs []layout.SlotRun) []layout.SlotRun {
	rest := runs
	for _, l := range s.leases {
		rest = Subtract(rest, l)
	}
	leased := runs
	for _, r := range rest {
		leased = Subtract(leased, r)
	}
	return leased
}
