// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"math"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

// OriginGeneration, as the upper end of [Store.Changed], stands for the origin as
// it is now.
const OriginGeneration block.Generation = math.MaxUint64

// ChangedRun is Len chunks from Chunk on that all changed, or all did not.
type ChangedRun struct {
	Chunk   block.Chunk
	Len     uint64
	Changed bool
}

// changedStep bounds how many exceptions are looked at under one holding of the
// lock.
const changedStep = 128

// Changed appends to dst which chunks of [first, end) may differ between the
// snapshot of generation since and a later one of generation upTo, or the origin
// for [OriginGeneration]. Both are snapshots of the origin; what was written to
// either counts as changed. Neighbouring runs differ, and together they cover the range. A chunk that was overwritten with what it held counts as changed, and so
// does one whose overwriting has not happened yet.
//
// A chunk changed when the exception that serves since, its first with a
// generation not below, is older than upTo: its copy-out came before upTo
// existed. That exception is certain to be there only while since is live, which
// is why Changed returns [ErrNoSnapshot] when it is not, or is deleted meanwhile.
// The cost is one look-up for each chunk that has exceptions.
func (s *Store) Changed(since, upTo block.Generation, first, end block.Chunk, dst []ChangedRun) ([]ChangedRun, error) {
	for first < end {
		err := s.resolve(func() error {
			ends, err := s.endsOfChange(since, upTo)
			if err != nil {
				return err
			}
			for n := 0; n < changedStep && first < end; n++ {
				run, err := s.changedOne(ends, upTo, first, end)
				if err != nil {
					return err
				}
				dst = appendChanged(dst, run)
				first += block.Chunk(run.Len)
			}
			return nil
		})
		if err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// endsOfChange returns the snapshots between which changes are asked for: one, if
// the second is the origin.
func (s *Store) endsOfChange(since, upTo block.Generation) ([]*snapshot, error) {
	var ends []*snapshot
	for i, g := range []block.Generation{since, upTo} {
		if i == 1 && g == OriginGeneration {
			break
		}
		snap := s.snaps.get(g)
		if snap == nil || snap.State != layout.SnapshotLive || snap.Parent != 0 {
			return nil, fmt.Errorf("snapshot of the origin of generation %d: %w", g, ErrNoSnapshot)
		}
		ends = append(ends, snap)
	}
	return ends, nil
}

// changedOne says whether chunk c changed, together with the chunks after it that
// are known to have no exception and so did not.
func (s *Store) changedOne(ends []*snapshot, upTo block.Generation, c, end block.Chunk) (ChangedRun, error) {
	for _, snap := range ends {
		e, ok, err := s.index.Exceptions.Ceiling(layout.Exception{Branch: snap.branch(), Chunk: c})
		switch {
		case err != nil:
			return ChangedRun{}, err
		case ok && e.Branch == snap.branch() && e.Chunk == c:
			return ChangedRun{Chunk: c, Len: 1, Changed: true}, nil
		case ok && e.Branch == snap.branch():
			end = min(end, e.Chunk)
		}
	}
	e, ok, err := s.index.Exceptions.Ceiling(layout.Exception{Chunk: c, Generation: ends[0].Generation})
	switch {
	case err != nil:
		return ChangedRun{}, err
	case !ok || e.Branch != 0 || e.Chunk >= end:
		return ChangedRun{Chunk: c, Len: uint64(end - c)}, nil
	case e.Chunk > c:
		return ChangedRun{Chunk: c, Len: uint64(e.Chunk - c)}, nil
	}
	return ChangedRun{Chunk: c, Len: 1, Changed: e.Generation < upTo}, nil
}

// appendChanged joins run to the last one where it goes on.
func appendChanged(dst []ChangedRun, run ChangedRun) []ChangedRun {
	if n := len(dst); n > 0 && dst[n-1].Changed == run.Changed && dst[n-1].Chunk+block.Chunk(dst[n-1].Len) == run.Chunk {
		dst[n-1].Len += run.Len
		return dst
	}
	return append(dst, run)
}
