// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"slices"

	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/wire"
)

// opened is a snapshot that a client has open.
type opened struct {
	handle wire.Handle
	snap   *snapshot
	client wire.SnapshotClient
	write  bool
	leases []layout.SlotRun // to write to, ascending
	fenced bool             // it knows that the snapshot was squashed
}

// OpenSnapshot opens a snapshot for c and keeps it from being deleted. The error
// wraps [ErrNoSnapshot], [ErrSquashed], or [ErrInUse] if another client writes to it
// already or, where it is to be written to, the origin is being restored from it.
func (s *Store) OpenSnapshot(ref wire.SnapshotRef, write bool, c wire.SnapshotClient) (*wire.SnapshotSession, error) {
	s.admin.Lock()
	defer s.admin.Unlock()
	if write {
		if err := s.mutable(); err != nil && !s.Awaiting() { // a client that was there before may have it again
			return nil, err
		}
	}
	s.mu.Lock()
	snap, err := s.present(ref)
	if err == nil {
		err = s.notMerging(snap)
	}
	if err == nil && write {
		err = s.mayWrite(snap)
	}
	readers := 0
	if err == nil {
		readers = len(snap.opened)
	}
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if write && readers > 0 { // they must no longer remember where chunks are
		if err := s.quiesceReaders(snap, true); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastHandle++
	o := &opened{handle: s.lastHandle, snap: snap, client: c, write: write}
	snap.opened = append(snap.opened, o)
	s.handles[o.handle] = o
	if snap.current == 0 {
		snap.current = s.sb.Generation
	}
	return &wire.SnapshotSession{Handle: o.handle, Snapshot: snap.Snapshot, State: s.snapshotState(snap, write)}, nil
}

// mayWrite returns the reason why a snapshot cannot be opened for writing, or nil.
// The lock is held.
func (s *Store) mayWrite(snap *snapshot) error {
	switch {
	case snap.writer() != nil:
		return fmt.Errorf("snapshot %d: %w: another client writes to it", snap.Tag, ErrInUse)
	case s.sb.Restore.Generation == snap.Generation:
		return fmt.Errorf("snapshot %d: %w: the origin is being restored from it", snap.Tag, ErrInUse)
	}
	return nil
}

// quiesceReaders has those who read a snapshot forget where its chunks are.
func (s *Store) quiesceReaders(snap *snapshot, written bool) error {
	s.mu.Lock()
	list := slices.Clone(snap.opened)
	s.mu.Unlock()
	for _, o := range list {
		if o.write {
			continue
		}
		err := o.client.Quiesce(func() (wire.SnapshotState, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			state := s.snapshotState(snap, false)
			state.Remember = state.Remember && !written
			return state, nil
		})
		if err != nil {
			return fmt.Errorf("snapshot %d: telling a reader: %w", snap.Tag, err)
		}
	}
	return nil
}

// snapshotState is what a client knows of a snapshot. The lock is held.
func (s *Store) snapshotState(snap *snapshot, write bool) wire.SnapshotState {
	readable := snap.readable()
	return wire.SnapshotState{
		Generation: snap.current, Size: snap.Size, Squashed: !readable,
		Writable: write && readable && (s.mutable() == nil || s.Awaiting()) && s.sb.Restore.Generation != snap.Generation,
		Remember: readable && (write || snap.writer() == nil),
	}
}

// CloseSnapshot ends what OpenSnapshot began. What was written and not synced may
// be lost in a crash.
func (s *Store) CloseSnapshot(h wire.Handle) error {
	s.admin.Lock()
	defer s.admin.Unlock()
	s.mu.Lock()
	o, err := s.handle(h)
	if err != nil {
		s.mu.Unlock()
		return err
	}
	delete(s.handles, h)
	s.snaps.change(o.snap, func() {
		o.snap.opened = slices.DeleteFunc(o.snap.opened, func(other *opened) bool { return other == o })
	})
	s.returnLeases(o)
	s.wake()
	s.mu.Unlock()
	s.spaceChanged()
	if o.write {
		return s.quiesceReaders(o.snap, false)
	}
	return nil
}

// returnLeases takes the leases of a snapshot's client back. The lock is held.
func (s *Store) returnLeases(o *opened) {
	for _, r := range o.leases {
		s.slots.Return(r)
		s.changed = true
	}
	o.leases = nil
}

// handle returns an open snapshot. The lock is held.
func (s *Store) handle(h wire.Handle) (*opened, error) {
	if o := s.handles[h]; o != nil {
		return o, nil
	}
	return nil, fmt.Errorf("%w: no snapshot is open as %d", ErrStale, h)
}

// writable returns a snapshot that is open for writing and may be written to now.
// The lock is held.
func (s *Store) writable(h wire.Handle) (*opened, error) {
	o, err := s.handle(h)
	switch {
	case err != nil:
		return nil, err
	case !o.write:
		return nil, fmt.Errorf("snapshot %d: %w: it was opened for reading", o.snap.Tag, ErrReadOnly)
	case !o.snap.readable():
		return nil, fmt.Errorf("snapshot %d: %w", o.snap.Tag, ErrSquashed)
	case s.sb.Restore.Generation == o.snap.Generation:
		return nil, fmt.Errorf("snapshot %d: %w: the origin is being restored from it", o.snap.Tag, ErrInUse)
	}
	return o, nil
}
