// SPDX-License-Identifier: Apache-2.0

// Package alloc keeps account of free space: the slots of the data area and the
// pages of the metadata area.
//
// It owns who may use which place, and the rule that a place freed is not given
// away again before the checkpoint that frees it is durable. It does no I/O of
// its own and knows nothing of what is kept in a place. The store is its only
// caller and serialises all calls. Calls on slots may return a *btree.Miss
// instead of reading a page, and are then to be made again, whole.
package alloc

import (
	"errors"
	"math/bits"
	"slices"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/btree"
	"zumastor.org/zumastor/engine/layout"
)

// ErrNoSpace is returned when no free place is left.
var ErrNoSpace = errors.New("no space left in the store")

const wordSlots = 64

// Slots is the allocation state of a data area.
//
// A slot is free, leased, or allocated to an exception or a descriptor. A lease
// is allocated in the tree, and listed in the superblock so that a crash gives
// back what was not used. A slot that is freed waits: Free sets it aside, the
// next checkpoint's Freeze makes it free in the tree and so in what that
// checkpoint writes, and Thaw, when the checkpoint is durable, lets it be leased.
type Slots struct {
	tree   *btree.Tree[layout.SlotWord]
	total  uint64
	used   uint64     // slots allocated in the tree, kept with every change of it
	cursor block.Slot // where the search for free slots goes on

	freed  []layout.SlotRun // since the last Freeze; still allocated in the tree
	frozen []layout.SlotRun // free in the tree, but not to be leased before Thaw; ascending
	leases []layout.SlotRun // leased and not yet used, ascending
	found  []layout.SlotRun // by a Lease that a *btree.Miss cut short
}

// NewSlots returns the state of a data area of total slots, of which the tree
// says that used are allocated.
func NewSlots(tree *btree.Tree[layout.SlotWord], total, used uint64) *Slots {
	return &Slots{tree: tree, total: total, used: used}
}

// Tree returns the tree that holds the state, for a checkpoint.
func (s *Slots) Tree() *btree.Tree[layout.SlotWord] { return s.tree }

// Total returns the number of slots.
func (s *Slots) Total() uint64 { return s.total }

// Allocated returns how many slots are not free: leased, used or waiting.
func (s *Slots) Allocated() uint64 { return s.used }

// Used returns how many slots hold data: those allocated, less leases and the
// ones set aside to be freed.
func (s *Slots) Used() uint64 { return s.used - length(s.leases) - length(s.freed) }

// Waiting returns how many slots are freed but not yet free to be leased.
func (s *Slots) Waiting() uint64 { return length(s.freed) + length(s.frozen) }

// Leases returns what is leased and not yet used.
func (s *Slots) Leases() []layout.SlotRun { return s.leases }

// Lease gives out up to want free slots in as few runs as the search from where
// the last one ended finds. It returns [ErrNoSpace] if not even one is free.
func (s *Slots) Lease(want uint64) ([]layout.SlotRun, error) {
	if len(s.found) == 0 {
		found, err := s.find(want)
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return nil, ErrNoSpace
		}
		s.found = found
	}
	got := s.found
	for _, r := range got {
		if err := s.set(r); err != nil {
			return nil, err
		}
	}
	s.found = nil
	s.leases = merge(s.leases, got)
	last := got[len(got)-1]
	s.cursor = last.First + block.Slot(last.Len)
	return got, nil
}

// find returns free runs of want slots in all, or less when there is no more.
func (s *Slots) find(want uint64) ([]layout.SlotRun, error) {
	var got []layout.SlotRun
	room := layout.MaxLeases - len(s.leases)
	from, wrapped := s.cursor, false
	for want > 0 && len(got) < room {
		run, ok, err := s.nextFree(from, want)
		if err != nil {
			return nil, err
		}
		if wrapped && ok && run.First >= s.cursor {
			ok = false
		}
		if !ok && wrapped {
			break
		}
		if !ok {
			from, wrapped = 0, true
			continue
		}
		if wrapped && run.First+block.Slot(run.Len) > s.cursor {
			run.Len = uint64(s.cursor - run.First)
		}
		got = append(got, run)
		want -= run.Len
		from = run.First + block.Slot(run.Len)
	}
	slices.SortFunc(got, byFirst)
	return got, nil
}

// nextFree returns the first run of at most limit slots at or after from that are
// free to be leased.
func (s *Slots) nextFree(from block.Slot, limit uint64) (layout.SlotRun, bool, error) {
	for uint64(from) < s.total {
		first, err := s.seek(from, false)
		if err != nil || uint64(first) >= s.total {
			return layout.SlotRun{}, false, err
		}
		if end, ok := s.frozenEnd(first); ok {
			from = end
			continue
		}
		end, err := s.seek(first, true)
		if err != nil {
			return layout.SlotRun{}, false, err
		}
		end = min(end, s.nextFrozen(first), first+block.Slot(limit))
		return layout.SlotRun{First: first, Len: uint64(end - first)}, true, nil
	}
	return layout.SlotRun{}, false, nil
}

