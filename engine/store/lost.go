// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"slices"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

// LostChunk is a chunk of the origin that could not be read when it was to be copied
// out. Reads of it in the snapshots that need it are errors.
type LostChunk struct {
	Chunk      block.Chunk
	Generation block.Generation // of its exception
	Snapshots  []block.Tag      // of the origin that have lost it, oldest first; at most MaxBadSnapshots
	More       int              // snapshots beside those
}

// MaxLostChunks bounds how many lost chunks a store remembers one by one.
const MaxLostChunks = 256

// losses are the chunks that were lost since the store was opened, and those that its
// recovery found in the log.
type losses struct {
	count  uint64
	chunks []LostChunk // the last MaxLostChunks of them
}

// insertLost adds the exception of a chunk that is lost to the snapshots of the
// origin after before, and marks those and their own as lossy, in the same
// checkpoint. The lock is held. Only what precedes the insert can miss a page, or
// the insert itself: nothing is told twice.
func (s *Store) insertLost(before block.Generation, e layout.Exception) error {
	readers := s.snaps.readersOf(s.geo.Offset(e.Chunk), before, e.Generation)
	for _, snap := range s.snaps.withOwn(readers) {
		if snap.Lossy {
			continue
		}
		lossy := snap.Snapshot
		lossy.Lossy = true
		if _, err := s.snaps.tree.Insert(lossy); err != nil {
			return err
		}
		snap.Lossy = true
	}
	if err := s.index.Insert(e); err != nil {
		return err
	}
	l := LostChunk{Chunk: e.Chunk, Generation: e.Generation, More: max(0, len(readers)-MaxBadSnapshots)}
	for _, snap := range readers[:len(readers)-l.More] {
		l.Snapshots = append(l.Snapshots, snap.Tag)
	}
	s.noteLost(l)
	return nil
}

// noteLost remembers and tells of a lost chunk. The lock is held.
func (s *Store) noteLost(l LostChunk) {
	s.lost.count++
	if len(s.lost.chunks) == MaxLostChunks {
		s.lost.chunks = slices.Delete(s.lost.chunks, 0, 1)
	}
	s.lost.chunks = append(s.lost.chunks, l)
	ev := Event{Kind: EventLostChunk, Text: l.String()}
	if len(l.Snapshots) > 0 {
		ev.Tag = l.Snapshots[0]
	}
	s.emit(ev)
}

// String says in a sentence what was lost.
func (l LostChunk) String() string {
	more := ""
	if l.More > 0 {
		more = fmt.Sprintf(" and %d more", l.More)
	}
	return fmt.Sprintf("chunk %d of snapshots %v%s: the origin could not be read there before it was written to", l.Chunk, l.Snapshots, more)
}

// readersOf returns the live snapshots of the origin with a generation in (after,
// upTo] and the byte at off, oldest first.
func (t *table) readersOf(off int64, after, upTo block.Generation) (list []*snapshot) {
	live := t.live[0]
	i, _ := slices.BinarySearch(live, after+1)
	for ; i < len(live) && live[i] <= upTo; i++ {
		if snap := t.get(live[i]); snap.Size > off {
			list = append(list, snap)
		}
	}
	return list
}

// withOwn returns the snapshots together with their own, and those of these.
func (t *table) withOwn(list []*snapshot) []*snapshot {
	all := slices.Clone(list)
	for i := 0; i < len(all); i++ {
		for _, g := range t.live[all[i].branch()] {
			all = append(all, t.get(g))
		}
	}
	return all
}
