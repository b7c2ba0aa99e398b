// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"math"

	"zumastor.org/zumastor/engine/alloc"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/journal"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/wire"
)

// Limits of what the clients of snapshots may have at a time.
const (
	maxBranchLease = 1024                // slots of one lease, nor more than an eighth of what is free
	maxBranchRuns  = alloc.MaxLeases / 2 // leased to all of them, so that the origin finds some
	minBranchRuns  = alloc.MaxLeases / 4 // that the origin leaves to them
	branchRuns     = 4                   // of one lease, until minBranchRuns are leased; then one
	maxSyncRecord  = 1 << 10             // chunks of one record of what was written to a snapshot
	maxUnsynced    = 1 << 14             // chunks that are synced by a checkpoint rather than by records
)

// LeaseBranch gives the client of a snapshot that is open for writing up to want
// slots, and fewer the less is free. The error wraps [alloc.ErrNoSpace] when the
// store is full, and [alloc.ErrLeases] when too many runs are leased to such clients:
// see AwaitSpace. Nothing is dropped for what is written to a snapshot.
func (s *Store) LeaseBranch(h wire.Handle, want uint64) ([]layout.SlotRun, error) {
	if err := s.mutable(); err != nil {
		return nil, err
	}
	if err := s.begin(); err != nil {
		return nil, err
	}
	runs, err := s.leaseBranch(h, want)
	if err == nil || !isFull(err) {
		return runs, err
	}
	if _, err := s.makeRoom(true); err != nil {
		return nil, err
	}
	return s.leaseBranch(h, want)
}

func (s *Store) leaseBranch(h wire.Handle, want uint64) (runs []layout.SlotRun, err error) {
	err = s.step(func() error {
		o, err := s.writable(h)
		if err != nil {
			return err
		}
		most := min(maxBranchLease, max(16, s.sb.Slots/64), max(1, s.slots.Leasable()/8))
		if runs, err = s.takeSlots(min(want, most), s.branchRuns()); err != nil {
			return err
		}
		o.leases = append(o.leases, runs...)
		s.changed = true
		return nil
	})
	return runs, err
}

// branchRuns returns how many runs one more lease of a snapshot's client may have. The
// lock is held.
func (s *Store) branchRuns() int {
	few := branchRuns
	if leased := s.leasedRuns(); leased >= maxBranchRuns {
		few = 0
	} else if leased >= minBranchRuns {
		few = 1
	}
	return min(few, alloc.MaxLeases-len(s.slots.Leases()))
}

// leasedRuns returns how many runs are leased to the clients of snapshots. The lock is
// held.
func (s *Store) leasedRuns() (n int) {
	for _, o := range s.handles {
		n += len(o.leases)
	}
	return n
}

// originRuns returns how many more runs the origin may lease: however scattered the
// free slots are, it leaves some to the clients of snapshots. The lock is held.
func (s *Store) originRuns() int {
	return alloc.MaxLeases - len(s.slots.Leases()) - max(0, minBranchRuns-s.leasedRuns())
}

// ReportBranch takes in chunks written to a snapshot; see [wire.Server]. The error
// wraps [ErrStale] if a snapshot was made of it that the client does not know of.
func (s *Store) ReportBranch(h wire.Handle, g block.Generation, copies []layout.Copy) error {
	if err := s.mutable(); err != nil {
		return err
	}
	s.steps.RLock()
	defer s.steps.RUnlock()
	snap, err := s.useBranch(h, g, copies)
	if err != nil {
		return err
	}
	return s.insertBranch(snap, g, copies)
}

// useBranch takes the slots out of the client's leases.
func (s *Store) useBranch(h wire.Handle, g block.Generation, copies []layout.Copy) (*snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, err := s.writable(h)
	if err != nil {
		return nil, err
	}
	if g != o.snap.current {
		return nil, fmt.Errorf("%w: it is of generation %d, the snapshot's is %d", ErrStale, g, o.snap.current)
	}
	runs := slotRuns(copies)
	for _, r := range runs {
		if !covers(o.leases, r) {
			return nil, fmt.Errorf("%w: slots %d+%d are not leased to it", ErrStale, r.First, r.Len)
		}
	}
	for _, c := range copies {
		if c.Slot == layout.LostSlot {
			return nil, fmt.Errorf("%w: chunk %d was written to no slot", ErrStale, c.Chunk)
		}
		if s.geo.Offset(c.Chunk) >= o.snap.Size {
			return nil, fmt.Errorf("%w: chunk %d is beyond snapshot %d", block.ErrGeometry, c.Chunk, o.snap.Tag)
		}
	}
	for _, r := range runs {
		s.slots.Use(r)
		o.leases = alloc.Subtract(o.leases, r)
	}
	s.noteTaken(len(copies))
	o.snap.written = some
	o.snap.unsynced = append(o.snap.unsynced, copies...)
	s.count.Written += uint64(len(copies))
	s.changed = true
	return o.snap, nil
}

