// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/wire"
)

// Errors of restores that callers decide on.
var (
	// ErrRestoring is wrapped when something cannot be done while the origin is
	// being restored.
	ErrRestoring = errors.New("the origin is being restored")
	// ErrSize is wrapped when a snapshot and the origin differ in size.
	ErrSize = errors.New("snapshot and origin differ in size")
	// ErrDamaged is wrapped when a snapshot has lost content.
	ErrDamaged = errors.New("snapshot has lost content")
	// ErrNotRestoring is wrapped when there is no restore under way.
	ErrNotRestoring = errors.New("the origin is not being restored")
)

// RestoreStatus describes a revert or merge that is under way.
type RestoreStatus struct {
	Snapshot layout.Snapshot // whose content the origin takes
	Merge    bool            // it is deleted in the end
	Next     block.Chunk     // all chunks before it are restored
	Chunks   uint64          // in all
	Trouble  string          // why it does not go on; empty: it does, or nobody has the origin attached
	SkipLost bool            // what cannot be read of the snapshot stays as it was in the origin
	Skipped  uint64          // chunks of which that is so, as far as this opening of the store knows
}

// Revert gives the origin the content of a snapshot. That is so, durably, when
// Revert returns: the origin reads as the snapshot, and what would change it waits
// until its client has copied in the background what differs (see [Status]). A
// crash does not end that, nor does detaching the client. All snapshots stay as
// they are; those who read them go on. Until the end the snapshot cannot be
// deleted or written to, and no snapshot of the origin is made. The error wraps
// [ErrNoSnapshot], [ErrSquashed], [ErrSize], [ErrDamaged], [ErrInUse] if the snapshot
// is open for writing, or [ErrRestoring] if a restore is under way; then nothing has
// changed.
func (s *Store) Revert(ref wire.SnapshotRef) error {
	return s.Restore(ref, RestoreOptions{})
}

// Merge is [Store.Revert], and deletes the snapshot in the end. Nobody may use it,
// from now on, nor may it be held or have snapshots of its own: else the error wraps
// [ErrInUse], [ErrHeld] or [ErrHasSnapshots].
func (s *Store) Merge(ref wire.SnapshotRef) error {
	return s.Restore(ref, RestoreOptions{Merge: true})
}

// RestoreOptions say how the origin is to be restored.
type RestoreOptions struct {
	Merge bool // delete the snapshot in the end: see [Store.Merge]
	// SkipLost leaves what cannot be read of the snapshot as it is in the origin; see
	// [Store.SkipLost].
	SkipLost bool
}

// Restore is [Store.Revert] or [Store.Merge].
func (s *Store) Restore(ref wire.SnapshotRef, o RestoreOptions) error {
	if err := s.checkWhole(ref, o.SkipLost); err != nil {
		return err
	}
	s.admin.Lock()
	defer s.admin.Unlock()
	if err := s.begin(); err != nil {
		return err
	}
	snap, err := s.claimRestore(ref, o.Merge)
	if err != nil {
		return err
	}
	defer s.knowRestore()
	// What was overwritten in place must not be lost halfway.
	if err := s.devs.Store.Flush(); err != nil {
		return fmt.Errorf("flushing what was written to snapshot %d: %w", snap.Tag, err)
	}
	if err := s.forgetApplied(); err != nil {
		return err
	}
	return s.quiesceOrigin(func() error {
		return s.startRestore(layout.Restore{Generation: snap.Generation, Merge: o.Merge, SkipLost: o.SkipLost})
	})
}

// checkWhole returns an error if the snapshot cannot be read, or not all of it; chunks
// that are known to be lost may be, with skipLost.
func (s *Store) checkWhole(ref wire.SnapshotRef, skipLost bool) error {
	session, err := s.OpenSnapshot(ref, false, mapper{})
	if err != nil {
		return err
	}
	snap := session.Snapshot
	if !skipLost {
		err = s.eachLost(session, func(c block.Chunk) error { return fmt.Errorf("%w: chunk %d", ErrDamaged, c) })
	}
	if err == nil && snap.Damaged {
		err = ErrDamaged
	}
	if err != nil {
		err = fmt.Errorf("snapshot %d: %w", snap.Tag, err)
	}
	return errors.Join(err, s.CloseSnapshot(session.Handle))
}

// mapWindow is how many chunks are mapped under one holding of the lock.
const mapWindow = 1 << 10

