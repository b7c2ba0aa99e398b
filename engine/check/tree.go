// SPDX-License-Identifier: Apache-2.0

package check

import (
	"errors"
	"fmt"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

// treeNames are the trees by kind.
var treeNames = [...]string{"", "exceptions", "changes", "slots", "snapshots", "leases", "digests"}

func pageName(kind uint8, p block.Page) string {
	return fmt.Sprintf("%s page %d", treeNames[kind], p)
}

// walk visits a tree's pages in order of key.
type walk[E any] struct {
	img    *image
	codec  layout.EntryCodec[E]
	kind   uint8
	pages  *bitset // that have been seen; nil: don't care
	report report  // nil: say nothing
	inner  func(h layout.PageHeader)
	leaf   func(h layout.PageHeader, entries []E) bool // false ends the walk
	skip   func(low, high *E) bool                     // of what lies in [low, high); nil: visit all

	entries uint64 // in the leaves seen
	skipped bool   // something was skipped
	damaged bool   // something could not be visited
	last    *E     // the entry before the next leaf
}

// run visits all pages and reports whether none was left out.
func (w *walk[E]) run() (complete bool) {
	root := w.img.sb.Roots[w.kind-1]
	if root.Page == 0 {
		return true
	}
	if !w.visit(root.Page, root.Level, w.img.sb.Checkpoint, nil, nil) {
		return false
	}
	if !w.damaged && !w.skipped && w.entries != root.Entries {
		w.bad(BadCount, root.Page, fmt.Sprintf("it has %d entries, the superblock says %d", w.entries, root.Entries),
			"an update of the tree was lost, or the superblock is of another checkpoint")
	}
	return !w.damaged
}

// visit visits page p, whose entries must be in [low, high); nil is no bound. What
// points at it was written by checkpoint latest. It returns false to end the walk.
func (w *walk[E]) visit(p block.Page, level uint8, latest uint64, low, high *E) bool {
	page, ok := w.read(p, level)
	if !ok {
		w.damaged = true
		return true
	}
	if page.Checkpoint > latest {
		w.bad(BadPage, p, fmt.Sprintf("checkpoint %d wrote it, what points at it is of checkpoint %d", page.Checkpoint, latest),
			"it was written over while it was in use: the entries that belong there are lost")
	}
	w.checkOrder(page, low, high)
	if level == 0 {
		w.entries += uint64(len(page.Entries))
		w.last = &page.Entries[len(page.Entries)-1]
		return w.leaf(page.PageHeader, page.Entries)
	}
	if w.inner != nil {
		w.inner(page.PageHeader)
	}
	for i, child := range page.Children {
		from, to := low, high
		if i > 0 {
			from = &page.Entries[i]
		}
		if i+1 < len(page.Entries) {
			to = &page.Entries[i+1]
		}
		if w.skip != nil && w.skip(from, to) {
			w.skipped = true
			continue
		}
		if !w.visit(child, level-1, page.Checkpoint, from, to) {
			return false
		}
	}
	return true
}

// read returns the page, if it is what its parent says.
func (w *walk[E]) read(p block.Page, level uint8) (page layout.TreePage[E], ok bool) {
	if !w.img.sb.HasTreePage(p) {
		area := w.img.sb.TreePages
		w.bad(BadPage, p, fmt.Sprintf("it is outside the tree pages %d to %d and the %d grown extents", area.First, area.End()-1, len(w.img.sb.Grown)),
			"its parent is wrong: the entries below are lost")
		return page, false
	}
	if w.pages != nil && !w.pages.add(uint64(p)) {
		w.bad(SharedPage, p, "it is used a second time", "two parents point at it: one of them has lost its entries")
		return page, false
	}
	buf, err := w.img.meta.read(int64(p)*block.PageSize, block.PageSize)
	if err != nil {
		w.bad(Unreadable, p, err.Error(), "its entries are lost")
		return page, false
	}
	want := layout.PageHeader{Kind: w.kind, Level: level, Page: p, Identity: w.img.sb.UUID}
	page, err = layout.DecodePage(w.codec, want, buf)
	if err != nil {
		w.bad(BadPage, p, reason(err), "its entries are lost, and so is what depends on them")
		return page, false
	}
	return page, true
}

// reason returns what an error says beyond the place, which is known.
func reason(err error) string {
	var c *layout.CorruptError
	if !errors.As(err, &c) {
		return err.Error()
	}
	if c.Want == nil {
		return c.Reason
	}
	return fmt.Sprintf("%s is %v instead of %v", c.Reason, c.Got, c.Want)
}

// checkOrder judges a page's entries against what its parents and neighbours say.
// An inner page's first entry bounds nothing.
func (w *walk[E]) checkOrder(page layout.TreePage[E], low, high *E) {
	entries := page.Entries
	if page.Level > 0 {
		entries = entries[1:]
	}
	if len(entries) == 0 {
		return
	}
	first, last := entries[0], entries[len(entries)-1]
	switch {
	case low != nil && w.codec.Compare(first, *low) < 0:
		w.bad(BadOrder, page.Page, fmt.Sprintf("entry %+v is below the bound %+v of its parent", first, *low), "it cannot be found")
	case high != nil && w.codec.Compare(last, *high) >= 0:
		w.bad(BadOrder, page.Page, fmt.Sprintf("entry %+v is not below the bound %+v of its parent", last, *high), "it cannot be found")
	case page.Level == 0 && w.last != nil && w.codec.Compare(*w.last, first) >= 0:
		w.bad(BadOrder, page.Page, fmt.Sprintf("entry %+v is not above %+v in the leaf before", first, *w.last), "one of them cannot be found")
	}
}

func (w *walk[E]) bad(code Code, p block.Page, problem, meaning string) {
	if w.report == nil {
		return
	}
	w.report(Violation{
		Severity: Damage, Code: code, Device: w.img.meta.name, Offset: pageOffset(p), Structure: pageName(w.kind, p),
		Problem: problem, Meaning: meaning,
	})
}

// pageOffset returns a page's byte offset on the metadata device.
func pageOffset(p block.Page) int64 {
	if p > block.MaxStoreSize/block.PageSize {
		return -1
	}
	return int64(p) * block.PageSize
}
