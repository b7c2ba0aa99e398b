// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"zumastor.org/zumastor/engine/alloc"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/wire"
)

// Errors of a resize that callers decide on.
var (
	// ErrResizing is wrapped when a resize is under way already.
	ErrResizing = errors.New("a resize is under way")
	// ErrTooSmall is wrapped when a size is less than what must stay.
	ErrTooSmall = errors.New("too small")
	// ErrNoOrigin is wrapped when an origin has to copy chunks out and none is
	// attached.
	ErrNoOrigin = errors.New("the origin's client is not attached")
)

// Progress is how far a resize has come.
type Progress struct {
	Phase       string // "settle", "move" or "pages"
	Done, Total uint64 // chunks or pages of the phase
}

// Area is the division of a store: how many slots it has, and where its tree pages
// lie.
type Area struct {
	Slots     uint64
	TreePages layout.Extent
	Grown     []layout.Extent
}

// extents returns where the tree pages lie.
func (a *Area) extents() []layout.Extent { return append([]layout.Extent{a.TreePages}, a.Grown...) }

// pages returns how many tree pages there are.
func (a *Area) pages() uint64 { return pagesOf(a.extents()) }

func pagesOf(extents []layout.Extent) uint64 {
	n := uint64(0)
	for _, e := range extents {
		n += e.Len
	}
	return n
}

// ResizePlan says what a resize would do. Sizes are in bytes.
type ResizePlan struct {
	OriginSize, NewOriginSize int64
	StoreSize, NewStoreSize   int64  // of the store device, up to the end of its last slot
	MetaSize, NewMetaSize     int64  // of the metadata device, up to the end of the tree pages; zero: it has none
	MinStoreSize              int64  // the least that the store can shrink to now
	MinMetaSize               int64  // the least that the metadata device can
	CopyOut                   uint64 // chunks to copy out before the origin can shrink
	MoveChunks                uint64 // copied chunks to move to other slots, at most
	MovePages                 uint64 // metadata pages to write elsewhere
}

// PlanResize returns what ResizeOrigin and ResizeStore would do with these sizes now;
// zero means that a size is to stay. The error is why they would refuse.
func (s *Store) PlanResize(originSize, size, metaSize int64) (ResizePlan, error) {
	now := s.area()
	plan := ResizePlan{StoreSize: s.storeEnd(now), MetaSize: s.metaEnd(now)}
	s.mu.Lock()
	plan.OriginSize = s.sb.OriginSize
	plan.NewOriginSize = orDefault(originSize, plan.OriginSize)
	slots, pages := s.leastSlots(now), s.leastPages(now.Slots)
	s.mu.Unlock()
	least := now
	least.Slots = slots
	plan.MinStoreSize = s.storeEnd(least)
	if s.devs.Meta != nil {
		plan.MinMetaSize = int64(uint64(now.TreePages.First)+pages) * block.PageSize
	}
	target, err := s.divide(size, metaSize)
	if err != nil {
		return plan, err
	}
	plan.NewStoreSize, plan.NewMetaSize = s.storeEnd(target), s.metaEnd(target)
	if err := s.mayShrink(now, target); err != nil {
		return plan, err
	}
	geo, err := block.NewGeometry(plan.NewOriginSize, s.geo.ChunkSize())
	if err != nil {
		return plan, err
	}
	if plan.NewOriginSize < plan.OriginSize {
		if plan.CopyOut, err = s.countUnsettled(geo.ChunkOf(plan.NewOriginSize), block.Chunk(s.Geometry().Chunks())); err != nil {
			return plan, err
		}
	}
	plan.MoveChunks, err = s.countMoves(target.Slots)
	s.mu.Lock()
	defer s.mu.Unlock()
	plan.MovePages = s.pages.UsedFrom(s.endOfPages(now, target))
	return plan, err
}

// countUnsettled counts the chunks of [first, end) that need a copy-out.
func (s *Store) countUnsettled(first, end block.Chunk) (n uint64, err error) {
	var list []block.Chunk
	for ; first < end; first += settleStep {
		if list, err = s.Unsettled(first, min(end, first+settleStep), list[:0]); err != nil {
			return 0, err
		}
		n += uint64(len(list))
	}
	return n, nil
}

// countMoves counts the exceptions in slots from the limit on.
func (s *Store) countMoves(limit uint64) (n uint64, err error) {
	if limit >= s.area().Slots {
		return 0, nil
	}
	err = s.scanExceptions(func(e layout.Exception) {
		if uint64(e.Slot) >= limit && e.Slot != layout.LostSlot {
			n++
		}
	})
	return n, err
}

// area returns the present division.
func (s *Store) area() Area {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Area{Slots: s.sb.Slots, TreePages: s.sb.TreePages, Grown: slices.Clone(s.sb.Grown)}
}

// storeEnd returns the size of a store device, in bytes.
func (s *Store) storeEnd(a Area) int64 { return s.sb.DataOffset + int64(a.Slots<<s.geo.ChunkShift()) }

// metaEnd returns the size of a metadata device, in bytes, or zero.
func (s *Store) metaEnd(a Area) int64 {
	if s.devs.Meta == nil {
		return 0
	}
	ends := a.extents()
	return int64(ends[len(ends)-1].End()) * block.PageSize
}

