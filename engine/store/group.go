// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"

	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/wire"
)

// ErrNoGroup is wrapped when no snapshot belongs to the group.
var ErrNoGroup = errors.New("no such group")

// Prepare makes a snapshot of the origin that belongs to a group, and calls hold
// when it is durable, before the first write goes on: so the snapshots of several
// stores are of one instant if all their holds overlap. The snapshot is preserved
// like any other from then on, and listed as prepared; it is read only after
// [Store.CommitGroup]. An error of hold deletes it again.
func (s *Store) Prepare(n NewSnapshot, hold func() error) (snap layout.Snapshot, err error) {
	if n.Group == (layout.UUID{}) || n.GroupSize == 0 || n.Parent != nil {
		return snap, fmt.Errorf("%w: a prepared snapshot is one of the origin, and of a group", ErrNoGroup)
	}
	n.Prepared = true
	snap, err = s.createThen(n, hold)
	if err != nil && snap.Generation != 0 {
		err = errors.Join(err, s.AbortGroup(n.Group))
	}
	return snap, err
}

// CommitGroup makes the store's snapshot of a prepared group one that can be read.
// It does nothing if it is that already. The error wraps [ErrNoGroup].
func (s *Store) CommitGroup(group layout.UUID) error {
	ref, state, err := s.ofGroup(group)
	if err != nil || state != layout.SnapshotPrepared {
		return err
	}
	return s.Change(ref, func(snap *layout.Snapshot) error {
		snap.State = layout.SnapshotLive
		return nil
	})
}

// AbortGroup deletes the store's snapshot of a group that is still prepared. The
// error wraps [ErrNoGroup] if there is none, or if it can be read already: then it is
// to be deleted like any other.
func (s *Store) AbortGroup(group layout.UUID) error {
	ref, state, err := s.ofGroup(group)
	switch {
	case err != nil:
		return err
	case state != layout.SnapshotPrepared:
		return fmt.Errorf("%w that is not complete: snapshot %d of group %v is %v", ErrNoGroup, ref.Tag, group, state)
	}
	var gone layout.Snapshot
	err = s.Change(ref, func(snap *layout.Snapshot) error {
		snap.State = layout.SnapshotDeleting
		gone = *snap
		return nil
	})
	if err == nil {
		s.emit(about(EventDeleted, gone, "its group was given up"))
		s.wake()
		s.spaceChanged()
		s.tellOrigin()
	}
	return err
}

// ofGroup returns the listed snapshot of a group.
func (s *Store) ofGroup(group layout.UUID) (ref wire.SnapshotRef, state layout.SnapshotState, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, snap := range s.snaps.all {
		if snap.listed() && snap.GroupSize > 0 && snap.Group == group {
			return wire.SnapshotRef{Tag: snap.Tag}, snap.State, nil
		}
	}
	return ref, 0, fmt.Errorf("%w: %v", ErrNoGroup, group)
}
