// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"slices"

	"zumastor.org/zumastor/engine/alloc"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/mark"
)

// tree is what a checkpoint and an opening need of a tree of any entries.
type tree interface {
	Dirty() int
	Pages(fn func(p block.Page, leaf bool) error) error
	Checkpoint(number uint64, alloc func() (block.Page, error), free func(block.Page), write func(block.Page, []byte) error) (layout.Root, error)
}

// trees returns the trees by kind.
func (s *Store) trees() [layout.Kinds]tree {
	return [...]tree{s.index.Exceptions, s.index.Changes, s.slots.Tree(), s.snaps.tree, s.leases, s.digests.tree}
}

// image is a checkpoint on its way to the device.
type image struct {
	pages    []pageImage
	sb       layout.Superblock
	deferred int // pages that are free once it is durable
	unsynced []unsynced
	copied   int64
}

// unsynced is how many of the chunks written to a snapshot, counted from its first,
// are in an image.
type unsynced struct {
	snap *snapshot
	end  uint64
}

type pageImage struct {
	page block.Page
	data []byte
}

// Checkpoint makes the state of the store durable: all that was reported, every
// snapshot made or deleted. Reports and lookups go on while it writes. It does
// nothing if nothing has changed.
func (s *Store) Checkpoint() error { return s.checkpointWith(nil) }

// setting is a change that takes effect by being in a checkpoint's superblock, and in
// none before.
type setting struct {
	// snapshot is an entry of the snapshot tree that changes with it, or nil. Only set
	// changes what memory has of it.
	snapshot *layout.Snapshot
	// leases changes what is leased, in a way that bears repetition; or nil.
	leases func()
	// set changes the superblock.
	set func(sb *layout.Superblock)
}

// checkpointWith is Checkpoint with a change of the superblock. After an error the
// change is not made, unless the store has failed: then nobody knows.
func (s *Store) checkpointWith(change *setting) error {
	if err := s.mutable(); err != nil {
		return err
	}
	s.checkpointing.Lock()
	defer s.checkpointing.Unlock()
	var img *image
	repeated := false
	s.steps.Lock()
	err := s.resolve(func() (err error) {
		img, err = s.freeze(change)
		return err
	})
	if err != nil && change != nil && change.snapshot != nil {
		err = errors.Join(err, s.keepSnapshot(change.snapshot.Generation))
	}
	s.steps.Unlock()
	if err != nil || img == nil {
		return err
	}
	mark.CheckpointBegin(uint64(len(img.pages)))
	defer mark.CheckpointEnd()
	for err = s.write(img); err != nil && s.mayRepeat(img, err); repeated = true {
		err = s.write(img)
	}
	if err != nil {
		return s.fail(err)
	}
	if repeated {
		s.noteHealed()
	}
	s.thaw(img)
	return nil
}

// keepSnapshot makes the snapshot tree say again what memory has of a snapshot.
func (s *Store) keepSnapshot(g block.Generation) error {
	err := s.resolve(func() error {
		_, err := s.snaps.tree.Insert(s.snaps.get(g).Snapshot)
		return err
	})
	if err != nil {
		err = s.fail(err)
	}
	return err
}

// freeze takes the image of the store's state. The lock is held; a miss can occur
// only before anything has changed that a second run would not find.
func (s *Store) freeze(change *setting) (*image, error) {
	if change == nil && !s.changed && s.sb.Clean == s.closed {
		return nil, nil
	}
	for len(s.heads) > 0 {
		s.slots.Free(s.heads[len(s.heads)-1])
		s.heads = s.heads[:len(s.heads)-1]
	}
	if err := s.slots.Freeze(); err != nil {
		return nil, err
	}
	if change != nil && change.leases != nil {
		change.leases()
	}
	if change != nil && change.snapshot != nil {
		if _, err := s.snaps.tree.Insert(*change.snapshot); err != nil {
			return nil, err
		}
	}
	if err := s.listLeases(); err != nil {
		return nil, err
	}
	dirty := s.dirtyPages()
	if s.pages.Free() < dirty {
		s.revokePin()
	}
	if free := s.pages.Free(); free < dirty {
		return nil, fmt.Errorf("metadata area has %d free pages for a checkpoint of %d: %w", free, dirty, alloc.ErrNoSpace)
	}
	img := &image{copied: s.copied}
	s.pages.Rewind()
	sb := &s.sb
	for i, t := range s.trees() {
		root, err := t.Checkpoint(s.sb.Checkpoint+1, s.pages.Alloc, s.pages.Defer, img.add)
		if err != nil {
			return nil, s.fail(err) // the trees before this one are in no checkpoint
		}
		sb.Roots[i] = root
	}
	sb.Checkpoint++
	sb.Clean = s.closed
	sb.ControlPos, sb.LogPos = s.control.Position(), s.position
	sb.Allocated = s.slots.Allocated()
	if change != nil {
		change.set(sb)
	}
	img.sb, img.deferred = *sb, s.pages.Deferred()
	for _, snap := range s.snaps.all {
		if n := len(snap.unsynced); n > 0 {
			img.unsynced = append(img.unsynced, unsynced{snap, snap.synced + uint64(n)})
		}
	}
	s.copied, s.logged, s.changed = 0, 0, false
	return img, nil
}