// RestoreBranch takes in, in the present generation, chunks of a snapshot that its
// client had reported in generation g to an earlier opening of the store, which ended
// before they were synced. Of those that are there already, moved or written again
// since, nothing changes. The error wraps [ErrStale] if a slot was given to somebody else
// since: then the chunks are lost.
func (s *Store) RestoreBranch(h wire.Handle, g block.Generation, copies []layout.Copy) error {
	if err := s.begin(); err != nil && !s.Awaiting() {
		return err
	}
	s.steps.RLock()
	defer s.steps.RUnlock()
	for _, c := range copies {
		if err := s.restoreOne(h, g, c); err != nil {
			return err
		}
	}
	return nil
}

// restoreOne takes in one chunk. Once its slot is claimed it is taken in, whatever
// becomes of the snapshot while a page is read: the client is not done before, so that
// all that a snapshot has which is squashed is freed after.
func (s *Store) restoreOne(h wire.Handle, g block.Generation, c layout.Copy) error {
	var snap *snapshot // once the slot is claimed
	var current block.Generation
	return s.resolve(func() error {
		if snap == nil {
			o, err := s.writable(h)
			if err != nil {
				return err
			}
			if there, err := s.restoredAlready(o.snap, g, c); err != nil || there {
				return err
			}
			if err := s.slots.Claim(layout.SlotRun{First: c.Slot, Len: 1}); err != nil {
				return err
			}
			snap, current = o.snap, o.snap.current
			snap.written, s.changed = some, true
			snap.unsynced = append(snap.unsynced, c)
		}
		return s.insertWritten(snap.branch(), current, c)
	})
}

// restoredAlready reports whether a snapshot has a chunk already, as it was reported in
// generation g or as it is since; and an error unless the slot is free if it has not. The
// lock is held.
func (s *Store) restoredAlready(snap *snapshot, g block.Generation, c layout.Copy) (there bool, err error) {
	if s.geo.Offset(c.Chunk) >= snap.Size || uint64(c.Slot) >= s.sb.Slots {
		return false, fmt.Errorf("%w: chunk %d in slot %d of snapshot %d", block.ErrGeometry, c.Chunk, c.Slot, snap.Tag)
	}
	e, ok, err := s.entryUpTo(snap.branch(), c.Chunk, math.MaxUint64)
	if err != nil || ok && (e.Slot == c.Slot || e.Generation >= g) {
		return true, err
	}
	taken, err := s.slots.Taken(c.Slot)
	if taken && err == nil {
		err = fmt.Errorf("%w: slot %d of chunk %d is not the snapshot's any more", ErrStale, c.Slot, c.Chunk)
	}
	return false, err
}

// covers reports whether every slot of r is in one of the runs.
func covers(runs []layout.SlotRun, r layout.SlotRun) bool {
	rest := []layout.SlotRun{r}
	for _, have := range runs {
		rest = alloc.Subtract(rest, have)
	}
	return len(rest) == 0
}

