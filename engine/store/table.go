// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"math"
	"slices"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/btree"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/wire"
)

// table is the snapshots of a store, all in memory too: about 200 bytes each.
type table struct {
	tree   *btree.Tree[layout.Snapshot]
	all    []*snapshot                         // ascending by generation
	live   map[block.Branch][]block.Generation // of each branch those that can be read, or may be: ascending
	byTag  map[block.Tag]*snapshot             // those that are listed
	byName map[string]*snapshot                // those that are listed and have a name
	// stalled are the squashed snapshots that a client may still read where they were.
	stalled []*snapshot
	// reclaiming counts the snapshots whose exceptions are still to be freed.
	reclaiming int
	stairs     []stair // of the origin's live snapshots, or nil: not known
	// doubtful is the generation of a snapshot of the origin of which nobody knows
	// whether it exists, because its record could not be written for sure; or zero.
	doubtful block.Generation
}

// snapshot is a snapshot and who uses it.
type snapshot struct {
	layout.Snapshot
	opened  []*opened
	current block.Generation // of its branch: see [wire.SnapshotState]
	written written
	// unsynced are the chunks written to it of which a crash would forget where
	// they are.
	unsynced []layout.Copy
	synced   uint64 // how many chunks were written before those
	// reclaimed says that nothing is left to be freed of one that is squashed.
	reclaimed bool
}

// written says whether a branch has entries.
type written uint8

const (
	unknown written = iota
	never
	some
)

// branch returns the branch that holds what is written to the snapshot.
func (s *snapshot) branch() block.Branch { return block.Branch(s.Generation) }

// listed reports whether a user is shown the snapshot.
func (s *snapshot) listed() bool { return s.State != layout.SnapshotDeleting }

// readable reports whether the snapshot's content is preserved.
func (s *snapshot) readable() bool {
	return s.State == layout.SnapshotLive || s.State == layout.SnapshotPrepared
}

// reclaimable reports whether the snapshot may have exceptions to be freed.
func (s *snapshot) reclaimable() bool {
	return s.State == layout.SnapshotDeleting || s.State == layout.SnapshotSquashed && !s.reclaimed && s.fenced()
}

// fenced reports whether no client reads or writes any more where the content was.
func (s *snapshot) fenced() bool {
	return !slices.ContainsFunc(s.opened, func(o *opened) bool { return !o.fenced })
}

// stalled reports whether the snapshot was squashed, and a client that has not heard
// of it may still read its content.
func (s *snapshot) stalled() bool { return s.State == layout.SnapshotSquashed && !s.fenced() }

// writer returns who has the snapshot open for writing, or nil.
func (s *snapshot) writer() *opened {
	for _, o := range s.opened {
		if o.write {
			return o
		}
	}
	return nil
}

// syncedUpTo takes in that of the chunks written to the snapshot the first end are
// durable.
func (s *snapshot) syncedUpTo(end uint64) {
	if end > s.synced {
		s.unsynced = slices.Delete(s.unsynced, 0, int(end-s.synced))
		s.synced = end
	}
}

func newTable(tree *btree.Tree[layout.Snapshot]) table {
	return table{
		tree: tree, live: make(map[block.Branch][]block.Generation),
		byTag: make(map[block.Tag]*snapshot), byName: make(map[string]*snapshot),
	}
}

func (t *table) find(g block.Generation) (int, bool) {
	return slices.BinarySearchFunc(t.all, g, func(s *snapshot, g block.Generation) int {
		return cmp.Compare(s.Generation, g)
	})
}

// get returns the snapshot of a generation, or nil.
func (t *table) get(g block.Generation) *snapshot {
	if i, ok := t.find(g); ok {
		return t.all[i]
	}
	return nil
}

// named returns the listed snapshot that a user names, or nil.
func (t *table) named(ref wire.SnapshotRef) *snapshot {
	if ref.Name != "" {
		return t.byName[ref.Name]
	}
	return t.byTag[ref.Tag]
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
		t.all = slices.Insert(t.all, i, &snapshot{})
	}
	s := t.all[i]
	t.unindex(s)
	s.Snapshot = e
	t.index(s)
}

// index adds s to what is found by state.
func (t *table) index(s *snapshot) {
	if s.readable() {
		live := t.live[s.Parent]
		if i, ok := slices.BinarySearch(live, s.Generation); !ok {
			t.live[s.Parent] = slices.Insert(live, i, s.Generation)
			t.climb(s, i == len(live))
		}
	}
	if s.listed() {
		t.byTag[s.Tag] = s
		if s.Name != "" {
			t.byName[s.Name] = s
		}
	}
	if s.reclaimable() {
		t.reclaiming++
	}
	if s.stalled() {
		t.stalled = append(t.stalled, s)
	}
}

// climb takes a new live snapshot into the stairs.
func (t *table) climb(s *snapshot, newest bool) {
	switch {
	case s.Parent != 0:
	case !newest:
		t.stairs = nil
	case t.stairs != nil:
		for n := len(t.stairs); n > 0 && t.stairs[n-1].size <= s.Size; n-- {
			t.stairs = t.stairs[:n-1]
		}
		t.stairs = append(t.stairs, stair{s.Generation, s.Size})
	}
}

