// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"math"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/wire"
)

// ChunkRun is Len chunks from Chunk on.
type ChunkRun struct {
	Chunk block.Chunk
	Len   uint64
}

func (r ChunkRun) end() block.Chunk { return r.Chunk + block.Chunk(r.Len) }

// ChangeQuery asks in which chunks To may differ from From.
type ChangeQuery struct {
	From  *wire.SnapshotRef // nil: nothing, so that all of To is listed
	To    *wire.SnapshotRef // nil: the origin as it is now
	First block.Chunk       // the first chunk that is of interest
	Limit int               // of the runs answered with; zero: no limit
}

// ChangeList is the answer to a [ChangeQuery].
type ChangeList struct {
	From, To       layout.Snapshot // zero for nothing, and for the origin
	FromSize, Size int64           // of either, in bytes
	ChunkSize      int
	Runs           []ChunkRun  // ascending, not adjacent, none beyond To's end
	Next           block.Chunk // where a query for the rest is to begin
	More           bool        // there is a rest
}

// changeStep bounds how many exceptions are looked at under one holding of the lock.
const changeStep = 256

// ChangeList lists the chunks of [ChangeQuery.To] that may differ from From's. Each
// is a snapshot of the origin or of another snapshot, in any order and of any two
// branches; what was written to either counts. Every chunk that differs is listed;
// one that was overwritten with what it held is listed too, and so is one of the
// origin whose overwriting has not happened yet. Where the sizes differ, what is
// beyond the smaller end is listed, up to To's end.
//
// The cost is one look-up for each exception made between the two, however many
// others there are, and one bit of memory for each chunk where such are, in pages
// of 4 KiB. I/O goes on meanwhile. Both must stay live: the error wraps
// [ErrNoSnapshot] or [ErrSquashed] if one goes, and [ErrRestoring] for the origin
// while it is being restored.
func (s *Store) ChangeList(q ChangeQuery) (*ChangeList, error) {
	var list *ChangeList
	var stretches []stretch
	if err := s.resolve(func() (err error) {
		list, stretches, err = s.planChanges(q)
		return err
	}); err != nil {
		return nil, err
	}
	set := &chunkSet{}
	for _, st := range stretches {
		for more := true; more; {
			err := s.resolve(func() (err error) {
				if err := s.stillThere(list); err != nil {
					return err
				}
				more, err = s.gather(&st, func(c block.Chunk) {
					if c >= q.First && s.geo.Offset(c) < list.Size {
						set.add(c)
					}
				})
				return err
			})
			if err != nil {
				return nil, err
			}
		}
	}
	limit := q.Limit
	if limit <= 0 {
		limit = math.MaxInt
	}
	list.Runs, list.Next, list.More = set.runs(limit)
	list.addTail(q, s.geo)
	return list, nil
}

// addTail adds what is beyond From's end, in which exceptions say nothing.
func (l *ChangeList) addTail(q ChangeQuery, geo block.Geometry) {
	if l.More || l.FromSize >= l.Size {
		return
	}
	tail := max(q.First, block.Chunk(l.FromSize>>geo.ChunkShift()))
	end := block.Chunk((l.Size + int64(geo.ChunkSize()) - 1) >> geo.ChunkShift())
	for n := len(l.Runs); n > 0 && l.Runs[n-1].end() >= tail; n = len(l.Runs) {
		tail = min(tail, l.Runs[n-1].Chunk)
		l.Runs = l.Runs[:n-1]
	}
	switch {
	case tail >= end:
	case q.Limit > 0 && len(l.Runs) == q.Limit:
		l.Next, l.More = tail, true
	default:
		l.Runs = append(l.Runs, ChunkRun{Chunk: tail, Len: uint64(end - tail)})
	}
}

// stretch is what to read of the change tree: the changes of a branch made in the
// generations from.Generation to last, from from on.
type stretch struct {
	from layout.Change
	last block.Generation
}

