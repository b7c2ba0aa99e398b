// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"slices"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

// divide returns how a store of size bytes, with metadata of metaSize bytes, is
// divided; zero is as in [Store.ResizeStore].
func (s *Store) divide(size, metaSize int64) (Area, error) {
	now := s.area()
	target := Area{Slots: now.Slots, TreePages: now.TreePages, Grown: slices.Clone(now.Grown)}
	if size != 0 {
		slots := (size - s.sb.DataOffset) >> s.geo.ChunkShift()
		if slots < minSlots {
			return target, fmt.Errorf("%w: a store of %d bytes has no room for %d chunks", ErrTooSmall, size, minSlots)
		}
		target.Slots = uint64(slots)
	}
	switch end := s.storeEnd(target); {
	case end > block.MaxStoreSize:
		return target, fmt.Errorf("%w: a store of %d bytes is more than %d", block.ErrGeometry, end, int64(block.MaxStoreSize))
	case end > s.devs.Store.Size():
		return target, fmt.Errorf("%w: the store device has %d bytes, and not %d: make it larger first", block.ErrGeometry, s.devs.Store.Size(), end)
	}
	switch {
	case s.devs.Meta != nil:
		return target, s.divideMeta(metaSize, &target)
	case metaSize != 0:
		return target, fmt.Errorf("%w: the metadata is not on a device of its own", block.ErrGeometry)
	case target.Slots > now.Slots:
		return target, s.addExtent(now, &target)
	}
	target.Grown = trim(target.Grown, s.pageOf(target.Slots))
	return target, nil
}

// pageOf returns the page at which a slot begins, on a store of one device.
func (s *Store) pageOf(slot uint64) block.Page {
	return block.Page((s.sb.DataOffset + int64(slot<<s.geo.ChunkShift())) / block.PageSize)
}

// trim returns extents without the pages from limit on.
func trim(extents []layout.Extent, limit block.Page) []layout.Extent {
	var left []layout.Extent
	for _, e := range extents {
		if e.First < limit {
			left = append(left, layout.Extent{First: e.First, Len: min(e.Len, uint64(limit-e.First))})
		}
	}
	return left
}

// divideMeta gives the metadata device to the tree pages.
func (s *Store) divideMeta(metaSize int64, target *Area) error {
	need := neededPages(target.Slots)
	if metaSize != 0 {
		limit := block.Page(metaSize / block.PageSize)
		if least := int64(uint64(target.TreePages.First)+need) * block.PageSize; metaSize < least {
			return fmt.Errorf("%w: the metadata of %d slots takes %d bytes, not %d", ErrTooSmall, target.Slots, least, metaSize)
		}
		target.TreePages.Len = uint64(limit - target.TreePages.First)
	} else if need > target.TreePages.Len {
		target.TreePages.Len = need
	}
	if end := s.metaEnd(*target); end > s.meta.Size() || end > block.MaxStoreSize {
		return fmt.Errorf("%w: the metadata device has %d bytes, and not %d: make it larger first", block.ErrGeometry, s.meta.Size(), end)
	}
	return nil
}

// A superblock has room for few extents of tree pages. So a store that grows in small
// steps puts up with growthShort less than it needs, of so many parts of what it has,
// before it begins a new extent, and then makes it growthSpare larger than needed,
// step by step if need be: it can grow thirtyfold in any number of steps.
const (
	growthShort = 8
	growthSpare = 4
)

// addExtent gives as much of the new space to tree pages as the new slots need.
func (s *Store) addExtent(now Area, target *Area) error {
	have, need := now.pages(), neededPages(target.Slots)
	n := len(target.Grown)
	first := s.pageOf(now.Slots)
	goesOn := n > 0 && target.Grown[n-1].End() == first
	want := need + need/growthSpare
	if want <= have || !goesOn && need <= have+have/growthShort {
		return nil
	}
	chunkPages := uint64(s.geo.ChunkSize() / block.PageSize)
	slots := min((want-have+chunkPages-1)/chunkPages, target.Slots-now.Slots)
	e := layout.Extent{First: first, Len: slots * chunkPages}
	switch {
	case goesOn:
		target.Grown[n-1].Len += e.Len
	case n == layout.MaxGrown:
		return fmt.Errorf("%w: the store has grown %d times, and has no more room to say where its metadata is: shrink it to %d bytes first, and then grow it at once",
			block.ErrGeometry, n, int64(target.Grown[n-1].First)*block.PageSize)
	default:
		target.Grown = append(target.Grown, e)
	}
	return nil
}

// common returns what two divisions share: what is left when a store has shrunk to
// one, and before it grows to the other.
func (s *Store) common(now, target Area) Area {
	left := Area{Slots: min(now.Slots, target.Slots), TreePages: now.TreePages}
	left.TreePages.Len = min(now.TreePages.Len, target.TreePages.Len)
	for i, e := range now.Grown {
		if i < len(target.Grown) {
			left.Grown = append(left.Grown, layout.Extent{First: e.First, Len: min(e.Len, target.Grown[i].Len)})
		}
	}
	return left
}

// endOfPages returns the page from which on a store that shrinks has none, or zero if
// it keeps all.
func (s *Store) endOfPages(now, target Area) block.Page {
	left := s.common(now, target)
	if left.pages() == now.pages() {
		return 0
	}
	ends := left.extents()
	return ends[len(ends)-1].End()
}

// grownSlots returns the slots in which extents lie, on a store of one device.
func (s *Store) grownSlots(a Area, extents []layout.Extent) []layout.SlotRun {
	if s.devs.Meta != nil {
		return nil
	}
	var runs []layout.SlotRun
	chunk := int64(s.geo.ChunkSize())
	for _, e := range extents {
		first := (int64(e.First)*block.PageSize - s.sb.DataOffset) / chunk
		end := (int64(e.End())*block.PageSize - s.sb.DataOffset + chunk - 1) / chunk
		runs = append(runs, layout.SlotRun{First: block.Slot(first), Len: uint64(end - first)})
	}
	return runs
}
