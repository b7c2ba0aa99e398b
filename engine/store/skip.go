// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/wire"
)

// SkipLost has the restore under way go on without what cannot be read of the
// snapshot: such chunks of the origin stay as they are, each is told of by an
// [EventSkipped], and a merge then keeps its snapshot. That is durable when SkipLost
// returns. Unless this was asked for, a restore waits at such a chunk until it can be
// read. The error wraps [ErrNotRestoring] if no restore is under way.
func (s *Store) SkipLost() error {
	s.admin.Lock()
	defer s.admin.Unlock()
	if _, err := s.underWay(); err != nil {
		return err
	}
	return s.checkpointWith(&setting{set: func(sb *layout.Superblock) {
		sb.Restore.SkipLost = sb.Restore.Generation != 0
	}})
}

// AbandonRestore ends the restore under way where it is, durably. The origin is then neither
// what it was nor what the snapshot is: the chunks before Next of the status that it
// returns are the snapshot's, and some after it may be, while the others hold what the
// origin held before. All snapshots stay, that of a merge too. The error wraps
// [ErrNotRestoring] if no restore is under way.
func (s *Store) AbandonRestore() (RestoreStatus, error) {
	s.admin.Lock()
	defer s.admin.Unlock()
	was, err := s.underWay()
	if err != nil {
		return was, err
	}
	err = s.quiesceOrigin(func() error {
		err := s.checkpointWith(&setting{set: func(sb *layout.Superblock) { was.Next, sb.Restore = sb.Restore.Next, layout.Restore{} }})
		if err == nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.restoring, s.trouble, s.skipped = 0, "", 0
		}
		return err
	})
	s.wake()
	if err == nil {
		s.emit(about(EventAbandoned, was.Snapshot, fmt.Sprintf("the origin is partly restored: %d of %d chunks for sure", was.Next, was.Chunks)))
	}
	return was, err
}

// underWay returns the restore that is under way, and that may be changed. Admin is
// held.
func (s *Store) underWay() (RestoreStatus, error) {
	if err := s.mutable(); err != nil {
		return RestoreStatus{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.restoreStatus()
	if r == nil || s.restoring == 0 {
		return RestoreStatus{}, ErrNotRestoring
	}
	return *r, nil
}

// skip takes in that the next chunk of a restore cannot be read, and goes past it if
// the user allows that. The snapshot of a merge is then kept: it may be the only one
// that has what another try could read.
func (s *Store) skip(p wire.RestoreProgress) (next block.Chunk, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	snap, next, err := s.restoringFrom(p.Generation)
	if err != nil {
		return next, err
	}
	if err := s.mutable(); err != nil {
		return next, err
	}
	if !s.sb.Restore.SkipLost || p.Next != next || uint64(next) >= s.geometry().Chunks() {
		return next, nil
	}
	s.sb.Restore.Next, s.sb.Restore.Merge = next+1, false
	s.trouble, s.changed = "", true
	s.skipped++
	s.emit(about(EventSkipped, snap.Snapshot, fmt.Sprintf("chunk %d, which stays as it was in the origin: %s", next, p.Trouble)))
	return next + 1, nil
}

// skippedText says what was not restored. The lock is held.
func (s *Store) skippedText() string {
	if s.skipped == 0 {
		return ""
	}
	return fmt.Sprintf("but for %d chunks that cannot be read", s.skipped)
}

// MaxLost bounds how many chunks [Store.LostChunks] lists.
const MaxLost = 4096

// LostChunks returns how many of a snapshot's chunks are known to be lost, and the
// first MaxLost of them. It reads the index of all its chunks. What the store device
// does not give back is not among them.
func (s *Store) LostChunks(ref wire.SnapshotRef) (list []block.Chunk, count uint64, err error) {
	session, err := s.OpenSnapshot(ref, false, mapper{})
	if err != nil {
		return nil, 0, err
	}
	err = s.eachLost(session, func(c block.Chunk) error {
		if count++; len(list) < MaxLost {
			list = append(list, c)
		}
		return nil
	})
	return list, count, errors.Join(err, s.CloseSnapshot(session.Handle))
}