// eachLost calls fn for each chunk of an open snapshot that is lost, until it returns
// an error.
func (s *Store) eachLost(session *wire.SnapshotSession, fn func(block.Chunk) error) (err error) {
	chunks := block.Chunk((session.Snapshot.Size + int64(s.geo.ChunkSize()) - 1) >> s.geo.ChunkShift())
	var list []wire.Mapping
	for first := block.Chunk(0); first < chunks; first += mapWindow {
		if list, err = s.Map(session.Handle, first, min(first+mapWindow, chunks), list[:0]); err != nil {
			return err
		}
		for _, m := range list {
			if m.Kind != wire.Lost {
				continue
			}
			for i := range m.Len {
				if err := fn(m.Chunk + block.Chunk(i)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// mapper is a snapshot's client that remembers nothing.
type mapper struct{}

// Quiesce runs change.
func (mapper) Quiesce(change func() (wire.SnapshotState, error)) error {
	_, err := change()
	return err
}

// restores reports whether an origin client, or that there is none, lets the origin be
// restored.
func restores(c wire.Client) bool {
	r, ok := c.(wire.Restorer)
	return !ok || r.Restores()
}

// claimRestore returns the snapshot if the origin may be restored from it, and keeps
// other restores and resizes from beginning.
func (s *Store) claimRestore(ref wire.SnapshotRef, merge bool) (*snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.notRestoring(); err != nil {
		return nil, err
	}
	if !restores(s.client) {
		return nil, fmt.Errorf("%w, which cannot restore the origin: detach it first", ErrAttached)
	}
	snap, err := s.present(ref)
	if err == nil {
		err = s.restorable(snap, merge)
	}
	if err == nil {
		s.restoring, s.trouble, s.skipped = snap.Generation, "", 0
	}
	return snap, err
}

// knowRestore takes over from the superblock whether a restore is under way.
func (s *Store) knowRestore() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.restoring = s.sb.Restore.Generation
}

// restorable returns the reason why the origin cannot be restored from a snapshot
// now, or nil. The lock is held.
func (s *Store) restorable(snap *snapshot, merge bool) error {
	switch {
	case s.resizing:
		return fmt.Errorf("snapshot %d: %w: a resize is under way", snap.Tag, ErrInUse)
	case snap.Size != s.sb.OriginSize:
		return fmt.Errorf("snapshot %d: %w: it has %d bytes, the origin %d; resize the origin first", snap.Tag, ErrSize, snap.Size, s.sb.OriginSize)
	case snap.writer() != nil:
		return fmt.Errorf("snapshot %d: %w: it is open for writing", snap.Tag, ErrInUse)
	case merge && s.hasSnapshots(snap):
		return fmt.Errorf("snapshot %d: %w", snap.Tag, ErrHasSnapshots)
	case merge:
		return s.deletable(snap)
	}
	return nil
}

// hasSnapshots reports whether a snapshot has listed ones of its own. The lock is
// held.
func (s *Store) hasSnapshots(parent *snapshot) bool {
	for _, snap := range s.snaps.all {
		if snap.listed() && snap.Parent == parent.branch() {
			return true
		}
	}
	return false
}

// notRestoring returns an error that wraps [ErrRestoring] if a restore is under way.
// The lock is held.
func (s *Store) notRestoring() error {
	if s.restoring == 0 {
		return nil
	}
	return fmt.Errorf("%w from the snapshot of generation %d, of which %d of %d chunks are done", ErrRestoring,
		s.restoring, s.sb.Restore.Next, s.geometry().Chunks())
}

// notMerging returns an error that wraps [ErrInUse] if the snapshot is being merged
// into the origin. The lock is held.
func (s *Store) notMerging(snap *snapshot) error {
	if r := s.sb.Restore; r.Merge && r.Generation == snap.Generation {
		return fmt.Errorf("snapshot %d: %w: it is being merged into the origin, and deleted then", snap.Tag, ErrInUse)
	}
	return nil
}

// startRestore makes the origin read as the snapshot. If nobody knows whether that
// is durable, the origin is not written to: what a write changed might be restored
// away by the next opening.
func (s *Store) startRestore(r layout.Restore) error {
	err := s.checkpointWith(&setting{set: func(sb *layout.Superblock) { sb.Restore = r }})
	s.knowRestore()
	return err
}

// MapRestoring appends where the chunks [first, end) of the origin are while it is
// being restored; see [wire.Server].
func (s *Store) MapRestoring(g block.Generation, first, end block.Chunk, dst []wire.Mapping) ([]wire.Mapping, error) {
	err := s.resolve(func() error {
		snap, next, err := s.restoringFrom(g)
		if err != nil {
			return err
		}
		if first < min(next, end) {
			n := min(next, end) - first
			dst = appendMapping(dst, wire.Mapping{Chunk: first, Len: uint64(n), Kind: wire.Shared})
			first += n
		}
		for first < end {
			m, err := s.mapOne(snap, first, end)
			if err != nil {
				return err
			}
			m.Owned = false
			dst = appendMapping(dst, m)
			first += block.Chunk(m.Len)
		}
		return nil
	})
	return dst, err
}

// restoringFrom returns the snapshot of the restore under way, and the chunk before
// which the origin holds already what it is to hold. The lock is held.
func (s *Store) restoringFrom(g block.Generation) (*snapshot, block.Chunk, error) {
	r := s.sb.Restore
	switch {
	case g == 0 || g != s.restoring:
		return nil, 0, fmt.Errorf("%w: no restore from the snapshot of generation %d is under way", ErrStale, g)
	case r.Generation == 0: // it has ended, though nobody may know yet
		return nil, block.Chunk(s.geometry().Chunks()), nil
	}
	snap := s.snaps.get(g)
	if snap == nil || !snap.readable() {
		return nil, 0, fmt.Errorf("%w: the origin is being restored from generation %d, which is no snapshot that can be read", layout.ErrCorrupt, g)
	}
	return snap, r.Next, nil
}

// Restored takes in the progress of a restore; see [wire.Server].
func (s *Store) Restored(p wire.RestoreProgress) (next block.Chunk, err error) {
	switch {
	case p.Done:
		return p.Next, s.endRestore(p)
	case p.Lost:
		return s.skip(p)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, next, err = s.restoringFrom(p.Generation); err != nil {
		return next, err
	}
	news := p.Trouble != s.trouble
	if p.Trouble != "" || p.Next > next {
		s.trouble = p.Trouble
	}
	if news && p.Trouble != "" && s.opts.Logger != nil {
		s.opts.Logger.Warn("restoring the origin does not go on", "store", s.sb.UUID, "done", next, "of", s.geometry().Chunks(), "reason", p.Trouble)
	}
	if p.Next > next && uint64(p.Next) <= s.geometry().Chunks() {
		next = p.Next
		s.sb.Restore.Next = next
		s.changed = true
	}
	return next, s.mutable()
}

// endRestore ends a restore of which all is durable in the origin. The snapshot of a
// merge is deleted by the same checkpoint, so that no crash leaves one without the
// other. The client's writes go on only when that is durable.
func (s *Store) endRestore(p wire.RestoreProgress) error {
	s.admin.Lock()
	defer s.admin.Unlock()
	if err := s.mutable(); err != nil {
		return err
	}
	s.mu.Lock()
	_, _, err := s.restoringFrom(p.Generation)
	done := Event{Kind: EventReverted}
	if s.sb.Restore.Merge {
		done.Kind = EventMerged
	}
	if snap := s.snaps.get(p.Generation); snap != nil {
		done = about(done.Kind, snap.Snapshot, s.skippedText())
	}
	if err == nil && s.sb.Restore.Generation != 0 {
		s.sb.Restore.Next, s.changed = block.Chunk(s.geometry().Chunks()), true
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	err = s.quiesceOrigin(func() error {
		if err := s.checkpointWith(s.withoutRestore()); err != nil {
			return fmt.Errorf("ending the restore: %w", err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.restoring, s.trouble = 0, ""
		return nil
	})
	s.wake()
	if err == nil {
		s.emit(done)
	}
	return err
}

// withoutRestore returns the change that ends the restore under way.
func (s *Store) withoutRestore() *setting {
	s.mu.Lock()
	defer s.mu.Unlock()
	snap := s.snaps.get(s.sb.Restore.Generation)
	if snap == nil || !s.sb.Restore.Merge {
		return &setting{set: func(sb *layout.Superblock) { sb.Restore = layout.Restore{} }}
	}
	dead := snap.Snapshot
	dead.State = layout.SnapshotDeleting
	return &setting{snapshot: &dead, set: func(sb *layout.Superblock) {
		sb.Restore = layout.Restore{}
		s.snaps.put(dead)
	}}
}

// restoreStatus describes the restore under way, or returns nil. The lock is held.
func (s *Store) restoreStatus() *RestoreStatus {
	r := s.sb.Restore
	snap := s.snaps.get(r.Generation)
	if snap == nil {
		return nil
	}
	return &RestoreStatus{Snapshot: snap.Snapshot, Merge: r.Merge, Next: r.Next, Chunks: s.geometry().Chunks(), Trouble: s.trouble, SkipLost: r.SkipLost, Skipped: s.skipped}
}