// listLeases makes the lease tree say what is leased.
func (s *Store) listLeases() error {
	var stale []layout.SlotRun
	want := s.slots.Leases()
	err := s.leases.Ascend(layout.SlotRun{}, func(r layout.SlotRun) bool {
		if i, ok := slices.BinarySearchFunc(want, r, layout.LeaseCodec{}.Compare); !ok || want[i] != r {
			stale = append(stale, r)
		}
		return true
	})
	if err != nil {
		return err
	}
	for _, r := range stale {
		if _, err := s.leases.Delete(r); err != nil {
			return err
		}
	}
	for _, r := range want {
		if _, err := s.leases.Insert(r); err != nil {
			return err
		}
	}
	return nil
}

// add takes a page of the image over.
func (img *image) add(p block.Page, data []byte) error {
	img.pages = append(img.pages, pageImage{p, data})
	return nil
}

// write makes the image durable: its pages, then the superblock that points at
// them.
func (s *Store) write(img *image) error {
	if len(img.pages) > 0 {
		if err := device.Do(s.meta, img.writes()); err != nil {
			return fmt.Errorf("writing the pages of checkpoint %d: %w", img.sb.Checkpoint, err)
		}
		if err := s.meta.Flush(); err != nil {
			return fmt.Errorf("flushing the pages of checkpoint %d: %w", img.sb.Checkpoint, err)
		}
	}
	if len(img.unsynced) > 0 && s.devs.Meta != nil {
		if err := s.devs.Store.Flush(); err != nil {
			return fmt.Errorf("flushing the store device for checkpoint %d: %w", img.sb.Checkpoint, err)
		}
	}
	page := device.Buffer(block.PageSize)
	copy(page, img.sb.Encode()) // the sectors after it stay zero
	at := int64(img.sb.Checkpoint%layout.Superblocks) * block.PageSize
	if _, err := s.meta.WriteAt(page, at); err != nil {
		return fmt.Errorf("writing the superblock of checkpoint %d: %w", img.sb.Checkpoint, err)
	}
	if err := s.meta.Flush(); err != nil {
		return fmt.Errorf("flushing the superblock of checkpoint %d: %w", img.sb.Checkpoint, err)
	}
	return nil
}

// maxRunPages bounds one write of neighbouring pages.
const maxRunPages = 256

// writes returns the pages as few writes of neighbours, in order of address.
func (img *image) writes() []device.Op {
	slices.SortFunc(img.pages, func(a, b pageImage) int { return int(int64(a.page) - int64(b.page)) })
	var ops []device.Op
	for i := 0; i < len(img.pages); {
		n := 1
		for i+n < len(img.pages) && n < maxRunPages && img.pages[i+n].page == img.pages[i].page+block.Page(n) {
			n++
		}
		data := img.pages[i].data
		if n > 1 {
			data = device.Buffer(n * block.PageSize)
			for j := range n {
				copy(data[j*block.PageSize:], img.pages[i+j].data)
			}
		}
		ops = append(ops, device.Op{Kind: device.Write, Off: int64(img.pages[i].page) * block.PageSize, Data: data})
		i += n
	}
	return ops
}

// thaw lets go of what only the checkpoint before this one needed.
func (s *Store) thaw(img *image) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cache.AdvanceEpoch()
	s.pages.Thaw(img.deferred)
	s.slots.Thaw()
	s.control.Release(img.sb.ControlPos)
	s.released = img.sb.LogPos
	for _, u := range img.unsynced {
		u.snap.syncedUpTo(u.end)
	}
	if s.cramped() || s.slots.Leasable() < s.leaseSlots() {
		s.revokePin() // else one checkpoint would follow another
	}
	s.noteSpace()
	s.noteFill()
	s.notePages()
	if s.checkpointDue() {
		s.wake()
	}
}
