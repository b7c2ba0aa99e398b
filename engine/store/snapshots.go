// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"math"

	"zumastor.org/zumastor/engine/alloc"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/journal"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/wire"
)

// CreateSnapshot makes a snapshot of the origin as it is: origin writes that have
// returned belong to it, those that begin after it has returned do not. It is
// durable when CreateSnapshot returns. The cost is one record, however many
// snapshots there are. The error wraps [ErrExists] if the tag is taken.
func (s *Store) CreateSnapshot(tag block.Tag) (snap layout.Snapshot, err error) {
	s.admin.Lock()
	defer s.admin.Unlock()
	if err := s.begin(); err != nil {
		return snap, err
	}
	if err := s.checkRoom(); err != nil {
		return snap, err
	}
	change := func() (wire.State, error) {
		snap, err = s.create(tag)
		if errors.Is(err, journal.ErrFull) {
			if err = s.Checkpoint(); err == nil {
				snap, err = s.create(tag)
			}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.state(), err
	}
	if client := s.attached(); client != nil {
		err = client.Quiesce(change)
	} else {
		_, err = change()
	}
	return snap, err
}

// begin makes sure that the store's superblock says that there may be something
// to replay, and that there is room for the next checkpoint.
func (s *Store) begin() error {
	if err := s.mutable(); err != nil {
		return err
	}
	s.mu.Lock()
	now := s.sb.Clean || s.cramped()
	s.mu.Unlock()
	if now {
		return s.Checkpoint()
	}
	return nil
}

// checkRoom returns an error when one more snapshot may be too many for the
// metadata area. With at most half of its pages in use, a checkpoint always has
// room, whatever is dirty, and so a store that takes no more snapshots still
// takes their deletion.
func (s *Store) checkRoom() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if used, all := s.pages.Used()-uint64(s.pages.Deferred()), s.sb.TreePages.Len; 2*used > all {
		return fmt.Errorf("snapshots and exceptions use %d of %d metadata pages: %w", used, all, alloc.ErrNoSpace)
	}
	return nil
}

func (s *Store) attached() wire.Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.client
}

func (s *Store) create(tag block.Tag) (snap layout.Snapshot, err error) {
	err = s.resolve(func() error {
		if s.snaps.byTag[tag] != nil {
			return fmt.Errorf("snapshot %d: %w", tag, ErrExists)
		}
		snap = layout.Snapshot{
			Generation: s.sb.Generation + 1, Tag: tag, State: layout.SnapshotLive,
			Created: s.opts.Now(), Size: s.geo.Size(),
		}
		return s.record(snap)
	})
	return snap, err
}

// record makes a snapshot's changed entry durable and takes it over. The lock is
// held. Only the insert can miss a page: once the record is written, nothing is
// made again.
func (s *Store) record(snap layout.Snapshot) error {
	body := layout.AppendSnapshotRecord(nil, snap)
	if !s.control.Fits(len(body)) {
		return journal.ErrFull
	}
	if _, err := s.snaps.tree.Insert(snap); err != nil {
		return err
	}
	if err := s.control.Append(layout.RecordSnapshot, body); err != nil {
		s.doubt(snap)
		return s.fail(err)
	}
	s.snaps.put(snap)
	s.sb.Generation = max(s.sb.Generation, snap.Generation)
	s.changed = true
	if s.checkpointDue() {
		s.wake()
	}
	return nil
}

// doubt takes in that nobody knows whether a new snapshot's record is durable: the
// next opening may find it, so until then nothing that it would share may be
// overwritten. The lock is held.
func (s *Store) doubt(snap layout.Snapshot) {
	if snap.State == layout.SnapshotLive {
		s.sb.Generation = snap.Generation
		s.snaps.doubtful = snap.Generation
	}
}

