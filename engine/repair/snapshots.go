// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"maps"
	"slices"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

// entry is a snapshot as it was found.
type entry struct {
	layout.Snapshot
	sure       bool   // the newest superblock's tree has it, or a record since
	checkpoint uint64 // of the orphan that it was found in
	current    bool   // a record since the checkpoint has it
}

// table is the snapshots that were found.
type table struct {
	all        map[block.Generation]*entry
	incomplete bool // a part of the tree is lost
	recordedOf map[block.Generation]bool
	kept       map[block.Branch][]block.Generation // those that are read, by parent, ascending
	order      []block.Generation                  // all of the new store, ascending
	tags       map[block.Tag]bool
	names      map[string]bool
}

func newTable() *table {
	return &table{
		all: make(map[block.Generation]*entry), recordedOf: make(map[block.Generation]bool),
		kept: make(map[block.Branch][]block.Generation), tags: make(map[block.Tag]bool), names: make(map[string]bool),
	}
}

// orphan takes in an entry of a leaf that a checkpoint wrote and that has no parent.
func (t *table) orphan(s layout.Snapshot, checkpoint uint64) {
	if had := t.all[s.Generation]; had == nil || !had.sure && checkpoint > had.checkpoint {
		t.all[s.Generation] = &entry{Snapshot: s, checkpoint: checkpoint}
	}
}

// recorded takes in a record, in the order of the log. One since the checkpoint
// replaces what the tree says. An older one tells of a snapshot that the tree has lost,
// and of states: a snapshot that was given up is never taken back.
func (t *table) recorded(s layout.Snapshot, current bool) {
	t.recordedOf[s.Generation] = true
	had := t.all[s.Generation]
	switch {
	case current:
		t.all[s.Generation] = &entry{Snapshot: s, sure: true, current: true}
	case had == nil && (t.incomplete || s.Generation > t.newest()):
		t.all[s.Generation] = &entry{Snapshot: s}
	case had == nil:
	case had.sure:
		if given(s.State) && had.State != layout.SnapshotDeleting {
			had.State = s.State
		}
	default:
		if given(had.State) && s.State != layout.SnapshotDeleting {
			s.State = had.State
		}
		had.Snapshot = s
	}
}

func (t *table) newest() (g block.Generation) {
	for k := range t.all {
		g = max(g, k)
	}
	return g
}

// given reports whether a snapshot in that state has been given up.
func given(s layout.SnapshotState) bool {
	return s == layout.SnapshotDeleting || s == layout.SnapshotSquashed
}

// suspicion is that snapshots may have lost what nobody knows of.
type suspicion struct {
	all    bool             // of all snapshots
	branch block.Branch     // of what was written to this snapshot; zero: of the origin
	upTo   block.Generation // then those of the origin's snapshots up to this one
}

// settleSnapshots decides which snapshots the new store has, and which are damaged.
func (r *repair) settleSnapshots() error {
	if r.snaps.incomplete && !r.complete() {
		for _, e := range r.snaps.all {
			e.Damaged = e.Damaged || !e.sure
		}
	}
	size := r.old.sb.OriginSize
	r.generation = r.old.sb.Generation
	for _, g := range slices.Sorted(maps.Keys(r.snaps.all)) {
		r.generation = max(r.generation, g)
		if e := r.snaps.all[g]; e.Parent == 0 {
			size = max(size, min(e.Size, block.MaxOriginSize))
		}
		r.admit(r.snaps.all[g])
	}
	r.chunks = r.chunksOf(size)
	r.suspectRanges()
	for _, s := range r.suspicion {
		r.snaps.suspect(s)
	}
	return nil
}

// chunksOf returns the number of chunks of size bytes.
func (r *repair) chunksOf(size int64) uint64 {
	return (uint64(size) + 1<<r.old.sb.ChunkShift - 1) >> r.old.sb.ChunkShift
}

