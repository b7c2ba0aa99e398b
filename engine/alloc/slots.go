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

	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/btree"
	"zumastor.org/zumastor/engine/layout"
)

// ErrNoSpace is returned when no free place is left. It is ENOSPC to [errors.Is].
var ErrNoSpace error = noSpace{}

type noSpace struct{}

func (noSpace) Error() string        { return "no space left in the store" }
func (noSpace) Is(target error) bool { return target == unix.ENOSPC }

// MaxLeases is how many runs of slots can be leased at a time: the lease tree is
// written anew by every checkpoint.
const MaxLeases = 128

// ErrLeases is returned when [MaxLeases] runs are leased: some must be used first.
var ErrLeases = errors.New("too many leases are not used yet")

const wordSlots = 64

// Slots is the allocation state of a data area.
//
// A slot is free, leased, or allocated to an exception or a descriptor. A lease
// is allocated in the tree, and listed in the lease tree so that a crash gives
// back what was not used. A slot that is freed waits: Free sets it aside, the
// next checkpoint's Freeze makes it free in the tree and so in what that
// checkpoint writes, and Thaw, when the checkpoint is durable, lets it be leased.
//
// Others may have the lock, and a checkpoint may be taken, while a page is read
// for a Lease or a Freeze. So a slot is frozen before it is free in the tree, and
// listed as leased before it is allocated there.
type Slots struct {
	tree   *btree.Tree[layout.SlotWord]
	total  uint64
	limit  uint64     // slots from here on are not leased; at most total
	used   uint64     // slots allocated in the tree, kept with every change of it
	beyond uint64     // those of them from the limit on
	cursor block.Slot // where the next search for free slots begins
	search search     // that a *btree.Miss cut short

	freed    []layout.SlotRun // since the last Freeze; still allocated in the tree
	clearing []layout.SlotRun // the frozen that a Freeze has yet to make free in the tree
	frozen   []layout.SlotRun // not to be leased before Thaw; ascending
	pinned   bool             // what Thaw would let be leased is held
	held     []layout.SlotRun // not to be leased before Unpin; ascending
	holds    uint64           // slots of held
	leases   []layout.SlotRun // leased and not yet used, ascending; as given out, neighbours not joined
	found    []layout.SlotRun // the leases that a Lease has yet to return, ascending
	unset    []layout.SlotRun // the part of found that is not yet allocated in the tree
}

// search is how far a search for free slots has come.
type search struct {
	want    uint64 // zero: there is none
	got     []layout.SlotRun
	from    block.Slot // where it goes on
	wrapped bool       // it has started over
}

// NewSlots returns the state of a data area of total slots, of which the tree
// says that used are allocated.
func NewSlots(tree *btree.Tree[layout.SlotWord], total, used uint64) *Slots {
	return &Slots{tree: tree, total: total, limit: total, used: used}
}

// Tree returns the tree that holds the state, for a checkpoint.
func (s *Slots) Tree() *btree.Tree[layout.SlotWord] { return s.tree }

// Total returns the number of slots.
func (s *Slots) Total() uint64 { return s.total }

// Allocated returns how many slots are allocated in the tree: leased, used, or
// freed since the last checkpoint.
func (s *Slots) Allocated() uint64 { return s.used }

// Used returns how many slots hold data: those allocated, less leases and the
// ones set aside to be freed.
func (s *Slots) Used() uint64 {
	return s.used + length(s.unset) - length(s.leases) - length(s.freed) - length(s.clearing)
}

// Waiting returns how many slots are freed but not yet free to be leased. A checkpoint
// makes them so, but for those that Pin holds, which do not count.
func (s *Slots) Waiting() uint64 { return length(s.freed) + length(s.frozen) }

// Leases returns what is leased and not yet used, ascending, with what a Lease
// that was cut short has found. The caller must not change it, nor keep it.
func (s *Slots) Leases() []layout.SlotRun { return s.leases }

// Lease gives out up to want free slots, in as few runs as the search from where
// the last one ended finds, but not so many runs that there are more than
// MaxLeases in all. It returns [ErrLeases] if there are so many already,
// and [ErrNoSpace] if it finds none. What a Lease has found that failed for good, the next one gives out, whatever it wants.
func (s *Slots) Lease(want uint64) ([]layout.SlotRun, error) { return s.lease(want, MaxLeases) }

// LeaseRuns is Lease of no more than so many runs, which leaves some to others. It
// returns [ErrLeases] if runs is not positive.
func (s *Slots) LeaseRuns(want uint64, runs int) ([]layout.SlotRun, error) {
	return s.lease(want, min(MaxLeases, len(s.leases)+runs))
}

