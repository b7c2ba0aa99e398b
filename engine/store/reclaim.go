// SPDX-License-Identifier: Apache-2.0

package store

import (
	"math"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

// reclaimStep bounds how many exceptions of a deleted snapshot are looked at
// under one holding of the lock, and reclaimSteps how many such steps make one
// call of Maintain.
const (
	reclaimStep  = 128
	reclaimSteps = 64
)

// reclaiming is the freeing of what only one deleted snapshot needed. Two stretches
// of the change tree can have such: what was written to the snapshot, and the
// neighbouring generations of its parent in which it may have been the last to need
// an exception. It goes on where the last step ended; after a crash it starts over
// with what the last checkpoint has left.
type reclaiming struct {
	snap *snapshot
	from layout.Change // next one to look at
	end  layout.Change // where the stretch ends
	more bool          // the parent's stretch is still to come
}

// reclaim frees what only deleted snapshots needed, as far as it is due now, and
// reports whether more is left. It reads at least width tree pages at a time: who
// waits for it wants more than one.
func (s *Store) reclaim(width int) (more bool, err error) {
	for range reclaimSteps {
		s.readAhead(width)
		var done bool
		err := s.step(func() error {
			snap := s.snaps.toReclaim()
			if done = snap == nil; done {
				s.pace.going = false
				return nil
			}
			s.pace.begin(s.opts.Now())
			if snap != s.reclaiming.snap {
				s.reclaiming = s.ofBranch(snap)
			}
			if err := s.reclaimSome(&s.reclaiming); err != nil {
				return err
			}
			s.pace.looked(s.opts.Now())
			return nil
		})
		if done || err != nil {
			return false, err
		}
	}
	return true, nil
}

// ofBranch begins with what was written to the snapshot.
func (s *Store) ofBranch(snap *snapshot) reclaiming {
	return reclaiming{
		snap: snap, more: true,
		from: layout.Change{Branch: snap.branch()}, end: layout.Change{Branch: snap.branch() + 1},
	}
}

// ofParent goes on with the exceptions of the snapshot's parent that it may have
// been the last to need: of the origin, copies made from its generation to the next
// live snapshot's; of another branch, what was written between the last live
// snapshot before it and itself.
func (s *Store) ofParent(snap *snapshot) reclaiming {
	p, g := snap.Parent, snap.Generation
	r := reclaiming{snap: snap, from: layout.Change{Branch: p, Generation: g}, end: layout.Change{Branch: p + 1}}
	if p != 0 {
		r.from.Generation, r.end = s.snaps.lastLive(p, g), layout.Change{Branch: p, Generation: g}
	} else if next, ok := s.snaps.nextLive(p, g); ok {
		r.end = layout.Change{Branch: p, Generation: next}
	}
	return r
}

// reclaimSome looks at the next changes. At the end of the last stretch it forgets
// the snapshot.
func (s *Store) reclaimSome(r *reclaiming) error {
	if !r.more { // others may have been deleted, or made, meanwhile
		r.end = s.ofParent(r.snap).end
	}
	changes, err := s.index.Changes.Scan(r.from, reclaimStep, nil)
	if err != nil {
		return err
	}
	for _, c := range changes {
		if (layout.ChangeCodec{}).Compare(c, r.end) >= 0 {
			return s.endStretch(r)
		}
		if err := s.reclaimOne(c); err != nil {
			return err
		}
		r.from = c
		r.from.Chunk++
		s.pace.done++
	}
	if len(changes) < reclaimStep {
		return s.endStretch(r)
	}
	return nil
}

// endStretch goes on with the next stretch, or forgets the snapshot.
func (s *Store) endStretch(r *reclaiming) error {
	if r.more {
		*r = s.ofParent(r.snap)
		return nil
	}
	s.changed = true
	if r.snap.State == layout.SnapshotSquashed {
		s.snaps.reclaimed(r.snap)
		*r = reclaiming{} // it may yet be deleted
		return nil
	}
	return s.snaps.remove(r.snap.Generation)
}

// reclaimOne removes the exception of a change if no live snapshot needs it.
func (s *Store) reclaimOne(c layout.Change) error {
	needed, err := s.needed(c)
	if err != nil || needed {
		return err
	}
	e, ok, err := s.index.At(c.Branch, c.Chunk, c.Generation)
	if err != nil {
		return err
	}
	s.changed = true
	if ok && e.Generation == c.Generation {
		if _, err := s.index.Exceptions.Delete(e); err != nil {
			return err
		}
		s.freeSlot(e.Slot)
	}
	_, err = s.index.Changes.Delete(c)
	return err
}

// freeSlot sets the slot of an exception that is gone aside to be freed.
func (s *Store) freeSlot(slot block.Slot) {
	if slot != layout.LostSlot {
		s.slots.Free(layout.SlotRun{First: slot, Len: 1})
	}
}

// needed reports whether a snapshot that is live, or stalled, reads the exception of a
// change, or would read it if it were there.
func (s *Store) needed(c layout.Change) (bool, error) {
	off := s.geo.Offset(c.Chunk)
	if c.Branch == 0 {
		before, err := s.index.Before(0, c.Chunk, c.Generation)
		if err != nil {
			return false, err
		}
		return s.snaps.anyWith(off, before, c.Generation) || s.snaps.anyStalled(0, off, before, c.Generation), nil
	}
	next, ok, err := s.index.At(c.Branch, c.Chunk, c.Generation+1)
	if err != nil {
		return false, err
	}
	upTo := block.Generation(math.MaxUint64)
	if ok {
		upTo = next.Generation
	} else if owner := s.snaps.get(block.Generation(c.Branch)); owner != nil && (owner.readable() || owner.stalled()) {
		return true, nil
	}
	return s.snaps.anyIn(c.Branch, c.Generation, upTo) || s.snaps.anyStalled(c.Branch, off, c.Generation, upTo), nil
}
