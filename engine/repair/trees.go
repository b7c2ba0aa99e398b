// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"cmp"
	"math"
	"slices"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

var kindNames = [...]string{"", "exceptions", "changes", "slots", "snapshots", "leases", "digests"}

// key is an entry's place in its tree's order: branch, chunk, generation of an
// exception; branch, generation, chunk of a change.
type key [3]uint64

var lastKey = key{math.MaxUint64, math.MaxUint64, math.MaxUint64}

func compareKeys(a, b key) int { return slices.Compare(a[:], b[:]) }

func exceptionKey(e layout.Exception) key {
	return key{uint64(e.Branch), uint64(e.Chunk), uint64(e.Generation)}
}

func changeKey(c layout.Change) key {
	return key{uint64(c.Branch), uint64(c.Generation), uint64(c.Chunk)}
}

// keyRange is the keys [low, high).
type keyRange struct{ low, high key }

// ranges are parts of a tree, ascending.
type ranges []keyRange

func (r *ranges) add(low, high key) { *r = append(*r, keyRange{low, high}) }

func (r ranges) has(k key) bool {
	i, _ := slices.BinarySearchFunc(r, k, func(e keyRange, k key) int { return cmp.Or(compareKeys(e.high, k), -1) })
	return i < len(r) && compareKeys(r[i].low, k) <= 0
}

// walk visits what can be reached of a tree.
type walk[E any] struct {
	*repair
	codec layout.EntryCodec[E]
	kind  uint8
	key   func(E) key
	leaf  func(h layout.PageHeader, entries []E) error
}

// run visits the tree. What cannot be reached is added to the kind's lost ranges.
func (w *walk[E]) run() error {
	root := w.old.sb.Roots[w.kind-1]
	if root.Page == 0 {
		return nil
	}
	return w.visit(root.Page, root.Level, w.old.sb.Checkpoint, key{}, lastKey)
}

func (w *walk[E]) visit(p block.Page, level uint8, latest uint64, low, high key) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	page, ok := w.read(p, level, latest, low, high)
	if !ok {
		w.report.LostPages++
		w.problem("page %d of the tree of %s is lost", p, kindNames[w.kind])
		w.lost[w.kind].add(low, high)
		return nil
	}
	if level == 0 {
		return w.leaf(page.PageHeader, page.Entries)
	}
	for i, child := range page.Children {
		from, to := low, high
		if i > 0 {
			from = w.key(page.Entries[i])
		}
		if i+1 < len(page.Entries) {
			to = w.key(page.Entries[i+1])
		}
		if err := w.visit(child, level-1, page.Checkpoint, from, to); err != nil {
			return err
		}
	}
	return nil
}

// read returns a page, if it is what its parent says.
func (w *walk[E]) read(p block.Page, level uint8, latest uint64, low, high key) (page layout.TreePage[E], ok bool) {
	if !w.old.sb.HasTreePage(p) || !w.reached.add(uint64(p)) {
		return page, false
	}
	buf, err := w.old.meta.read(int64(p)*block.PageSize, block.PageSize)
	if err != nil {
		w.reached.remove(uint64(p))
		return page, false
	}
	w.sawBytes(block.PageSize)
	page, err = layout.DecodePage(w.codec, layout.PageHeader{Kind: w.kind, Level: level, Page: p, Identity: w.old.sb.UUID}, buf)
	if err != nil || page.Checkpoint > latest {
		w.reached.remove(uint64(p))
		return page, false
	}
	first, last := w.key(page.Entries[0]), w.key(page.Entries[len(page.Entries)-1])
	if level > 0 {
		first = max3(first, low)
	}
	return page, compareKeys(first, low) >= 0 && (high == lastKey || compareKeys(last, high) < 0)
}

func max3(a, b key) key {
	if compareKeys(a, b) < 0 {
		return b
	}
	return a
}