// ResizeStore makes the store use size bytes of its device and, if its metadata is on
// a device of its own, metaSize bytes of that; zero: as much as now, and of the metadata
// as much as the slots need. What becomes part of a device must be there when it is
// called; what becomes free may be cut off when it has returned nil. Requests go on
// meanwhile. The change is durable when it returns nil; after a crash, or any error, the
// store has its old sizes or, if that is durable, new ones, and all of its content.
//
// To shrink, what lies beyond the new end is moved. The error wraps [ErrTooSmall] and
// says the least size if there is no room for it, and then nothing has changed.
// Progress, which may be nil, is called from time to time; when ctx ends, the resize does.
func (s *Store) ResizeStore(ctx context.Context, size, metaSize int64, progress func(Progress)) error {
	if err := s.beginResize(); err != nil {
		return err
	}
	defer s.resized()
	if err := errors.Join(device.Refresh(s.devs.Store), device.Refresh(s.meta)); err != nil {
		return fmt.Errorf("looking for the sizes of devices: %w", err)
	}
	target, err := s.divide(size, metaSize)
	if err != nil {
		return err
	}
	if err := s.shrink(ctx, target, orNothing(progress)); err != nil {
		return fmt.Errorf("shrinking the store: %w", err)
	}
	if err := s.grow(target); err != nil {
		return fmt.Errorf("growing the store: %w", err)
	}
	return nil
}

func orNothing(progress func(Progress)) func(Progress) {
	if progress == nil {
		return func(Progress) {}
	}
	return progress
}

// beginResize makes sure that one resize is under way at a time. If it returns nil,
// resized must be called.
func (s *Store) beginResize() error {
	if err := s.mutable(); err != nil {
		return err
	}
	if !s.resize.TryLock() {
		return ErrResizing
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.restoring != 0 || s.ending {
		s.resize.Unlock()
		return fmt.Errorf("%w: the origin is being restored, or the store closed", ErrInUse)
	}
	s.resizing = true
	return nil
}

// resized ends what beginResize began.
func (s *Store) resized() {
	s.mu.Lock()
	s.resizing, s.squeezed = false, false
	s.mu.Unlock()
	s.spaceChanged()
	s.resize.Unlock()
}

// endResize has a resize that is under way end, and waits for that.
func (s *Store) endResize() {
	s.mu.Lock()
	s.ending = true
	s.mu.Unlock()
	s.resize.Lock()
	defer s.resize.Unlock()
}

// goOn returns the reason why a resize is not to go on, or nil. It leaves the devices
// to others for as long as the resize has had them, at most for some time.
func (s *Store) goOn(ctx context.Context, since time.Time) error {
	s.mu.Lock()
	ending, squeezed := s.ending, s.squeezed
	s.mu.Unlock()
	switch {
	case ending:
		return errors.New("the store is being closed")
	case squeezed:
		return fmt.Errorf("%w: clients need the space meanwhile", ErrTooSmall)
	}
	if err := s.mutable(); err != nil {
		return err
	}
	pause := time.NewTimer(min(time.Since(since), maxPause))
	defer pause.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-pause.C:
		return nil
	}
}

// giveUpShrink has a shrink that is under way given up, because a client finds no space
// before the new end, and reports whether a resize is about to end that gives space. No
// snapshot is dropped for it.
func (s *Store) giveUpShrink() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	shrinking := s.resizing && s.slots.Limit() < s.slots.Total()
	s.squeezed = s.squeezed || shrinking
	return shrinking
}

// maxPause bounds a pause of a resize.
const maxPause = 50 * time.Millisecond

// spareSlots is how many slots a store must have beside those in use.
func spareSlots(used uint64) uint64 { return max(2*minSlots, used/32) }

// leastSlots returns how many slots the store can shrink to. The lock is held.
func (s *Store) leastSlots(now Area) uint64 {
	used := s.slots.Used()
	for _, r := range s.grownSlots(now, now.Grown) {
		used -= min(used, r.Len)
	}
	least := used + spareSlots(used)
	for {
		n := used + spareSlots(used) + s.grownBelow(now, least)
		if n <= least {
			return least
		}
		least = n
	}
}

// grownBelow returns how many of the first n slots grown extents have.
func (s *Store) grownBelow(a Area, n uint64) uint64 {
	all := s.grownSlots(a, a.Grown)
	return length(all) - length(alloc.Subtract(all, layout.SlotRun{First: 0, Len: n}))
}

// leastPages returns how many tree pages a store of that many slots must have. The
// lock is held.
func (s *Store) leastPages(slots uint64) uint64 {
	used := s.pages.Used() - uint64(s.pages.Deferred()+s.pages.Held())
	return max(neededPages(slots), 2*used+s.dirtyPages())
}

// neededPages returns how many tree pages are enough for that many slots; see Format.
func neededPages(slots uint64) uint64 { return minTreePages + slots*treeSlotBytes/block.PageSize }

// mayShrink returns the reason why the store cannot shrink to target, or nil.
func (s *Store) mayShrink(now, target Area) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if least := s.leastSlots(now); target.Slots < now.Slots && target.Slots < least {
		now.Slots = least
		return fmt.Errorf("%w: %d of its slots are in use: the least size is %d bytes", ErrTooSmall, s.slots.Used(), s.storeEnd(now))
	}
	left := s.common(now, target)
	if least := 2*(s.pages.Used()-uint64(s.pages.Deferred()+s.pages.Held())) + s.dirtyPages(); left.pages() < now.pages() && left.pages() < least {
		return fmt.Errorf("%w: snapshots and exceptions need %d metadata pages, %d would be left", ErrTooSmall, least, left.pages())
	}
	return nil
}

// quiesceOrigin makes a change while no origin write is under way, and has the
// origin's client, if there is one, take the state after it.
func (s *Store) quiesceOrigin(change func() error) error {
	run := func() (wire.State, error) {
		err := change()
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.state(), err
	}
	if client := s.attached(); client != nil {
		return client.Quiesce(run)
	}
	_, err := run()
	return err
}