// unindex is the reverse of index, for the entry that s has.
func (t *table) unindex(s *snapshot) {
	if s.Generation == 0 {
		return // it is new
	}
	if live := t.live[s.Parent]; s.readable() {
		if i, ok := slices.BinarySearch(live, s.Generation); ok {
			t.live[s.Parent] = slices.Delete(live, i, i+1)
			if slices.Contains(t.stairs, stair{s.Generation, s.Size}) {
				t.stairs = nil
			}
		}
		if len(t.live[s.Parent]) == 0 {
			delete(t.live, s.Parent)
		}
	}
	if t.byTag[s.Tag] == s {
		delete(t.byTag, s.Tag)
	}
	if t.byName[s.Name] == s {
		delete(t.byName, s.Name)
	}
	if s.reclaimable() {
		t.reclaiming--
	}
	if i := slices.Index(t.stalled, s); i >= 0 {
		t.stalled = slices.Delete(t.stalled, i, i+1)
	}
}

// remove forgets a snapshot that was deleted.
func (t *table) remove(g block.Generation) error {
	if _, err := t.tree.Delete(layout.Snapshot{Generation: g}); err != nil {
		return err
	}
	if i, ok := t.find(g); ok {
		t.unindex(t.all[i])
		t.all = slices.Delete(t.all, i, i+1)
	}
	return nil
}

// reclaimed notes that nothing is left to be freed of a squashed snapshot.
func (t *table) reclaimed(s *snapshot) { t.change(s, func() { s.reclaimed = true }) }

// change changes something about a snapshot that says whether it is to be reclaimed.
func (t *table) change(s *snapshot, to func()) {
	t.unindex(s)
	to()
	t.index(s)
}

// newest returns the generation of the newest live snapshot of the origin, or
// zero. One that is doubtful counts.
func (t *table) newest() block.Generation { return max(t.doubtful, t.newestOf(0)) }

// newestOf returns the generation of the newest live snapshot of a branch, or
// zero.
func (t *table) newestOf(b block.Branch) block.Generation {
	if live := t.live[b]; len(live) > 0 {
		return live[len(live)-1]
	}
	return 0
}

// stair is a live snapshot of the origin that is larger than all newer ones.
type stair struct {
	generation block.Generation
	size       int64
}

// stairsOf returns the stairs, oldest first, and so descending by size. There are few:
// sizes differ only where the origin was resized.
func (t *table) stairsOf() []stair {
	if t.stairs != nil || len(t.live[0]) == 0 {
		return t.stairs
	}
	for i := len(t.live[0]) - 1; i >= 0; i-- {
		s := t.get(t.live[0][i])
		if n := len(t.stairs); n == 0 || s.Size > t.stairs[n-1].size {
			t.stairs = append(t.stairs, stair{s.Generation, s.Size})
		}
	}
	slices.Reverse(t.stairs)
	return t.stairs
}

// newestWith returns the generation of the newest live snapshot of the origin that
// has the byte at off, or zero. One that is doubtful counts.
func (t *table) newestWith(off int64) block.Generation {
	stairs := t.stairsOf()
	for i := len(stairs) - 1; i >= 0; i-- {
		if stairs[i].size > off {
			return max(t.doubtful, stairs[i].generation)
		}
	}
	return t.doubtful
}

// largest returns the size of the largest live snapshot of the origin, or zero when
// there is none, or one that is doubtful.
func (t *table) largest() int64 {
	stairs := t.stairsOf()
	if t.doubtful != 0 || len(stairs) == 0 {
		return 0
	}
	return stairs[0].size
}

// anyWith reports whether a live snapshot of the origin has a generation in (after,
// upTo] and the byte at off.
func (t *table) anyWith(off int64, after, upTo block.Generation) bool {
	live := t.live[0]
	i, _ := slices.BinarySearch(live, upTo)
	if i < len(live) && live[i] == upTo {
		i++
	}
	for i--; i >= 0 && live[i] > after; i-- {
		if t.get(live[i]).Size > off {
			return true
		}
	}
	return false
}

// anyIn reports whether a live snapshot of the branch has a generation in (after,
// upTo].
func (t *table) anyIn(b block.Branch, after, upTo block.Generation) bool {
	if after == math.MaxUint64 {
		return false
	}
	live := t.live[b]
	i, _ := slices.BinarySearch(live, after+1)
	return i < len(live) && live[i] <= upTo
}

// anyStalled reports whether a stalled snapshot of the branch has a generation in
// (after, upTo] and the byte at off.
func (t *table) anyStalled(b block.Branch, off int64, after, upTo block.Generation) bool {
	return slices.ContainsFunc(t.stalled, func(s *snapshot) bool {
		return s.Parent == b && s.Generation > after && s.Generation <= upTo && s.Size > off
	})
}

// nextLive returns the generation of the branch's first live snapshot after g.
func (t *table) nextLive(b block.Branch, g block.Generation) (block.Generation, bool) {
	live := t.live[b]
	i, _ := slices.BinarySearch(live, g+1)
	if i == len(live) {
		return 0, false
	}
	return live[i], true
}

// lastLive returns the generation of the branch's last live snapshot before g, or
// zero.
func (t *table) lastLive(b block.Branch, g block.Generation) block.Generation {
	live := t.live[b]
	i, _ := slices.BinarySearch(live, g)
	if i == 0 {
		return 0
	}
	return live[i-1]
}

// readable returns the number of snapshots that can be read.
func (t *table) readable() int {
	n := 0
	for _, live := range t.live {
		n += len(live)
	}
	return n
}

// toReclaim returns the oldest snapshot whose exceptions are still to be freed.
func (t *table) toReclaim() *snapshot {
	if t.reclaiming == 0 {
		return nil
	}
	for _, s := range t.all {
		if s.reclaimable() {
			return s
		}
	}
	return nil
}
