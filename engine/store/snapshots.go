// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"zumastor.org/zumastor/engine/alloc"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/journal"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/wire"
)

// NewSnapshot says what snapshot to make.
type NewSnapshot struct {
	Tag       block.Tag
	Name      string            // at most layout.MaxName bytes of UTF-8; none if empty
	Parent    *wire.SnapshotRef // the snapshot that it is one of; nil: the origin
	Priority  int8
	Held      bool
	Group     layout.UUID
	GroupSize uint16
	Prepared  bool // its group has yet to be made
	// Source is the snapshot, of another store, that it is a copy of. One such may be
	// made while a delta is being applied: it says that this is done.
	Source layout.Source
}

// CreateSnapshot makes a snapshot of the origin with nothing but a tag; see
// [Store.Create].
func (s *Store) CreateSnapshot(tag block.Tag) (layout.Snapshot, error) {
	return s.Create(NewSnapshot{Tag: tag})
}

// Create makes a snapshot of the origin, or of a snapshot, as it is: writes that
// have returned belong to it, those that begin after it has returned do not. It is
// durable when Create returns. The cost is one record, however many snapshots there
// are. The error wraps [ErrExists] if tag or name is taken, [ErrNoSnapshot] if
// there is no such parent, [ErrRestoring] if the origin is being restored, and
// [ErrApplying] if it is being made a newer state by a delta.
func (s *Store) Create(n NewSnapshot) (layout.Snapshot, error) {
	return s.createThen(n, func() error { return nil })
}

