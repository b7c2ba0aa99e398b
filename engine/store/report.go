// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/wire"
)

// insertStep bounds how many copies are inserted under one holding of the lock.
const insertStep = 64

// Lease gives the client up to want more slots. When less is free but some wait
// for a checkpoint, it takes that checkpoint first; when none is free, it also goes
// on with the deletions under way. How many runs are leased at a time is bounded, so
// that it gives less, or returns an error that wraps [alloc.ErrLeases], where
// free slots are scattered.
func (s *Store) Lease(want uint64) ([]layout.SlotRun, error) {
	if err := s.mutable(); err != nil {
		return nil, err
	}
	runs, head, err := s.lease(want)
	if isFull(err) || err == nil && length(runs) < want && s.short() {
		if _, err := s.makeRoom(isFull(err)); err != nil {
			return nil, err
		}
		more, headNow, again := s.lease(want - length(runs))
		runs, head = append(runs, more...), head || headNow
		if err = nil; len(runs) == 0 {
			err = again
		}
	}
	if err == nil && head {
		err = s.Checkpoint() // the first batch's place must be durable before the batch is
	}
	return runs, err
}

// makeRoom frees what waits for a checkpoint and, if the store is full, goes on with the
// deletions under way before, until they have given a lease: somebody waits for it. It
// reports whether more of them is left.
func (s *Store) makeRoom(full bool) (more bool, err error) {
	for more = full; more && !s.leaseWaits(); {
		if more, err = s.reclaim(widest); err != nil {
			return false, err
		}
	}
	return more, s.Checkpoint()
}

// leaseWaits reports whether a checkpoint would free a whole lease.
func (s *Store) leaseWaits() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.slots.Waiting() >= s.leaseSlots()
}

// short reports whether no slot is free, but a checkpoint would free some.
func (s *Store) short() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.slots.Leasable() == 0 && (len(s.heads) > 0 || s.slots.Waiting() > 0)
}

// length returns how many slots the runs have.
func length(runs []layout.SlotRun) uint64 {
	n := uint64(0)
	for _, r := range runs {
		n += r.Len
	}
	return n
}

func (s *Store) lease(want uint64) (runs []layout.SlotRun, head bool, err error) {
	err = s.step(func() error {
		if runs, err = s.takeSlots(want, s.originRuns()); err != nil {
			return err
		}
		s.changed = true
		head = s.giveHead(runs)
		return nil
	})
	return runs, head, err
}

// Report takes in a durable batch; see [wire.Server].
func (s *Store) Report(b wire.Batch) (released layout.Position, err error) {
	if err := s.mutable(); err != nil {
		return released, err
	}
	if err := s.checkBatch(b.Batch); err != nil {
		return released, err
	}
	if err := s.checkNext(b.Position); err != nil {
		return released, err
	}
	due, overdue, released, err := s.takeIn(b)
	switch {
	case err != nil:
		return released, err
	case overdue: // memory and room are bounded: whoever dirties pages waits
		return released, s.Checkpoint()
	case due:
		s.wake()
	}
	return released, nil
}

// checkNext returns an error unless the batch before p is the session's next one.
func (s *Store) checkNext(p layout.Position) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client == nil || p.Seq != s.position.Seq+1 {
		return fmt.Errorf("%w: batch %d was reported, %d is next", ErrStale, p.Seq-1, s.position.Seq)
	}
	return nil
}

// takeIn does the work of Report, and says whether a checkpoint is due after it.
// No checkpoint comes between the first exception and the log's new position: it
// would have recovery insert them again, which is wrong once their snapshot is
// deleted.
func (s *Store) takeIn(b wire.Batch) (due, overdue bool, released layout.Position, err error) {
	s.steps.RLock()
	defer s.steps.RUnlock()
	s.use(b)
	if err := s.insert(b.Batch); err != nil {
		return false, false, released, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.position = b.Position
	s.copied += int64(len(b.Copies)) << s.geo.ChunkShift()
	s.count.Batches++
	s.renewals = 0
	s.noteHealed()
	s.logged++
	s.count.Copies += uint64(len(b.Copies))
	s.noteTaken(len(b.Copies))
	s.changed = true
	return s.checkpointDue(), s.fixed() > 2*maxFixed || s.cramped(), s.released, nil
}

// use takes the slots of a batch out of its client's leases, before exceptions are
// in them: should not all be inserted, none may be leased again.
func (s *Store) use(b wire.Batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range slotRuns(b.Copies) {
		s.slots.Use(r)
	}
	if b.HasHead {
		head := layout.SlotRun{First: b.Head, Len: 1}
		s.slots.Use(head)
		s.heads = append(s.heads, head)
	}
}

// insert adds the exceptions of a batch to the index, in steps. Those that no
// snapshot needs any more are not added, and their slots freed.
func (s *Store) insert(b *layout.Batch) error {
	for i := 0; i < len(b.Copies); {
		err := s.resolve(func() error {
			for end := min(i+insertStep, len(b.Copies)); i < end; i++ {
				if err := s.insertOne(b, b.Copies[i]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) insertOne(b *layout.Batch, c layout.Copy) error {
	before, err := s.index.Before(b.Branch, c.Chunk, b.Generation)
	if err != nil {
		return err
	}
	lost := c.Slot == layout.LostSlot
	if !s.snaps.anyWith(s.geo.Offset(c.Chunk), before, b.Generation) {
		if !lost {
			s.slots.Free(layout.SlotRun{First: c.Slot, Len: 1})
		}
		return nil
	}
	e := layout.Exception{Branch: b.Branch, Chunk: c.Chunk, Generation: b.Generation, Slot: c.Slot, Sum: c.Sum}
	if !lost {
		return s.index.Insert(e)
	}
	return s.insertLost(before, e)
}

// Unsettled appends the chunks of [first, end) that need a copy-out before they
// may be overwritten: those whose newest exception is older than the newest live
// snapshot that has them. If there are such and the store has failed it returns an
// error: no copy could be reported, and none may be written of a generation that may
// not be durable.
func (s *Store) Unsettled(first, end block.Chunk, dst []block.Chunk) ([]block.Chunk, error) {
	had := len(dst)
	err := s.resolve(func() error {
		for ; first < end; first++ {
			newest := s.snaps.newestWith(s.geo.Offset(first))
			if newest == 0 {
				continue
			}
			e, ok, err := s.index.Newest(0, first)
			if err != nil {
				return err
			}
			if !ok || e.Generation < newest {
				dst = append(dst, first)
			}
		}
		return nil
	})
	if err == nil && len(dst) > had {
		err = s.mutable()
	}
	return dst, err
}

// Released returns the position in the log before which all is in a durable
// checkpoint.
func (s *Store) Released() layout.Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.released
}
