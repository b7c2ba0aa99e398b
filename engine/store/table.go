// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"slices"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/btree"
	"zumastor.org/zumastor/engine/layout"
)

// table is the snapshots of a store, all in memory too: about 100 bytes each.
type table struct {
	tree  *btree.Tree[layout.Snapshot]
	all   []*snapshot // ascending by generation
	live  []block.Generation
	byTag map[block.Tag]*snapshot // live ones
	// doubtful is the generation of a snapshot of which nobody knows whether it
	// exists, because its record could not be written for sure; or zero.
	doubtful block.Generation
}

// snapshot is a snapshot and who reads it.
type snapshot struct {
	layout.Snapshot
	users int
}

func (t *table) find(g block.Generation) (int, bool) {
	return slices.BinarySearchFunc(t.all, g, func(s *snapshot, g block.Generation) int {
		return cmp.Compare(s.Generation, g)
	})
}

// store adds a snapshot to tree and memory, or takes over its changed entry.
func (t *table) store(e layout.Snapshot) error {
	if _, err := t.tree.Insert(e); err != nil {
		return err
	}
	t.put(e)
	return nil
}

// put is store without the tree.
func (t *table) put(e layout.Snapshot) {
	i, ok := t.find(e.Generation)
	if !ok {
		t.all = slices.Insert(t.all, i, &snapshot{Snapshot: e})
	} else {
		t.all[i].Snapshot = e
	}
	t.index(t.all[i])
}

// index keeps the live snapshots in step with s.
func (t *table) index(s *snapshot) {
	if t.byTag == nil {
		t.byTag = make(map[block.Tag]*snapshot)
	}
	i, ok := slices.BinarySearch(t.live, s.Generation)
	switch live := s.State == layout.SnapshotLive; {
	case live && !ok:
		t.live = slices.Insert(t.live, i, s.Generation)
		t.byTag[s.Tag] = s
	case !live && ok:
		t.live = slices.Delete(t.live, i, i+1)
		delete(t.byTag, s.Tag)
	}
}

// remove forgets a snapshot that is not live.
func (t *table) remove(g block.Generation) error {
	if _, err := t.tree.Delete(layout.Snapshot{Generation: g}); err != nil {
		return err
	}
	if i, ok := t.find(g); ok {
		t.all = slices.Delete(t.all, i, i+1)
	}
	return nil
}

// newest returns the generation of the newest live snapshot, or zero. One that is
// doubtful counts.
func (t *table) newest() block.Generation {
	if len(t.live) == 0 {
		return t.doubtful
	}
	return max(t.doubtful, t.live[len(t.live)-1])
}

// needs reports whether a live snapshot's generation is in (after, upTo].
func (t *table) needs(after, upTo block.Generation) bool {
	i, _ := slices.BinarySearch(t.live, after+1)
	return i < len(t.live) && t.live[i] <= upTo
}

// nextLive returns the generation of the first live snapshot after g.
func (t *table) nextLive(g block.Generation) (block.Generation, bool) {
	i, _ := slices.BinarySearch(t.live, g+1)
	if i == len(t.live) {
		return 0, false
	}
	return t.live[i], true
}

// deleting returns the oldest snapshot whose exceptions are still to be freed.
func (t *table) deleting() *snapshot {
	if len(t.all) == len(t.live) {
		return nil
	}
	for _, s := range t.all {
		if s.State == layout.SnapshotDeleting {
			return s
		}
	}
	return nil
}