// DeleteSnapshot deletes a snapshot: it is gone, durably, when DeleteSnapshot
// returns; what only it needed is freed in the background. The error wraps
// [ErrNoSnapshot] or [ErrInUse].
func (s *Store) DeleteSnapshot(tag block.Tag) error {
	s.admin.Lock()
	defer s.admin.Unlock()
	if err := s.begin(); err != nil {
		return err
	}
	err := s.delete(tag)
	if errors.Is(err, journal.ErrFull) {
		if err := s.Checkpoint(); err != nil {
			return err
		}
		err = s.delete(tag)
	}
	if err != nil {
		return err
	}
	s.wake()
	if client := s.attached(); client != nil {
		s.mu.Lock()
		state := s.state()
		s.mu.Unlock()
		client.Update(state)
	}
	return nil
}

func (s *Store) delete(tag block.Tag) error {
	return s.resolve(func() error {
		snap := s.snaps.byTag[tag]
		switch {
		case snap == nil:
			return fmt.Errorf("snapshot %d: %w", tag, ErrNoSnapshot)
		case snap.users > 0:
			return fmt.Errorf("snapshot %d: %w by %d readers", tag, ErrInUse, snap.users)
		}
		gone := snap.Snapshot
		gone.State = layout.SnapshotDeleting
		return s.record(gone)
	})
}

// OpenSnapshot returns a snapshot and keeps it from being deleted.
func (s *Store) OpenSnapshot(tag block.Tag) (layout.Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	snap := s.snaps.byTag[tag]
	if snap == nil {
		return layout.Snapshot{}, fmt.Errorf("snapshot %d: %w", tag, ErrNoSnapshot)
	}
	snap.users++
	return snap.Snapshot, nil
}

// CloseSnapshot ends what OpenSnapshot began.
func (s *Store) CloseSnapshot(g block.Generation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i, ok := s.snaps.find(g); ok {
		s.snaps.all[i].users--
	}
}

// reclaimStep bounds how many exceptions of a deleted snapshot are looked at
// under one holding of the lock, and reclaimSteps how many such steps make one
// call of Maintain.
const (
	reclaimStep  = 128
	reclaimSteps = 64
)

// reclaim frees what only deleted snapshots needed, as far as it is due now, and
// reports whether more is left. An exception of generation g serves the snapshots
// from its chunk's previous exception's generation to g. Only those with g from
// the deleted snapshot's generation to the next live one's can have lost their
// last snapshot, and they are neighbours in the change tree. After a crash it
// starts over with what the last checkpoint has left.
func (s *Store) reclaim() (more bool, err error) {
	var from layout.Change
	var gone block.Generation
	for range reclaimSteps {
		var done bool
		err := s.step(func() error {
			snap := s.snaps.deleting()
			if done = snap == nil; done {
				return nil
			}
			if snap.Generation != gone {
				gone = snap.Generation
				from = layout.Change{Generation: gone}
			}
			end, err := s.reclaimFrom(&from)
			if err != nil || !end {
				return err
			}
			s.changed = true
			return s.snaps.remove(gone)
		})
		if done || err != nil {
			return false, err
		}
	}
	return true, nil
}

// reclaimFrom looks at the next changes from *from on, which it moves on, and
// reports whether none is left before the next live snapshot.
func (s *Store) reclaimFrom(from *layout.Change) (end bool, err error) {
	next, ok := s.snaps.nextLive(from.Generation)
	if !ok {
		next = math.MaxUint64
	}
	changes, err := s.index.Changes.Scan(*from, reclaimStep, nil)
	if err != nil {
		return false, err
	}
	for _, c := range changes {
		if c.Branch != 0 || c.Generation >= next {
			return true, nil
		}
		if err := s.reclaimOne(c); err != nil {
			return false, err
		}
		*from = c
		from.Chunk++
	}
	return len(changes) < reclaimStep, nil
}

// reclaimOne removes the exception of a change if no live snapshot needs it.
func (s *Store) reclaimOne(c layout.Change) error {
	before, err := s.index.Before(c.Branch, c.Chunk, c.Generation)
	if err != nil || s.snaps.needs(before, c.Generation) {
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
		s.slots.Free(layout.SlotRun{First: e.Slot, Len: 1})
	}
	_, err = s.index.Changes.Delete(c)
	return err
}