// lease is Lease with a bound of all runs.
func (s *Slots) lease(want uint64, most int) ([]layout.SlotRun, error) {
	if len(s.found) == 0 {
		if len(s.leases) >= most {
			return nil, ErrLeases
		}
		found, err := s.find(want, most-len(s.leases))
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return nil, ErrNoSpace
		}
		last := found[len(found)-1]
		s.cursor = last.First + block.Slot(last.Len)
		slices.SortFunc(found, byFirst)
		s.found, s.unset = found, slices.Clone(found)
		s.leases = append(s.leases, found...)
		slices.SortFunc(s.leases, byFirst)
	}
	if err := drain(&s.unset, s.set); err != nil {
		return nil, err
	}
	got := s.found
	s.found = nil
	return got, nil
}

// find returns up to room free runs of want slots in all, in the order of the search,
// or less when there is no more. After an error it goes on where it stopped, unless
// another find came in between: what that found is no longer free.
func (s *Slots) find(want uint64, room int) ([]layout.SlotRun, error) {
	f := &s.search
	if f.want != want || want == 0 {
		*f = search{want: want, from: s.cursor}
	}
	left := min(want-length(f.got), s.Leasable()-length(f.got))
	for left > 0 && len(f.got) < room {
		run, ok, err := s.nextFree(left)
		if err != nil {
			return nil, err
		}
		if f.wrapped && (!ok || run.First >= s.cursor) {
			break
		}
		if !ok {
			f.from, f.wrapped = 0, true
			continue
		}
		if end := run.First + block.Slot(run.Len); f.wrapped && end > s.cursor {
			run.Len = uint64(s.cursor - run.First)
		}
		f.got = append(f.got, run)
		f.from = run.First + block.Slot(run.Len)
		left -= run.Len
	}
	got := f.got
	*f = search{}
	return got, nil
}

// Leasable returns how many slots are free to be leased. A search ends with the
// last of them, and a full area is not searched at all.
func (s *Slots) Leasable() uint64 {
	return s.limit - (s.used - s.beyond) - (s.lengthBelow(s.frozen) - s.lengthBelow(s.clearing)) - s.holdsBelow()
}

// nextFree returns the first run of at most limit slots, from where the search
// has come, that are free to be leased, and moves the search to it.
func (s *Slots) nextFree(limit uint64) (layout.SlotRun, bool, error) {
	from := &s.search.from
	for uint64(*from) < s.limit {
		if err := s.seek(from, false); err != nil || uint64(*from) >= s.limit {
			return layout.SlotRun{}, false, err
		}
		if end, ok := s.waitingEnd(*from); ok {
			*from = end
			continue
		}
		end := *from
		if err := s.seek(&end, true); err != nil {
			return layout.SlotRun{}, false, err
		}
		end = min(end, s.nextIn(s.frozen, *from), s.nextIn(s.held, *from), *from+block.Slot(limit))
		return layout.SlotRun{First: *from, Len: uint64(end - *from)}, true, nil
	}
	return layout.SlotRun{}, false, nil
}

// seek moves at to the first slot from there on whose state is allocated or not,
// or to the end of the area. At an error it has moved as far as it is known that
// there is none.
func (s *Slots) seek(at *block.Slot, allocated bool) error {
	var words [256]layout.SlotWord
	for uint64(*at) < s.limit {
		index, mask := uint64(*at)/wordSlots, ^uint64(0)<<(*at%wordSlots)
		got, err := s.tree.Scan(layout.SlotWord{Index: index}, len(words), words[:0])
		if err != nil {
			return err
		}
		for _, w := range got {
			if w.Index > index && !allocated { // the words between have no slot allocated
				break
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
				*at = min(s.wordSlot(index, state), block.Slot(s.limit))
				return nil
			}
			index, mask = index+1, ^uint64(0)
		}
		switch n := len(got); {
		case allocated && n < len(words):
			*at = block.Slot(s.limit)
		case !allocated && (n < len(words) || got[n-1].Index >= index):
			*at = min(s.wordSlot(index, mask), block.Slot(s.limit))
			return nil
		default:
			*at = min(block.Slot(index*wordSlots), block.Slot(s.limit))
		}
	}
	return nil
}

// wordSlot returns the slot of the lowest bit set in word index's bits.
func (s *Slots) wordSlot(index, set uint64) block.Slot {
	return block.Slot(index*wordSlots + uint64(bits.TrailingZeros64(set)))
}

// waitingEnd returns the end of the run that holds slot and is free, but not yet to
// be leased.
func (s *Slots) waitingEnd(slot block.Slot) (block.Slot, bool) {
	for _, runs := range [...][]layout.SlotRun{s.frozen, s.held} {
		if i := indexAfter(runs, slot); i > 0 {
			if end := runs[i-1].First + block.Slot(runs[i-1].Len); slot < end {
				return end, true
			}
		}
	}
	return 0, false
}

