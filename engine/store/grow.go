// SPDX-License-Identifier: Apache-2.0

package store

import (
	"zumastor.org/zumastor/engine/alloc"
	"zumastor.org/zumastor/engine/layout"
)

// grow gives the store the slots and tree pages of target that it does not have.
//
// First the superblock says that there are more slots, of which none is leased yet: a
// batch in one that a crash makes unknown would be lost. Then the slots of new tree pages
// are leased, so that a crash gives them back; a checkpoint ends the lease and has the
// pages at once. Only then is anything put there.
func (s *Store) grow(target Area) error {
	now := s.area()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.slots.SetTotal(s.sb.Slots)
		s.wake()
	}()
	if target.Slots > now.Slots {
		err := s.checkpointWith(&setting{
			leases: func() { s.slots.Grow(target.Slots) },
			set:    func(sb *layout.Superblock) { sb.Slots = target.Slots },
		})
		if err != nil {
			return err
		}
	}
	if target.pages() > now.pages() {
		if err := s.growPages(now, target); err != nil {
			return err
		}
	}
	return nil
}

// growPages gives the store the tree pages of target.
func (s *Store) growPages(now, target Area) error {
	run := s.newSlots(now, target)
	if run.Len > 0 {
		err := s.step(func() error {
			s.moving = []layout.SlotRun{run}
			s.changed = true
			return s.slots.LeaseRun(run)
		})
		if err != nil {
			return err
		}
	}
	err := s.checkpointWith(&setting{
		leases: func() { s.slots.Use(run) },
		set:    func(sb *layout.Superblock) { sb.TreePages, sb.Grown = target.TreePages, target.Grown },
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.moving = nil
	if err != nil {
		if run.Len > 0 {
			s.slots.Return(run)
		}
		return err
	}
	return s.pages.SetExtents(target.extents())
}

// newSlots returns the slots that new tree pages take.
func (s *Store) newSlots(now, target Area) layout.SlotRun {
	runs := s.grownSlots(target, target.Grown)
	for _, old := range s.grownSlots(now, now.Grown) {
		runs = alloc.Subtract(runs, old)
	}
	if len(runs) == 0 {
		return layout.SlotRun{}
	}
	return runs[0] // there is one new extent at most
}
