// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"time"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/wire"
)

// Bounds of one step of moving chunks.
const (
	moveBytes  = 1 << 20
	moveChunks = 64
)

// moveExceptions moves all chunks that lie in slots from the limit on. No new ones get
// there meanwhile, so that one pass over the index is enough.
func (s *Store) moveExceptions(ctx context.Context, progress func(Progress)) error {
	s.mu.Lock()
	total := s.slots.Beyond()
	s.mu.Unlock()
	var from layout.Exception
	moved := uint64(0)
	for more := true; more; {
		began := time.Now()
		var list []layout.Exception
		var err error
		if list, more, err = s.toMove(&from); err != nil {
			return err
		}
		if len(list) > 0 {
			if err := s.moveStep(list); err != nil {
				return err
			}
			moved += uint64(len(list))
			progress(Progress{Phase: "move", Done: min(moved, total), Total: total})
		}
		if err := s.goOn(ctx, began); err != nil {
			return err
		}
	}
	return nil
}

// toMove returns exceptions of one branch that are to be moved, from the entry from
// on, advances that, and reports whether there may be more.
func (s *Store) toMove(from *layout.Exception) (list []layout.Exception, more bool, err error) {
	most := max(1, min(moveChunks, moveBytes>>s.geo.ChunkShift()))
	err = s.resolve(func() error {
		scanned, err := s.index.Exceptions.Scan(*from, scanStep, nil)
		if err != nil {
			return err
		}
		list, more = nil, len(scanned) == scanStep
		for _, e := range scanned {
			if e.Slot != layout.LostSlot && uint64(e.Slot) >= s.slots.Limit() {
				if len(list) == most || len(list) > 0 && list[0].Branch != e.Branch {
					more = true
					return nil
				}
				list = append(list, e)
			}
			*from = e
			from.Generation++
		}
		return nil
	})
	return list, more, err
}

// moveStep moves exceptions of one branch. What a client may overwrite in place is
// moved while it does not, and the move is durable before it does again.
func (s *Store) moveStep(list []layout.Exception) error {
	s.admin.Lock()
	defer s.admin.Unlock()
	if list[0].Branch == 0 {
		return s.move(list)
	}
	s.mu.Lock()
	var writer *opened
	snap := s.snaps.get(block.Generation(list[0].Branch))
	if snap != nil {
		writer = snap.writer()
	}
	s.mu.Unlock()
	if writer == nil {
		return s.moveWritten(list)
	}
	return writer.client.Quiesce(func() (wire.SnapshotState, error) {
		err := s.moveWritten(list)
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.snapshotState(snap, true), err
	})
}

// moveWritten moves chunks that were written to a snapshot, durably.
func (s *Store) moveWritten(list []layout.Exception) error {
	if err := s.move(list); err != nil {
		return err
	}
	return s.Checkpoint()
}

// move copies chunks to free slots, makes them durable there, and then has the index
// say so. Their old slots are free: to be used when no reader knows them any more.
func (s *Store) move(list []layout.Exception) error {
	for len(list) > 0 {
		runs, err := s.reserve(uint64(len(list)))
		if err != nil {
			return err
		}
		n := min(int(length(runs)), len(list))
		err = s.copySlots(list[:n], runs)
		if err == nil {
			err = s.reindex(list[:n], runs)
		}
		s.giveBack()
		if err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

// reserve leases slots to move chunks to.
func (s *Store) reserve(want uint64) (runs []layout.SlotRun, err error) {
	lease := func() error {
		return s.step(func() error {
			if runs, err = s.slots.Reserve(want); err != nil {
				return err
			}
			s.moving = append(s.moving, runs...)
			s.changed = true
			return nil
		})
	}
	if err = lease(); isFull(err) {
		if err = s.Checkpoint(); err == nil {
			err = lease()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("finding room for chunks to move: %w", err)
	}
	return runs, nil
}

// giveBack returns what was reserved and not used.
func (s *Store) giveBack() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.slots.LeasedOf(s.moving) {
		s.slots.Return(r)
	}
	s.moving = nil
}

// slotAt returns the n-th slot of runs.
func slotAt(runs []layout.SlotRun, n int) block.Slot {
	for _, r := range runs {
		if uint64(n) < r.Len {
			return r.First + block.Slot(n)
		}
		n -= int(r.Len)
	}
	return layout.LostSlot
}

// copySlots copies the chunks of exceptions to the slots of runs, and flushes.
func (s *Store) copySlots(list []layout.Exception, runs []layout.SlotRun) error {
	size := s.geo.ChunkSize()
	buf := device.Buffer(len(list) * size)
	reads, writes := make([]device.Op, len(list)), make([]device.Op, len(list))
	for i, e := range list {
		data := buf[i*size : (i+1)*size]
		reads[i] = device.Op{Kind: device.Read, Off: s.slotOffset(e.Slot), Data: data}
		writes[i] = device.Op{Kind: device.Write, Off: s.slotOffset(slotAt(runs, i)), Data: data}
	}
	if err := device.Do(s.devs.Store, reads); err != nil {
		return fmt.Errorf("reading chunks to move: %w", err)
	}
	for i, e := range list {
		if e.Branch == 0 && layout.SumOf(reads[i].Data) != e.Sum && s.still(e) {
			return fmt.Errorf("%w: chunk %d of generation %d in slot %d: bad checksum; it cannot be moved: delete the snapshots that have it, or repair the store",
				layout.ErrCorrupt, e.Chunk, e.Generation, e.Slot)
		}
	}
	if err := device.Do(s.devs.Store, writes); err != nil {
		return fmt.Errorf("writing chunks to their new places: %w", err)
	}
	if err := s.devs.Store.Flush(); err != nil {
		return fmt.Errorf("flushing chunks in their new places: %w", err)
	}
	return nil
}

// still reports whether an exception is in the index as it was.
func (s *Store) still(e layout.Exception) (yes bool) {
	err := s.resolve(func() error {
		now, ok, err := s.index.Exceptions.Ceiling(e)
		yes = ok && now == e
		return err
	})
	return yes || err != nil
}

// reindex makes the index say that exceptions, those that are still there, are in the
// slots of runs. Every checkpoint has either slot of each as used.
func (s *Store) reindex(list []layout.Exception, runs []layout.SlotRun) error {
	i := 0
	return s.step(func() error {
		for ; i < len(list); i++ {
			e := list[i]
			now, ok, err := s.index.Exceptions.Ceiling(e)
			if err != nil {
				return err
			}
			if !ok || now != e {
				continue // it was freed meanwhile
			}
			to := e
			to.Slot = slotAt(runs, i)
			if _, err := s.index.Exceptions.Insert(to); err != nil {
				return err
			}
			s.slots.Use(layout.SlotRun{First: to.Slot, Len: 1})
			s.slots.Free(layout.SlotRun{First: e.Slot, Len: 1})
			s.changed = true
		}
		return nil
	})
}
