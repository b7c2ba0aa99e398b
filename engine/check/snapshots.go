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
	live     []block.Generation // ascending
	deleting []block.Generation // ascending
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

// index sorts the snapshots out by state. No put may follow.
func (t *snapshotTable) index() {
	for _, s := range t.sorted() {
		if s.State == layout.SnapshotLive {
			t.live = append(t.live, s.Generation)
		} else {
			t.deleting = append(t.deleting, s.Generation)
		}
	}
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
// exception of generation g that no snapshot needs.
func (t *snapshotTable) awaited(g block.Generation) bool {
	i, found := slices.BinarySearch(t.deleting, g)
	if !found {
		i--
	}
	return i >= 0 && !anyIn(t.live, t.deleting[i], g)
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
	if !c.sb.Clean && !c.stopped {
		c.replayControl()
	}
	c.snaps.index()
	c.checkSnapshots()
}

// replayControl takes in the snapshots made and deleted since the checkpoint.
func (c *checker) replayControl() {
	l := c.controlRing()
	id := layout.Identity{UUID: c.sb.UUID, Epoch: c.sb.Epoch, Seq: c.sb.ControlPos.Seq}
	end, why := scan(l, id, c.sb.ControlPos.Place, func(r record) bool {
		s, err := layout.DecodeSnapshotRecord(r.body)
		if err == nil && r.Kind != layout.RecordSnapshot {
			err = fmt.Errorf("it is of kind %d", r.Kind)
		}
		if err != nil {
			c.refused(l.src, "snapshot", r, err)
			return false
		}
		c.snaps.put(s)
		c.generation = max(c.generation, s.Generation)
		return true
	})
	c.judgeEnd(l, "snapshot", c.sb.ControlPos, end, why)
}

// checkSnapshots judges the table.
func (c *checker) checkSnapshots() {
	tags := make(map[block.Tag]block.Generation)
	for _, s := range c.snaps.sorted() {
		bad := func(problem, meaning string) {
			c.report(Violation{
				Severity: Damage, Code: BadSnapshot, Device: c.meta.name, Offset: -1,
				Structure: fmt.Sprintf("snapshot %d of generation %d", s.Tag, s.Generation), Problem: problem, Meaning: meaning,
			})
		}
		switch {
		case s.Generation == 0 || s.Generation > c.generation:
			bad(fmt.Sprintf("the origin's generation is %d", c.generation), "writes since may not have been preserved for it")
		case s.Size <= 0 || s.Size > c.geo.Size():
			bad(fmt.Sprintf("its size is %d bytes, the origin's %d", s.Size, c.geo.Size()), "it cannot be read whole")
		}
		if s.State != layout.SnapshotLive {
			continue
		}
		if other, ok := tags[s.Tag]; ok {
			bad(fmt.Sprintf("the snapshot of generation %d has the same tag", other), "a user cannot tell them apart")
		}
		tags[s.Tag] = s.Generation
	}
}