// nextIn returns the first slot of the runs after slot, or the end of the area.
func (s *Slots) nextIn(runs []layout.SlotRun, slot block.Slot) block.Slot {
	if i := indexAfter(runs, slot); i < len(runs) {
		return runs[i].First
	}
	return block.Slot(s.limit)
}

// indexAfter returns the index of the first run that begins after slot.
func indexAfter(runs []layout.SlotRun, slot block.Slot) int {
	i, _ := slices.BinarySearchFunc(runs, slot+1, func(r layout.SlotRun, at block.Slot) int {
		if r.First < at {
			return -1
		}
		return 1
	})
	return i
}

// Use turns leased slots into used ones. Runs that are used from their first slot
// on stay as many as Lease gave out.
func (s *Slots) Use(r layout.SlotRun) { s.leases = Subtract(s.leases, r) }

// Taken reports whether a slot is leased, used, or freed and not yet free to be
// leased.
func (s *Slots) Taken(slot block.Slot) (bool, error) {
	index := uint64(slot) / wordSlots
	word, ok, err := s.tree.Ceiling(layout.SlotWord{Index: index})
	allocated := ok && word.Index == index && word.Bits&(1<<(uint64(slot)%wordSlots)) != 0
	_, waits := s.waitingEnd(slot)
	return allocated || waits, err
}

// Claim allocates slots that the tree has as free: recovery uses it for what a
// log replays.
func (s *Slots) Claim(r layout.SlotRun) error { return drain(&[]layout.SlotRun{r}, s.set) }

// Release makes slots free at once. It is only for recovery, which gives back
// the leases of the superblock before it replays.
func (s *Slots) Release(r layout.SlotRun) error { return drain(&[]layout.SlotRun{r}, s.clear) }

// Free sets used slots aside to be freed by the next checkpoint.
func (s *Slots) Free(r layout.SlotRun) {
	if n := len(s.freed); n > 0 && s.freed[n-1].First+block.Slot(s.freed[n-1].Len) == r.First {
		s.freed[n-1].Len += r.Len
		return
	}
	s.freed = append(s.freed, r)
}

// Return sets what is left of a lease aside to be freed. What a Lease that failed
// has not yet allocated is free at once.
func (s *Slots) Return(r layout.SlotRun) {
	s.Use(r)
	s.found = Subtract(s.found, r)
	set := []layout.SlotRun{r}
	for _, u := range s.unset {
		set = Subtract(set, u)
	}
	s.unset = Subtract(s.unset, r)
	for _, r := range set {
		s.Free(r)
	}
}

// Freeze makes all that was set aside free in the tree, for the checkpoint that
// is about to be taken. None of it is leased before Thaw, not even if a *btree.Miss
// cuts Freeze short. After any error it may be made again; between a Freeze that
// has succeeded for a checkpoint and its Thaw there must be no other.
func (s *Slots) Freeze() error {
	s.frozen = merge(s.frozen, s.freed)
	s.clearing = append(s.clearing, s.freed...)
	s.freed = nil
	return drain(&s.clearing, s.clear)
}

// Thaw lets what Freeze freed be leased: its checkpoint is durable. While the slots
// are pinned it is held instead.
func (s *Slots) Thaw() {
	if s.pinned {
		s.holds += length(s.frozen)
		s.held = merge(s.held, s.frozen)
	}
	s.frozen = nil
}

// Pin keeps slots that are freed from now on from being leased before Unpin. It
// takes 16 bytes of memory a run of them.
func (s *Slots) Pin() { s.pinned = true }

// Unpin lets what Pin holds be leased.
func (s *Slots) Unpin() { s.pinned, s.held, s.holds = false, nil, 0 }

// Held returns how many slots only Pin keeps from being leased.
func (s *Slots) Held() uint64 { return s.holds }

// set marks a run within one word allocated in the tree.
func (s *Slots) set(r layout.SlotRun) error {
	return s.update(r, func(old, mask uint64) uint64 { return old | mask })
}

// clear marks a run within one word free in the tree.
func (s *Slots) clear(r layout.SlotRun) error {
	return s.update(r, func(old, mask uint64) uint64 { return old &^ mask })
}

// update applies change to the word of a run, with the mask of the run's slots.
// On an error nothing has changed.
func (s *Slots) update(r layout.SlotRun, change func(old, mask uint64) uint64) error {
	index := uint64(r.First) / wordSlots
	mask := ^uint64(0) >> (wordSlots - r.Len) << (uint64(r.First) % wordSlots)
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
	mask = s.beyondMask(index)
	s.beyond += uint64(bits.OnesCount64(word.Bits&mask)) - uint64(bits.OnesCount64(old&mask))
	return nil
}
