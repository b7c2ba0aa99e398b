// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"maps"
	"slices"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

// snapshotTable is the snapshots, as a recovery would have them.
type snapshotTable struct {
	all      map[block.Generation]layout.Snapshot
	families map[block.Branch]*family
}

// family is the snapshots of one parent. Those that are kept are read, or may be;
// those that are going have been given up, and their exceptions are being freed.
type family struct {
	kept, going []block.Generation // ascending
}

// given reports whether a snapshot of that state has been given up.
func given(s layout.SnapshotState) bool {
	return s == layout.SnapshotDeleting || s == layout.SnapshotSquashed
}

// put adds a snapshot or takes over its changed entry.
func (t *snapshotTable) put(s layout.Snapshot) {
	if t.all == nil {
		t.all = make(map[block.Generation]layout.Snapshot)
	}
	t.all[s.Generation] = s
}

// sorted returns all snapshots, oldest first.
func (t *snapshotTable) sorted() []layout.Snapshot {
	list := make([]layout.Snapshot, 0, len(t.all))
	for _, g := range slices.Sorted(maps.Keys(t.all)) {
		list = append(list, t.all[g])
	}
	return list
}

// index sorts the snapshots out by parent and state. No put may follow.
func (t *snapshotTable) index() {
	t.families = make(map[block.Branch]*family)
	for _, s := range t.sorted() {
		f := t.families[s.Parent]
		if f == nil {
			f = new(family)
			t.families[s.Parent] = f
		}
		if given(s.State) {
			f.going = append(f.going, s.Generation)
		} else {
			f.kept = append(f.kept, s.Generation)
		}
	}
}

// of returns the snapshots of a branch.
func (t *snapshotTable) of(b block.Branch) family {
	if f := t.families[b]; f != nil {
		return *f
	}
	return family{}
}

// branch returns the snapshot whose writes a branch is.
func (t *snapshotTable) branch(b block.Branch) (layout.Snapshot, bool) {
	s, ok := t.all[block.Generation(b)]
	return s, ok
}

// needed reports whether one of the branch's snapshots in (after, upTo] reads what
// serves exactly those, or is going and will have it freed.
func (t *snapshotTable) needed(b block.Branch, after, upTo block.Generation) bool {
	f := t.of(b)
	return anyIn(f.kept, after, upTo) || anyIn(f.going, after, upTo)
}

// anyIn reports whether one of the generations is in (after, upTo].
func anyIn(generations []block.Generation, after, upTo block.Generation) bool {
	if after >= upTo {
		return false
	}
	i, _ := slices.BinarySearch(generations, after+1)
	return i < len(generations) && generations[i] <= upTo
}

// awaited reports whether a deletion that is under way will come past an
// exception of branch b and generation g that no snapshot needs.
func (t *snapshotTable) awaited(b block.Branch, g block.Generation) bool {
	f := t.of(b)
	if b != 0 {
		s, ok := t.branch(b)
		return !ok || given(s.State) || len(f.going) > 0 && f.going[len(f.going)-1] > g
	}
	i, found := slices.BinarySearch(f.going, g)
	if !found {
		i--
	}
	return i >= 0 && !anyIn(f.kept, f.going[i], g)
}

// readSnapshots reads the snapshot tree and what the control ring says happened
// since, and judges the result.
func (c *checker) readSnapshots() {
	w := walk[layout.Snapshot]{
		img: c.image, codec: layout.SnapshotCodec{}, kind: layout.KindSnapshots, pages: &c.pages, report: c.report,
		leaf: func(_ layout.PageHeader, entries []layout.Snapshot) bool {
			for _, s := range entries {
				c.snaps.put(s)
			}
			return c.progress(len(entries))
		},
	}
	c.complete[layout.KindSnapshots] = w.run()
	c.generation = c.sb.Generation
	if !c.sb.Clean && !c.pinned() && !c.stopped {
		c.replayControl()
	}
	c.snaps.index()
	c.countChunks()
	c.checkSnapshots()
	c.checkRestore()
}

// countChunks learns how many chunks the origin has, or had when the largest of
// its snapshots was made.
func (c *checker) countChunks() {
	c.chunks = c.geo.Chunks()
	for _, s := range c.snaps.all {
		if s.Parent == 0 {
			c.chunks = max(c.chunks, c.chunksOf(s.Size))
		}
	}
}

// chunksOf returns the number of chunks of size bytes.
func (c *checker) chunksOf(size int64) uint64 {
	if size <= 0 || size > block.MaxOriginSize {
		return 0
	}
	return (uint64(size) + 1<<c.sb.ChunkShift - 1) >> c.sb.ChunkShift
}

// replayControl takes in what happened to the snapshots since the checkpoint:
// those made, changed and deleted, and where their own writes went.
func (c *checker) replayControl() {
	l := c.controlRing()
	id := layout.Identity{UUID: c.sb.UUID, Epoch: c.sb.Epoch, Seq: c.sb.ControlPos.Seq}
	end, why := scan(l, id, c.sb.ControlPos.Place, func(r record) bool {
		if err := c.takeControl(r); err != nil {
			c.refused(l.src, "control", r, err)
			return false
		}
		return !c.stopped
	})
	c.judgeEnd(l, "control", c.sb.ControlPos, end, why)
}