// readTrees collects the snapshots and exceptions of the checkpoint, what is known to
// be lost of them and, where something is, what was left of older pages.
func (r *repair) readTrees() error {
	snapshots := walk[layout.Snapshot]{
		repair: r, codec: layout.SnapshotCodec{}, kind: layout.KindSnapshots,
		key: func(s layout.Snapshot) key { return key{uint64(s.Generation)} },
		leaf: func(_ layout.PageHeader, entries []layout.Snapshot) error {
			for _, s := range entries {
				r.snaps.all[s.Generation] = &entry{Snapshot: s, sure: true}
			}
			return nil
		},
	}
	if err := snapshots.run(); err != nil {
		return err
	}
	r.snaps.incomplete = r.snaps.incomplete || len(r.lost[layout.KindSnapshots]) > 0
	exceptions := walk[layout.Exception]{
		repair: r, codec: layout.ExceptionCodec{}, kind: layout.KindExceptions, key: exceptionKey,
		leaf: func(h layout.PageHeader, entries []layout.Exception) error {
			for _, e := range entries {
				if err := r.finds.add(find{e, fromTree, h.Checkpoint}); err != nil {
					return err
				}
			}
			return nil
		},
	}
	if err := exceptions.run(); err != nil {
		return err
	}
	if len(r.lost[layout.KindExceptions]) > 0 {
		if err := r.readChanges(); err != nil {
			return err
		}
	}
	if len(r.lost[layout.KindExceptions]) > 0 || r.snaps.incomplete {
		return r.readOrphans()
	}
	return nil
}

// readChanges collects the names of exceptions that are lost.
func (r *repair) readChanges() error {
	changes := walk[layout.Change]{
		repair: r, codec: layout.ChangeCodec{}, kind: layout.KindChanges, key: changeKey,
		leaf: func(h layout.PageHeader, entries []layout.Change) error { return r.addChanges(h, entries) },
	}
	return changes.run()
}

// addChanges adds those of the changes whose exceptions are lost.
func (r *repair) addChanges(h layout.PageHeader, entries []layout.Change) error {
	for _, c := range entries {
		e := layout.Exception{Branch: c.Branch, Chunk: c.Chunk, Generation: c.Generation, Slot: layout.LostSlot}
		if !r.lost[layout.KindExceptions].has(exceptionKey(e)) {
			continue
		}
		if err := r.finds.add(find{e, fromChanges, h.Checkpoint}); err != nil {
			return err
		}
	}
	return nil
}

// readOrphans looks at all pages that could not be reached.
func (r *repair) readOrphans() (err error) {
	for _, e := range r.old.extents() {
		r.eachPage(r.old, e, func(h layout.PageHeader, page []byte) {
			if err == nil && h.Level == 0 && h.Identity == [16]byte(r.old.sb.UUID) && !r.reached.has(uint64(h.Page)) {
				err = r.takeOrphan(h, page)
			}
		})
	}
	return err
}

// takeOrphan takes in of a leaf without a parent what belongs where something is lost.
func (r *repair) takeOrphan(h layout.PageHeader, page []byte) error {
	r.sawBytes(block.PageSize)
	before := r.report.Orphans
	switch h.Kind {
	case layout.KindExceptions:
		leaf, err := layout.DecodePage(layout.ExceptionCodec{}, h, page)
		if err != nil {
			return nil
		}
		for _, e := range leaf.Entries {
			if !r.lost[h.Kind].has(exceptionKey(e)) || e.Branch != 0 && h.Checkpoint > r.old.sb.Checkpoint {
				continue
			}
			r.report.Orphans = before + 1
			if err := r.finds.add(find{e, fromOrphan, h.Checkpoint}); err != nil {
				return err
			}
		}
	case layout.KindChanges:
		leaf, err := layout.DecodePage(layout.ChangeCodec{}, h, page)
		if err != nil || len(r.lost[h.Kind]) == 0 {
			return nil
		}
		entries := slices.DeleteFunc(leaf.Entries, func(c layout.Change) bool { return !r.lost[layout.KindChanges].has(changeKey(c)) })
		return r.addChanges(h, entries)
	case layout.KindSnapshots:
		leaf, err := layout.DecodePage(layout.SnapshotCodec{}, h, page)
		if err != nil || !r.snaps.incomplete {
			return nil
		}
		for _, s := range leaf.Entries {
			r.snaps.orphan(s, h.Checkpoint)
		}
	}
	return nil
}

// sawBytes counts what was read.
func (r *repair) sawBytes(n int) {
	r.done += int64(n)
	if r.opts.OnProgress != nil {
		total := int64(r.old.sb.Slots)<<r.old.sb.ChunkShift/4 + int64(r.old.sb.TreePages.Len)*block.PageSize
		if r.old.sb.Allocated > 0 {
			total = int64(r.old.sb.Allocated) << r.old.sb.ChunkShift
		}
		r.opts.OnProgress(r.done, max(r.done, total))
	}
}