// complete reports whether the snapshots that were found must be those of the
// checkpoint, although its tree is lost: there are as many as the superblock counts,
// and every snapshot made since the oldest leaf that was used has a record.
func (r *repair) complete() bool {
	if !r.old.known {
		return false
	}
	live, newest, base := uint64(0), r.old.sb.Generation, block.Generation(0)
	for g, e := range r.snaps.all {
		if g <= newest && (e.State != layout.SnapshotDeleting || e.current) {
			live++
		}
		if !r.snaps.recordedOf[g] {
			base = max(base, g)
		}
	}
	for g := base + 1; g <= newest; g++ {
		if !r.snaps.recordedOf[g] {
			return false
		}
	}
	return live == r.old.sb.Roots[layout.KindSnapshots-1].Entries
}

// admit takes a snapshot into the new store, if it can be read there.
func (r *repair) admit(e *entry) {
	t, lost := r.snaps, ""
	parent := t.all[block.Generation(e.Parent)]
	switch {
	case e.State == layout.SnapshotDeleting:
		delete(t.all, e.Generation)
		return
	case e.Parent != 0 && (parent == nil || given(parent.State)):
		lost = "what it is a snapshot of is lost"
	case e.Size <= 0 || e.Size > block.MaxOriginSize:
		lost = "it has no size"
	}
	if _, taken := t.tags[e.Tag]; lost == "" && (taken || e.Name != "" && t.names[e.Name]) {
		lost = "another one has its tag or name"
	}
	if lost != "" {
		r.problem("snapshot %d of generation %d is lost: %s", e.Tag, e.Generation, lost)
		r.report.LostSnapshot = append(r.report.LostSnapshot, e.Snapshot)
		delete(t.all, e.Generation)
		return
	}
	t.tags[e.Tag], t.names[e.Name] = true, true
	t.order = append(t.order, e.Generation)
	if !given(e.State) {
		t.kept[e.Parent] = append(t.kept[e.Parent], e.Generation)
	}
}

// suspectRanges suspects the snapshots of which both trees may have lost the same
// exceptions.
func (r *repair) suspectRanges() {
	if len(r.lost[layout.KindExceptions])*len(r.lost[layout.KindChanges]) > maxPairs {
		r.suspicion = append(r.suspicion, suspicion{all: true})
		return
	}
	for _, e := range r.lost[layout.KindExceptions] {
		for _, c := range r.lost[layout.KindChanges] {
			low, high := max(e.low[0], c.low[0]), min(e.high[0], c.high[0]) // branches, both included
			if low == 0 {
				upTo := block.Generation(c.high[1])
				if c.high[0] > 0 {
					upTo = lastGeneration
				}
				r.suspicion = append(r.suspicion, suspicion{upTo: upTo})
			}
			for g := range r.snaps.all {
				if uint64(g) >= low && uint64(g) <= high {
					r.suspicion = append(r.suspicion, suspicion{branch: block.Branch(g)})
				}
			}
		}
	}
}

// maxPairs bounds how many pairs of lost parts are compared.
const maxPairs = 1 << 16

const lastGeneration = block.Generation(1<<64 - 1)

// suspect marks snapshots as damaged. Their own snapshots are marked in the end.
func (t *table) suspect(s suspicion) {
	for g, e := range t.all {
		switch {
		case s.all, s.branch != 0 && g == block.Generation(s.branch), s.branch == 0 && e.Parent == 0 && g <= s.upTo:
			e.Damaged = true
		}
	}
}

// inherit marks the snapshots of damaged and of lossy ones.
func (t *table) inherit() {
	for _, g := range t.order {
		if p := t.all[block.Generation(t.all[g].Parent)]; p != nil {
			t.all[g].Damaged = t.all[g].Damaged || p.Damaged
			t.all[g].Lossy = t.all[g].Lossy || p.Lossy
		}
	}
}

// anyIn reports whether a snapshot of the branch that is kept is in (after, upTo].
func (t *table) anyIn(b block.Branch, after, upTo block.Generation) bool {
	list := t.kept[b]
	if after >= upTo {
		return false
	}
	i, _ := slices.BinarySearch(list, after+1)
	return i < len(list) && list[i] <= upTo
}