// createThen is Create, and calls then when the snapshot of an origin is durable,
// before the first write goes on.
func (s *Store) createThen(n NewSnapshot, then func() error) (snap layout.Snapshot, err error) {
	if len(n.Name) > layout.MaxName || !utf8.ValidString(n.Name) {
		return snap, fmt.Errorf("%w: %q has more than %d bytes, or is no UTF-8", ErrName, n.Name, layout.MaxName)
	}
	s.making.RLock()
	defer s.making.RUnlock()
	s.admin.Lock()
	defer s.admin.Unlock()
	if err := s.begin(); err != nil {
		return snap, err
	}
	if err := s.checkRoom(); err != nil {
		return snap, err
	}
	defer func() {
		if err == nil {
			s.emit(about(EventCreated, snap, ""))
		}
	}()
	if n.Parent != nil {
		return s.createOfSnapshot(n)
	}
	s.mu.Lock()
	err = s.notRestoring()
	s.mu.Unlock()
	if err != nil {
		return snap, err
	}
	change := func() (wire.State, error) {
		if snap, err = s.createWith(n, nil); err == nil {
			err = then()
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

// createOfSnapshot makes a snapshot of a snapshot. What was written to that is
// durable before.
func (s *Store) createOfSnapshot(n NewSnapshot) (snap layout.Snapshot, err error) {
	parent, writer, err := s.parent(*n.Parent)
	if err != nil {
		return snap, err
	}
	change := func() (wire.SnapshotState, error) {
		if err = s.syncBranch(parent); err == nil {
			snap, err = s.createWith(n, parent)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.snapshotState(parent, true), err
	}
	if writer != nil {
		err = writer.client.Quiesce(change)
	} else {
		_, err = change()
	}
	return snap, err
}

// parent returns the snapshot of which one is to be made, and who writes to it.
func (s *Store) parent(ref wire.SnapshotRef) (*snapshot, *opened, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.present(ref)
	if err == nil {
		err = s.notMerging(p)
	}
	if err != nil {
		return nil, nil, err
	}
	return p, p.writer(), nil
}

// createWith is create, after a checkpoint if there is no room for the record.
func (s *Store) createWith(n NewSnapshot, parent *snapshot) (layout.Snapshot, error) {
	snap, err := s.create(n, parent)
	if isLogFull(err) {
		if err = s.Checkpoint(); err == nil {
			snap, err = s.create(n, parent)
		}
	}
	return snap, err
}

// begin makes sure that the store's superblock says that there may be something
// to replay, and that there is room for the next checkpoint.
func (s *Store) begin() error {
	if err := s.mutable(); err != nil {
		return err
	}
	if why := s.distress.Load(); why != nil {
		return fmt.Errorf("%w: %w", ErrTrouble, *why)
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
	return s.metadataRoom()
}

// metadataRoom is checkRoom with the lock held.
func (s *Store) metadataRoom() error {
	if used, all := s.pagesKept(), s.pages.Total(); 2*used > all {
		return fmt.Errorf("snapshots and exceptions use %d of %d metadata pages: %w", used, all, alloc.ErrNoSpace)
	}
	return nil
}

func (s *Store) attached() wire.Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.client
}

func (s *Store) create(n NewSnapshot, parent *snapshot) (snap layout.Snapshot, err error) {
	err = s.resolve(func() error {
		if s.snaps.byTag[n.Tag] != nil {
			return fmt.Errorf("snapshot %d: %w", n.Tag, ErrExists)
		}
		if s.snaps.byName[n.Name] != nil {
			return fmt.Errorf("snapshot %q: %w", n.Name, ErrExists)
		}
		snap = layout.Snapshot{
			Generation: s.sb.Generation + 1, Tag: n.Tag, Name: n.Name, State: layout.SnapshotLive, Held: n.Held, Priority: n.Priority,
			Group: n.Group, GroupSize: n.GroupSize, Created: s.opts.Now(), Size: s.sb.OriginSize,
		}
		if n.Prepared {
			snap.State = layout.SnapshotPrepared
		}
		snap.Source = n.Source
		if parent == nil {
			if err := s.notApplying(n); err != nil {
				return err
			}
			return s.record(snap)
		}
		snap.Parent, snap.Size, snap.Lossy = parent.branch(), parent.Size, parent.Lossy
		if err := s.record(snap); err != nil {
			return err
		}
		parent.current = snap.Generation
		return nil
	})
	return snap, err
}

// record makes a snapshot's changed entry durable and takes it over. The lock is
// held. Only the insert can miss a page: once the record is written, nothing is
// made again.
func (s *Store) record(snap layout.Snapshot) error {
	if had := s.snaps.get(snap.Generation); had != nil && had.Lossy {
		snap.Lossy = true // since the entry was changed
	}
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
	if snap.Parent == 0 && snap.Generation > s.sb.Generation {
		s.generation = snap.Generation
	}
	s.sb.Generation = max(s.sb.Generation, snap.Generation)
	s.snaps.put(snap)
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
	if snap.Parent == 0 && snap.Generation > s.sb.Generation {
		s.sb.Generation, s.generation = snap.Generation, snap.Generation
		s.snaps.doubtful = snap.Generation
	}
}

// DeleteSnapshot deletes a snapshot that has none of its own; see [Store.Delete].
func (s *Store) DeleteSnapshot(tag block.Tag) error {
	return s.Delete(wire.SnapshotRef{Tag: tag}, false)
}

// Delete deletes a snapshot: it is gone, durably, when Delete returns; what only it
// needed is freed in the background. One that has snapshots of its own is deleted
// only if recursive, together with them, from the newest on; if it is interrupted,
// some are left. The error wraps [ErrNoSnapshot], [ErrInUse], [ErrHeld] or
// [ErrHasSnapshots], and then nothing was deleted.
func (s *Store) Delete(ref wire.SnapshotRef, recursive bool) error {
	s.admin.Lock()
	defer s.admin.Unlock()
	if err := s.begin(); err != nil {
		return err
	}
	doomed, err := s.doomed(ref, recursive)
	if err != nil {
		return err
	}
	for _, snap := range doomed {
		snap.State = layout.SnapshotDeleting
		if err := s.recordWith(snap); err != nil {
			return err
		}
		s.emit(about(EventDeleted, snap, ""))
	}
	s.wake()
	s.spaceChanged()
	s.tellOrigin()
	return nil
}

// doomed returns the entries of a snapshot and all under it, the newest first.
func (s *Store) doomed(ref wire.SnapshotRef, recursive bool) (list []layout.Snapshot, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	top, err := s.listed(ref)
	if err != nil {
		return nil, err
	}
	under := map[block.Branch]bool{top.branch(): true}
	for i, _ := s.snaps.find(top.Generation); i < len(s.snaps.all); i++ {
		snap := s.snaps.all[i]
		if !snap.listed() || snap != top && !under[snap.Parent] {
			continue
		}
		if snap != top && !recursive {
			return nil, fmt.Errorf("snapshot %d: %w: snapshot %d", top.Tag, ErrHasSnapshots, snap.Tag)
		}
		if err := s.deletable(snap); err != nil {
			return nil, err
		}
		under[snap.branch()] = true
		list = append([]layout.Snapshot{snap.Snapshot}, list...)
	}
	return list, nil
}

// deletable returns the reason why a snapshot must not be deleted, or nil.
func (s *Store) deletable(snap *snapshot) error {
	switch {
	case snap.Held:
		return fmt.Errorf("snapshot %d: %w", snap.Tag, ErrHeld)
	case len(snap.opened) > 0:
		return fmt.Errorf("snapshot %d: %w by %d readers", snap.Tag, ErrInUse, len(snap.opened))
	case snap.UseCount > 0:
		return fmt.Errorf("snapshot %d: %w: its use count is %d", snap.Tag, ErrInUse, snap.UseCount)
	case s.sb.Restore.Generation == snap.Generation:
		return fmt.Errorf("snapshot %d: %w: the origin is being restored from it", snap.Tag, ErrInUse)
	case snap.Applying != layout.UUID{}:
		return fmt.Errorf("snapshot %d: %w: a delta that begins at it is being applied", snap.Tag, ErrInUse)
	}
	return nil
}

// notApplying returns an error that wraps [ErrApplying] unless a snapshot of the origin
// may be made: while a delta is being applied to it, it holds what nobody ever wrote.
// The lock is held.
func (s *Store) notApplying(n NewSnapshot) error {
	newest := s.snaps.get(s.snaps.newestOf(0))
	if newest == nil || newest.Applying == (layout.UUID{}) || n.Source != (layout.Source{}) {
		return nil
	}
	return fmt.Errorf("%w to snapshot %d", ErrApplying, newest.Tag)
}

// forgetApplied takes back, durably, how far a delta has been applied to the origin: what
// that holds is about to change otherwise. The lock admin is held.
func (s *Store) forgetApplied() error {
	s.mu.Lock()
	newest := s.snaps.get(s.snaps.newestOf(0))
	if newest == nil || newest.Applied == 0 {
		s.mu.Unlock()
		return nil
	}
	snap := newest.Snapshot
	s.mu.Unlock()
	snap.Applied = 0
	return s.recordWith(snap)
}

// Change changes what is changeable of a snapshot: its priority, use count, hold,
// name, state and group. It is durable when Change returns. The error of change is
// returned as it is, and then nothing has changed.
func (s *Store) Change(ref wire.SnapshotRef, change func(*layout.Snapshot) error) error {
	s.admin.Lock()
	defer s.admin.Unlock()
	if err := s.begin(); err != nil {
		return err
	}
	snap, err := s.changedEntry(ref, change)
	if err != nil {
		return err
	}
	return s.recordWith(snap)
}

// changedEntry returns the changed entry of a snapshot.
func (s *Store) changedEntry(ref wire.SnapshotRef, change func(*layout.Snapshot) error) (layout.Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, err := s.listed(ref)
	if err == nil {
		err = s.notMerging(old)
	}
	if err != nil {
		return layout.Snapshot{}, err
	}
	snap := old.Snapshot
	if err := change(&snap); err != nil {
		return snap, err
	}
	if snap.Applied != 0 && snap.Applied != old.Applied {
		if err := s.notRestoring(); err != nil {
			return snap, err
		}
	}
	if len(snap.Name) > len(old.Name) { // like a new snapshot, it takes room
		if err := s.metadataRoom(); err != nil {
			return snap, err
		}
	}
	switch other := s.snaps.byName[snap.Name]; {
	case other != nil && other != old:
		return snap, fmt.Errorf("snapshot %q: %w", snap.Name, ErrExists)
	case len(snap.Name) > layout.MaxName || !utf8.ValidString(snap.Name):
		return snap, fmt.Errorf("%w: %q has more than %d bytes, or is no UTF-8", ErrName, snap.Name, layout.MaxName)
	}
	return snap, nil
}

// recordWith is record, after a checkpoint if there is no room for it.
func (s *Store) recordWith(snap layout.Snapshot) error {
	err := s.resolve(func() error { return s.record(snap) })
	if isLogFull(err) {
		if err = s.Checkpoint(); err == nil {
			err = s.resolve(func() error { return s.record(snap) })
		}
	}
	return err
}

// tellOrigin lets the origin's client know the present state.
func (s *Store) tellOrigin() {
	client := s.attached()
	if client == nil {
		return
	}
	s.mu.Lock()
	state := s.state()
	s.mu.Unlock()
	client.Update(state)
}

// listed returns a snapshot that a user names. The lock is held.
func (s *Store) listed(ref wire.SnapshotRef) (*snapshot, error) {
	snap := s.snaps.named(ref)
	switch {
	case snap == nil && ref.Name != "":
		return nil, fmt.Errorf("snapshot %q: %w", ref.Name, ErrNoSnapshot)
	case snap == nil:
		return nil, fmt.Errorf("snapshot %d: %w", ref.Tag, ErrNoSnapshot)
	}
	return snap, nil
}

// present returns a snapshot that a user names and that can be read. The lock is
// held.
func (s *Store) present(ref wire.SnapshotRef) (*snapshot, error) {
	snap, err := s.listed(ref)
	switch {
	case err != nil:
		return nil, err
	case snap.State == layout.SnapshotSquashed:
		return nil, fmt.Errorf("snapshot %d: %w", snap.Tag, ErrSquashed)
	case snap.State != layout.SnapshotLive:
		return nil, fmt.Errorf("snapshot %d: %w: its group is not complete yet", snap.Tag, ErrNoSnapshot)
	}
	return snap, nil
}

func isFull(err error) bool    { return errors.Is(err, alloc.ErrNoSpace) }
func isLogFull(err error) bool { return errors.Is(err, journal.ErrFull) }