// takeControl takes in a record of the control ring.
func (c *checker) takeControl(r record) error {
	if r.Kind == layout.RecordBatch {
		b, err := layout.DecodeBatch(r.body)
		if err != nil {
			return err
		}
		if err := c.checkBranchBatch(b); err != nil {
			return err
		}
		c.branchBatches = append(c.branchBatches, pendingBatch{r, b})
		return nil
	}
	s, err := layout.DecodeSnapshotRecord(r.body)
	if err != nil {
		return err
	}
	c.snaps.put(s)
	c.generation = max(c.generation, s.Generation)
	return nil
}

// checkBranchBatch applies the tests that make recovery refuse a batch of chunks
// written to a snapshot.
func (c *checker) checkBranchBatch(b *layout.Batch) error {
	s, ok := c.snaps.branch(b.Branch)
	if b.Branch == 0 || !ok || b.Generation > c.generation {
		return fmt.Errorf("it is of branch %d, generation %d of %d: there is no such snapshot", b.Branch, b.Generation, c.generation)
	}
	return c.checkCopies(b, c.chunksOf(s.Size))
}

// checkSnapshots judges the table.
func (c *checker) checkSnapshots() {
	tags := make(map[block.Tag]block.Generation)
	names := make(map[string]block.Generation)
	for _, s := range c.snaps.sorted() {
		c.checkSnapshot(s)
		if s.State == layout.SnapshotDeleting {
			continue
		}
		if other, ok := tags[s.Tag]; ok {
			c.badSnapshot(s, fmt.Sprintf("the snapshot of generation %d has the same tag", other), "a user cannot tell them apart")
		}
		if other, ok := names[s.Name]; ok && s.Name != "" {
			c.badSnapshot(s, fmt.Sprintf("the snapshot of generation %d has the same name %q", other, s.Name), "a user cannot tell them apart")
		}
		tags[s.Tag], names[s.Name] = s.Generation, s.Generation
	}
}

// checkSnapshot judges an entry of the table, and its family.
func (c *checker) checkSnapshot(s layout.Snapshot) {
	switch {
	case s.Generation == 0 || s.Generation > c.generation:
		c.badSnapshot(s, fmt.Sprintf("the origin's generation is %d", c.generation), "writes since may not have been preserved for it")
	case c.chunksOf(s.Size) == 0:
		c.badSnapshot(s, fmt.Sprintf("its size is %d bytes", s.Size), "it cannot be read whole")
	}
	if s.Damaged {
		c.report(Violation{
			Severity: Note, Code: LostData, Device: c.meta.name, Offset: -1, Structure: snapshotName(s),
			Problem: "it was repaired: some of its exceptions may be lost without a trace", Meaning: "what it shows of the origin may be newer than itself",
		})
	}
	if _, ok := c.snaps.branch(s.Parent); s.Parent != 0 && !ok && s.State != layout.SnapshotDeleting && c.complete[layout.KindSnapshots] {
		c.badSnapshot(s, fmt.Sprintf("it is a snapshot of the snapshot of generation %d, which there is not", s.Parent), "what they shared is lost")
	}
	if kept := c.snaps.of(block.Branch(s.Generation)).kept; given(s.State) && len(kept) > 0 {
		c.badSnapshot(s, fmt.Sprintf("it is %v, but the snapshot of generation %d is one of it", s.State, kept[0]), "what they share is being freed")
	}
}

func snapshotName(s layout.Snapshot) string {
	return fmt.Sprintf("snapshot %d of generation %d", s.Tag, s.Generation)
}

func (c *checker) badSnapshot(s layout.Snapshot, problem, meaning string) {
	c.report(Violation{
		Severity: Damage, Code: BadSnapshot, Device: c.meta.name, Offset: -1, Structure: snapshotName(s), Problem: problem, Meaning: meaning,
	})
}

// checkRestore judges a revert or merge that is under way.
func (c *checker) checkRestore() {
	r := c.sb.Restore
	if r.Generation == 0 || !c.complete[layout.KindSnapshots] {
		return
	}
	problem := ""
	s, ok := c.snaps.all[r.Generation]
	switch {
	case !ok:
		problem = fmt.Sprintf("it is of the snapshot of generation %d, which there is not", r.Generation)
	case s.State != layout.SnapshotLive:
		problem = fmt.Sprintf("it is of the snapshot of generation %d, which is %v", r.Generation, s.State)
	case uint64(r.Next) > max(c.chunks, c.chunksOf(s.Size)):
		problem = fmt.Sprintf("it has come to chunk %d of %d", r.Next, max(c.chunks, c.chunksOf(s.Size)))
	default:
		return
	}
	c.report(Violation{
		Severity: Damage, Code: BadRestore, Device: c.meta.name, Offset: int64(c.sb.Checkpoint%layout.Superblocks) * block.PageSize,
		Structure: "restore", Problem: problem, Meaning: "it cannot go on, and the origin is neither what it was nor what it was to become",
	})
}
