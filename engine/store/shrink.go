// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/btree"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/wire"
)

// shrink takes from the store what target does not have.
//
// Nothing beyond the new end is given out from the begin on; what clients have leased
// there is taken back, and what is stored there is moved. A slot that was moved away
// from is free at once, but nobody uses it before the end, when all readers of snapshots
// have forgotten it. Up to the last checkpoint the store has its old size: a crash at
// any point leaves a whole store, and so does giving up.
func (s *Store) shrink(ctx context.Context, target Area, progress func(Progress)) error {
	now := s.area()
	left := s.common(now, target)
	if left.Slots == now.Slots && left.pages() == now.pages() {
		return nil
	}
	if err := s.mayShrink(now, target); err != nil {
		return err
	}
	err := s.limit(left.Slots, s.endOfPages(now, target))
	if err == nil {
		err = s.evacuate(ctx, now, left, progress)
	}
	if err == nil {
		err = s.cutOff(now, left)
	}
	return errors.Join(err, s.unlimit())
}

// limit has nothing given out beyond the new ends.
func (s *Store) limit(slots uint64, pages block.Page) error {
	return s.resolve(func() error {
		s.giveUpPin() // what it would keep is to go
		s.pages.SetLimit(pages)
		return s.slots.SetLimit(slots)
	})
}