// gather calls add for the next changes of a stretch, and reports whether there are
// more. The lock is held.
func (s *Store) gather(st *stretch, add func(block.Chunk)) (more bool, err error) {
	var few [changeStep]layout.Change
	changes, err := s.index.Changes.Scan(st.from, changeStep, few[:0])
	if err != nil {
		return false, err
	}
	for _, c := range changes {
		if c.Branch != st.from.Branch || c.Generation > st.last {
			return false, nil
		}
		add(c.Chunk)
	}
	if len(changes) < changeStep {
		return false, nil
	}
	st.from = changes[len(changes)-1]
	st.from.Chunk++
	return true, nil
}

// planChanges finds the two ends, and what to read of the change tree. The lock is
// held.
func (s *Store) planChanges(q ChangeQuery) (*ChangeList, []stretch, error) {
	list := &ChangeList{Size: s.sb.OriginSize, ChunkSize: s.geo.ChunkSize()}
	var to, from *snapshot
	var err error
	if q.To == nil {
		err = s.notRestoring()
	} else if to, err = s.present(*q.To); err == nil {
		list.To, list.Size = to.Snapshot, to.Size
	}
	if err != nil || q.From == nil {
		return list, nil, err
	}
	if from, err = s.present(*q.From); err != nil {
		return nil, nil, err
	}
	list.From, list.FromSize = from.Snapshot, from.Size
	a, err := s.ancestry(from)
	if err != nil {
		return nil, nil, err
	}
	b, err := s.ancestry(to)
	return list, between(a, b), err
}

// stillThere returns an error unless both ends of a list are what they were. The
// lock is held.
func (s *Store) stillThere(l *ChangeList) error {
	for _, end := range []layout.Snapshot{l.From, l.To} {
		if end.Generation == 0 {
			continue
		}
		if snap := s.snaps.get(end.Generation); snap == nil || !snap.listed() {
			return fmt.Errorf("snapshot %d: %w any more", end.Tag, ErrNoSnapshot)
		} else if !snap.readable() {
			return fmt.Errorf("snapshot %d: %w", end.Tag, ErrSquashed)
		}
	}
	if l.To.Generation == 0 {
		return s.notRestoring()
	}
	return nil
}

// level is a place where a snapshot's content is: what was written to a branch in
// generation upTo and before. On the origin's branch it is the other way round: the
// exceptions of generation upTo and after.
type level struct {
	branch block.Branch
	upTo   block.Generation
}

// ancestry returns where a snapshot's content is, itself first and the origin last;
// of nil, the origin as it is now. The lock is held.
func (s *Store) ancestry(snap *snapshot) ([]level, error) {
	if snap == nil {
		return []level{{0, OriginGeneration}}, nil
	}
	var path []level
	for upTo := block.Generation(math.MaxUint64); ; {
		path = append(path, level{snap.branch(), upTo})
		if snap.Parent == 0 {
			return append(path, level{0, snap.Generation}), nil
		}
		upTo = snap.Generation - 1
		parent := s.snaps.get(block.Generation(snap.Parent))
		if parent == nil {
			return nil, fmt.Errorf("%w: snapshot %d is one of generation %d, which does not exist", layout.ErrCorrupt, snap.Tag, snap.Parent)
		}
		snap = parent
	}
}

// between returns the stretches of changes on the ways from a and b up to what they
// have in common.
func between(a, b []level) []stretch {
	var list []stretch
	own := func(path []level) {
		for _, l := range path {
			list = append(list, stretch{layout.Change{Branch: l.branch}, l.upTo})
		}
	}
	i, j := len(a)-1, len(b)-1
	for i > 0 && j > 0 && a[i] == b[j] && a[i-1].branch == b[j-1].branch {
		i, j = i-1, j-1
	}
	own(a[:i])
	own(b[:j])
	low, high := min(a[i].upTo, b[j].upTo), max(a[i].upTo, b[j].upTo)
	switch {
	case low == high:
	case a[i].branch == 0:
		list = append(list, stretch{layout.Change{Generation: low}, high - 1})
	default:
		list = append(list, stretch{layout.Change{Branch: a[i].branch, Generation: low + 1}, high})
	}
	return list
}
