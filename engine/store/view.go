// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"math"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/mark"
	"zumastor.org/zumastor/engine/wire"
)

// Map appends where the chunks [first, end) of an open snapshot are. The error
// wraps [ErrSquashed] when it was given up for space.
func (s *Store) Map(h wire.Handle, first, end block.Chunk, dst []wire.Mapping) ([]wire.Mapping, error) {
	mark.MapBegin(uint64(end - first))
	defer mark.MapEnd()
	err := s.resolve(func() error {
		o, err := s.handle(h)
		if err != nil {
			return err
		}
		if !o.snap.readable() {
			return fmt.Errorf("snapshot %d: %w", o.snap.Tag, ErrSquashed)
		}
		for first < end {
			m, err := s.mapOne(o.snap, first, end)
			if err != nil {
				return err
			}
			dst = appendMapping(dst, m)
			first += block.Chunk(m.Len)
		}
		return nil
	})
	return dst, err
}

// MapUnheld is [Store.Map] for a live snapshot that its caller has not opened, and names by
// its generation: it may be deleted or squashed at any time, and the store does not wait for
// who reads it. What was read where a mapping says is right if, after the read, the
// mapping is the same. The error wraps [ErrNoSnapshot] when the snapshot is not there.
func (s *Store) MapUnheld(g block.Generation, first, end block.Chunk, dst []wire.Mapping) ([]wire.Mapping, error) {
	err := s.resolve(func() error {
		snap := s.snaps.get(g)
		if snap == nil || snap.State != layout.SnapshotLive {
			return fmt.Errorf("snapshot of generation %d: %w", g, ErrNoSnapshot)
		}
		for first < end {
			m, err := s.mapOne(snap, first, end)
			if err != nil {
				return err
			}
			dst = appendMapping(dst, m)
			first += block.Chunk(m.Len)
		}
		return nil
	})
	return dst, err
}

// mapOne returns where chunk c of a snapshot is, together with the chunks after it
// that are known to be shared as well. What was written to the snapshot comes first,
// then what its parent had when it was made, and so on up to the origin.
func (s *Store) mapOne(snap *snapshot, c, end block.Chunk) (wire.Mapping, error) {
	upTo := block.Generation(math.MaxUint64)
	at := snap
	for {
		hasEntries, err := s.hasEntries(at)
		if err != nil {
			return wire.Mapping{}, err
		}
		if hasEntries {
			e, ok, err := s.entryUpTo(at.branch(), c, upTo)
			if err != nil {
				return wire.Mapping{}, err
			}
			if ok {
				m := stored(e)
				m.Owned = at == snap && m.Kind == wire.Stored && !s.readByOthers(e)
				return m, nil
			}
			if end, err = s.nextEntry(at.branch(), c, end); err != nil {
				return wire.Mapping{}, err
			}
		}
		if at.Parent == 0 {
			return s.mapOrigin(at.Generation, c, end)
		}
		upTo = at.Generation - 1
		parent := s.snaps.get(block.Generation(at.Parent))
		if parent == nil {
			return wire.Mapping{}, fmt.Errorf("%w: snapshot %d is one of generation %d, which does not exist", layout.ErrCorrupt, at.Tag, at.Parent)
		}
		at = parent
	}
}

// readByOthers reports whether a snapshot of a branch reads the branch's newest entry of a
// chunk, or a client may that has not heard that its snapshot was squashed.
func (s *Store) readByOthers(e layout.Exception) bool {
	return s.snaps.newestOf(e.Branch) > e.Generation || s.snaps.anyStalled(e.Branch, s.geo.Offset(e.Chunk), e.Generation, math.MaxUint64)
}

// mapOrigin is mapOne for a snapshot of the origin to which nothing was written.
func (s *Store) mapOrigin(g block.Generation, c, end block.Chunk) (wire.Mapping, error) {
	e, ok, err := s.index.Exceptions.Ceiling(layout.Exception{Chunk: c, Generation: g})
	switch {
	case err != nil:
		return wire.Mapping{}, err
	case !ok || e.Branch != 0 || e.Chunk >= end:
		return wire.Mapping{Chunk: c, Len: uint64(end - c), Kind: wire.Shared}, nil
	case e.Chunk > c:
		return wire.Mapping{Chunk: c, Len: uint64(e.Chunk - c), Kind: wire.Shared}, nil
	}
	return stored(e), nil
}

// stored returns where the chunk of an exception is.
func stored(e layout.Exception) wire.Mapping {
	if e.Slot == layout.LostSlot {
		return wire.Mapping{Chunk: e.Chunk, Len: 1, Kind: wire.Lost}
	}
	return wire.Mapping{Chunk: e.Chunk, Len: 1, Slot: e.Slot}
}

// hasEntries reports whether anything was written to the snapshot. The tree is
// asked once.
func (s *Store) hasEntries(snap *snapshot) (bool, error) {
	if snap.written == unknown {
		e, ok, err := s.index.Exceptions.Ceiling(layout.Exception{Branch: snap.branch()})
		if err != nil {
			return false, err
		}
		snap.written = never
		if ok && e.Branch == snap.branch() {
			snap.written = some
		}
	}
	return snap.written == some, nil
}

// entryUpTo returns the newest entry of a chunk of a branch that is not the
// origin, of those written in generation upTo or before.
func (s *Store) entryUpTo(b block.Branch, c block.Chunk, upTo block.Generation) (layout.Exception, bool, error) {
	e, ok, err := s.index.Exceptions.Floor(layout.Exception{Branch: b, Chunk: c, Generation: upTo})
	return e, ok && e.Branch == b && e.Chunk == c, err
}

// nextEntry returns the first chunk after c that has an entry in the branch, or
// end.
func (s *Store) nextEntry(b block.Branch, c, end block.Chunk) (block.Chunk, error) {
	e, ok, err := s.index.Exceptions.Ceiling(layout.Exception{Branch: b, Chunk: c + 1})
	if err != nil || !ok || e.Branch != b {
		return end, err
	}
	return min(end, e.Chunk), nil
}

// appendMapping joins m to the last mapping where it goes on.
func appendMapping(dst []wire.Mapping, m wire.Mapping) []wire.Mapping {
	if n := len(dst); n > 0 {
		last := &dst[n-1]
		next := last.Chunk+block.Chunk(last.Len) == m.Chunk && last.Kind == m.Kind && last.Owned == m.Owned
		if next && (m.Kind != wire.Stored || last.Slot+block.Slot(last.Len) == m.Slot) {
			last.Len += m.Len
			return dst
		}
	}
	return append(dst, m)
}