// unlimit ends what limit began, once no reader of a snapshot looks beyond the limit.
func (s *Store) unlimit() error {
	s.admin.Lock()
	defer s.admin.Unlock()
	if err := s.quiesceSnapshots(false); err != nil {
		return fmt.Errorf("slots of the store's end stay unused until it is opened again: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slots.SetTotal(s.sb.Slots)
	s.pages.SetLimit(0)
	return nil
}

// evacuate moves all content away from beyond the limits.
func (s *Store) evacuate(ctx context.Context, now, left Area, progress func(Progress)) error {
	for more := true; more; { // what deletions free need not be moved
		began := time.Now()
		var err error
		if more, err = s.reclaim(widest); err != nil {
			return err
		}
		if err := s.goOn(ctx, began); err != nil {
			return err
		}
	}
	if left.Slots < now.Slots {
		if err := s.revokeLeases(); err != nil {
			return err
		}
		if err := s.moveExceptions(ctx, progress); err != nil {
			return err
		}
	}
	if left.pages() < now.pages() {
		return s.movePages(ctx, s.endOfPages(now, left), progress)
	}
	return nil
}

// revokeLeases takes all leases back: clients ask for new ones, before the limit.
func (s *Store) revokeLeases() error {
	s.admin.Lock()
	defer s.admin.Unlock()
	if err := s.quiesceSnapshots(true); err != nil {
		return err
	}
	client := s.attached()
	s.mu.Lock()
	s.aside.runs = nil
	if client == nil && s.sb.Placement == layout.PlacementInline {
		s.position.Place = 0 // where the last client's next descriptor would have been
	}
	s.mu.Unlock()
	if client == nil {
		return nil
	}
	_, err := s.takeOriginLeases(client)
	return err
}

// quiesceSnapshots has all clients of snapshots forget where chunks are, and with
// revoke takes their leases back. Admin is held.
func (s *Store) quiesceSnapshots(revoke bool) error {
	s.mu.Lock()
	var list []*opened
	for _, o := range s.handles {
		list = append(list, o)
	}
	s.mu.Unlock()
	for _, o := range list {
		err := o.client.Quiesce(func() (wire.SnapshotState, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			state := s.snapshotState(o.snap, o.write)
			if revoke {
				for _, r := range o.leases {
					s.slots.Return(r)
					s.changed = true
				}
				o.leases, state.Revoked = nil, true
			}
			return state, nil
		})
		if err != nil {
			return fmt.Errorf("snapshot %d: telling its client that slots have moved: %w", o.snap.Tag, err)
		}
	}
	return nil
}

const (
	moveLeaves   = 64 // tree pages that are moved under one holding of the lock
	cutOffTries  = 4  // checkpoints until nothing is left beyond the limits
	maxMoveDirty = 512
)

// movePages has the pages from limit on written elsewhere.
func (s *Store) movePages(ctx context.Context, limit block.Page, progress func(Progress)) error {
	s.mu.Lock()
	total := s.pages.Beyond()
	s.mu.Unlock()
	step := func(began time.Time) error {
		s.mu.Lock()
		s.changed = true
		due := s.checkpointDue() || s.dirtyPages() > maxMoveDirty
		s.mu.Unlock()
		if due {
			if err := s.Checkpoint(); err != nil {
				return err
			}
		}
		s.mu.Lock()
		done := total - min(total, s.pages.Beyond())
		s.mu.Unlock()
		progress(Progress{Phase: "pages", Done: done, Total: total})
		return s.goOn(ctx, began)
	}
	err := errors.Join(
		moveTree(s, s.index.Exceptions, limit, step),
		moveTree(s, s.index.Changes, limit, step),
		moveTree(s, s.slots.Tree(), limit, step),
		moveTree(s, s.snaps.tree, limit, step),
		moveTree(s, s.leases, limit, step),
		moveTree(s, s.digests.tree, limit, step),
	)
	if err != nil {
		return fmt.Errorf("moving metadata pages: %w", err)
	}
	return nil
}

// moveTree has the pages of one tree from limit on written elsewhere by the next
// checkpoints, and calls step after each part.
func moveTree[E any](s *Store, t *btree.Tree[E], limit block.Page, step func(began time.Time) error) error {
	var from E
	for more := true; more; {
		began := time.Now()
		err := s.resolve(func() error {
			next, m, err := t.Move(limit, from, moveLeaves)
			if err == nil {
				from, more = next, m
			}
			return err
		})
		if err != nil {
			return err
		}
		if err := step(began); err != nil {
			return err
		}
	}
	return nil
}

// cutOff makes the store end at left: nothing is stored beyond any more.
func (s *Store) cutOff(now, left Area) error {
	s.admin.Lock()
	defer s.admin.Unlock()
	if err := s.quiesceSnapshots(false); err != nil {
		return err
	}
	if left.pages() < now.pages() {
		if err := s.cutOffPages(now, left); err != nil {
			return err
		}
	}
	for range cutOffTries {
		done := false
		err := s.checkpointWith(&setting{set: func(sb *layout.Superblock) {
			if done = s.slots.Beyond() == 0; done {
				sb.Slots = left.Slots
			}
		}})
		if err != nil || done {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Errorf("%d slots beyond the new end are still in use", s.slots.Beyond())
}

// cutOffPages takes the tree pages that left does not have from the store. The slots
// that they took are leased by the same checkpoint, so that a crash gives them back.
func (s *Store) cutOffPages(now, left Area) error {
	runs := s.lostSlots(now, left)
	done := false
	for tries := 0; !done; tries++ {
		if tries == cutOffTries {
			return fmt.Errorf("%d metadata pages beyond the new end are still in use", s.pages.Beyond())
		}
		if err := s.Checkpoint(); err != nil {
			return err
		}
		err := s.checkpointWith(&setting{
			leases: func() {
				if done = s.pages.Beyond() == 0; done {
					for _, r := range runs {
						s.slots.Unuse(r)
					}
					s.moving = runs
				}
			},
			set: func(sb *layout.Superblock) {
				if done {
					sb.TreePages, sb.Grown = left.TreePages, left.Grown
				}
			},
		})
		if err != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			for _, r := range s.moving {
				s.slots.Use(r)
			}
			s.moving = nil
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range runs {
		s.slots.Return(r)
	}
	s.moving = nil
	return s.pages.SetExtents(left.extents())
}

// lostSlots returns the slots of tree pages that left does not have.
func (s *Store) lostSlots(now, left Area) []layout.SlotRun {
	var runs []layout.SlotRun
	for _, e := range trimmed(now.Grown, left.Grown) {
		runs = append(runs, s.grownSlots(now, []layout.Extent{e})...)
	}
	return runs
}

// trimmed returns what of the extents is not in left, which has the first ones, the
// last of them perhaps shorter.
func trimmed(extents, left []layout.Extent) []layout.Extent {
	var gone []layout.Extent
	for i, e := range extents {
		if i < len(left) {
			e.First, e.Len = left[i].End(), e.Len-left[i].Len
		}
		if e.Len > 0 {
			gone = append(gone, e)
		}
	}
	return gone
}