// insertBranch adds chunks written to a snapshot to the index, in steps.
func (s *Store) insertBranch(snap *snapshot, g block.Generation, copies []layout.Copy) error {
	for i := 0; i < len(copies); {
		err := s.resolve(func() error {
			for end := min(i+insertStep, len(copies)); i < end; i++ {
				if err := s.insertWritten(snap.branch(), g, copies[i]); err != nil {
					return err
				}
			}
			if s.checkpointDue() {
				s.wake()
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// insertWritten adds a chunk written to a branch in generation g. What it replaces is
// freed, in the same generation or for all who read an earlier one.
func (s *Store) insertWritten(b block.Branch, g block.Generation, c layout.Copy) error {
	old, ok, err := s.entryUpTo(b, c.Chunk, g)
	if err != nil {
		return err
	}
	if err := s.index.Insert(layout.Exception{Branch: b, Chunk: c.Chunk, Generation: g, Slot: c.Slot}); err != nil {
		return err
	}
	if ok && old.Generation == g && old.Slot != c.Slot {
		s.freeSlot(old.Slot)
	}
	return s.dropBefore(b, g, c.Chunk)
}

// dropBefore frees the entry of a branch's chunk before that of generation g, if
// nobody reads it any more: the snapshot that it was kept for may have been deleted
// while the write was under way, or its client may not know yet that it was. That
// deletion has come past the entry when it was the chunk's newest, and no other will.
func (s *Store) dropBefore(b block.Branch, g block.Generation, c block.Chunk) error {
	old, ok, err := s.entryUpTo(b, c, g-1)
	if err != nil || !ok {
		return err
	}
	change := layout.Change{Branch: b, Generation: old.Generation, Chunk: c}
	if needed, err := s.needed(change); err != nil || needed {
		return err
	}
	if _, err := s.index.Changes.Delete(change); err != nil {
		return err
	}
	if _, err := s.index.Exceptions.Delete(old); err != nil { // the last step: it is found by this entry again
		return err
	}
	s.freeSlot(old.Slot)
	return nil
}

// SyncBranch makes durable where the chunks are that were reported; see
// [wire.Server].
func (s *Store) SyncBranch(h wire.Handle) error {
	s.mu.Lock()
	o, err := s.handle(h)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return s.syncBranch(o.snap)
}

// syncBranch flushes what was written to a snapshot, and writes records of where
// the chunks are, or a checkpoint where that is cheaper.
func (s *Store) syncBranch(snap *snapshot) error {
	if err := s.mutable(); err != nil {
		return err
	}
	s.mu.Lock()
	n := len(snap.unsynced)
	end := snap.synced + uint64(n)
	s.mu.Unlock()
	if err := s.devs.Store.Flush(); err != nil {
		return fmt.Errorf("flushing what was written to snapshot %d: %w", snap.Tag, err)
	}
	if n > maxUnsynced {
		return s.Checkpoint()
	}
	for {
		more, err := s.syncSome(snap, end)
		if isLogFull(err) {
			return s.Checkpoint()
		}
		if err != nil || !more {
			return err
		}
	}
}

// syncSome writes one record of the chunks written before the end-th, which are
// durable, and reports whether there is more to write.
func (s *Store) syncSome(snap *snapshot, end uint64) (more bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if end <= snap.synced {
		return false, nil
	}
	n := min(int(end-snap.synced), maxSyncRecord)
	b := &layout.Batch{Branch: snap.branch(), Generation: snap.current, Copies: layout.LastOfEach(snap.unsynced[:n])}
	body := layout.AppendBatch(nil, b)
	if !s.control.Fits(len(body)) {
		return false, journal.ErrFull
	}
	if err := s.control.Append(layout.RecordBatch, body); err != nil {
		return false, s.fail(err)
	}
	snap.syncedUpTo(snap.synced + uint64(n))
	return end > snap.synced, nil
}

// replayBranch takes in chunks that were written to a snapshot.
func (s *Store) replayBranch(b *layout.Batch) error {
	if b.Branch == 0 || uint64(b.Branch) > uint64(s.sb.Generation) || b.Generation > s.sb.Generation {
		return fmt.Errorf("%w: batch of branch %d, generation %d among snapshots", layout.ErrCorrupt, b.Branch, b.Generation)
	}
	for _, run := range slotRuns(b.Copies) {
		if uint64(run.First)+run.Len > s.sb.Slots {
			return fmt.Errorf("%w: batch of branch %d writes to slots %d+%d of %d", layout.ErrCorrupt, b.Branch, run.First, run.Len, s.sb.Slots)
		}
		if err := s.resolve(func() error { return s.slots.Claim(run) }); err != nil {
			return err
		}
	}
	for _, c := range b.Copies {
		if err := s.resolve(func() error { return s.insertWritten(b.Branch, b.Generation, c) }); err != nil {
			return err
		}
	}
	return nil
}