// seek returns the first slot at or after from whose state is allocated, or the
// end of the area.
func (s *Slots) seek(from block.Slot, allocated bool) (block.Slot, error) {
	var words [256]layout.SlotWord
	index := uint64(from) / wordSlots
	mask := ^uint64(0) << (from % wordSlots)
	for {
		got, err := s.tree.Scan(layout.SlotWord{Index: index}, len(words), words[:0])
		if err != nil {
			return 0, err
		}
		for _, w := range got {
			if w.Index > index && !allocated {
				return min(s.wordSlot(index, mask), block.Slot(s.total)), nil
			}
			if w.Index > index {
				mask = ^uint64(0)
			}
			index = w.Index
			state := w.Bits
			if !allocated {
				state = ^state
			}
			if state &= mask; state != 0 {
				return min(s.wordSlot(index, state), block.Slot(s.total)), nil
			}
			index, mask = index+1, ^uint64(0)
		}
		if len(got) < len(words) {
			break
		}
	}
	if allocated {
		return block.Slot(s.total), nil
	}
	return min(s.wordSlot(index, mask), block.Slot(s.total)), nil
}

// wordSlot returns the slot of the lowest bit set in word index's bits.
func (s *Slots) wordSlot(index, set uint64) block.Slot {
	return block.Slot(index*wordSlots + uint64(bits.TrailingZeros64(set)))
}

// frozenEnd returns the end of the frozen run that holds slot.
func (s *Slots) frozenEnd(slot block.Slot) (block.Slot, bool) {
	i := s.frozenAfter(slot)
	if i == 0 {
		return 0, false
	}
	r := s.frozen[i-1]
	end := r.First + block.Slot(r.Len)
	return end, slot < end
}

// nextFrozen returns the first frozen slot after slot.
func (s *Slots) nextFrozen(slot block.Slot) block.Slot {
	if i := s.frozenAfter(slot); i < len(s.frozen) {
		return s.frozen[i].First
	}
	return block.Slot(s.total)
}

// frozenAfter returns the index of the first frozen run that begins after slot.
func (s *Slots) frozenAfter(slot block.Slot) int {
	i, _ := slices.BinarySearchFunc(s.frozen, slot+1, func(r layout.SlotRun, at block.Slot) int {
		if r.First < at {
			return -1
		}
		return 1
	})
	return i
}

// Use turns leased slots into used ones.
func (s *Slots) Use(r layout.SlotRun) { s.leases = subtract(s.leases, r) }

// Claim allocates slots that the tree has as free: recovery uses it for what a
// log replays.
func (s *Slots) Claim(r layout.SlotRun) error { return s.set(r) }

// Release makes slots free at once. It is only for recovery, which gives back
// the leases of the superblock before it replays.
func (s *Slots) Release(r layout.SlotRun) error { return s.clear(r) }

// Free sets used slots aside to be freed by the next checkpoint.
func (s *Slots) Free(r layout.SlotRun) {
	if n := len(s.freed); n > 0 && s.freed[n-1].First+block.Slot(s.freed[n-1].Len) == r.First {
		s.freed[n-1].Len += r.Len
		return
	}
	s.freed = append(s.freed, r)
}

// Return sets what is left of a lease aside to be freed.
func (s *Slots) Return(r layout.SlotRun) {
	s.Use(r)
	s.Free(r)
}

// Freeze makes all that was set aside free in the tree, for the checkpoint that
// is about to be taken. None of it is leased before Thaw. It may be made again
// after a *btree.Miss, and between Freeze and Thaw must not be called otherwise.
func (s *Slots) Freeze() error {
	for len(s.freed) > 0 {
		r := s.freed[len(s.freed)-1]
		if err := s.clear(r); err != nil {
			return err
		}
		s.freed = s.freed[:len(s.freed)-1]
		s.frozen = append(s.frozen, r)
	}
	s.frozen = merge(s.frozen, nil)
	return nil
}

// Thaw lets what Freeze freed be leased: its checkpoint is durable.
func (s *Slots) Thaw() { s.frozen = nil }

// set marks a run allocated in the tree.
func (s *Slots) set(r layout.SlotRun) error {
	return s.update(r, func(old, mask uint64) uint64 { return old | mask })
}

// clear marks a run free in the tree.
func (s *Slots) clear(r layout.SlotRun) error {
	return s.update(r, func(old, mask uint64) uint64 { return old &^ mask })
}

// update applies change to each word of a run, with the mask of the run's slots
// in it.
func (s *Slots) update(r layout.SlotRun, change func(old, mask uint64) uint64) error {
	first, end := uint64(r.First), uint64(r.First)+r.Len
	for index := first / wordSlots; index*wordSlots < end; index++ {
		mask := ^uint64(0)
		if base := index * wordSlots; first > base {
			mask <<= first - base
		}
		if rest := (index+1)*wordSlots - min(end, (index+1)*wordSlots); rest > 0 {
			mask &= ^uint64(0) >> rest
		}
		word, ok, err := s.tree.Ceiling(layout.SlotWord{Index: index})
		if err != nil {
			return err
		}
		if !ok || word.Index != index {
			word = layout.SlotWord{Index: index}
		}
		old := word.Bits
		word.Bits = change(old, mask)
		switch {
		case word.Bits == old:
		case word.Bits == 0:
			_, err = s.tree.Delete(word)
		default:
			_, err = s.tree.Insert(word)
		}
		if err != nil {
			return err
		}
		s.used += uint64(bits.OnesCount64(word.Bits)) - uint64(bits.OnesCount64(old))
	}
	return nil
}
