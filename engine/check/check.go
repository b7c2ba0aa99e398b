// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"iter"
	"math/bits"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

// Options tune a check.
type Options struct {
	// Data verifies the checksum of every preserved chunk, which reads the whole
	// of the store that is in use, and looks for a log's lost rest everywhere.
	Data bool
	// Superblock is of the checkpoint to check, nil for the newest. Then the store may
	// be in use: its logs are not looked at, and somebody keeps the checkpoint's
	// pages and slots from being used again meanwhile (store.Pin).
	Superblock []byte
	// Revoked, if not nil, reports whether that somebody has given it up. Then the check
	// ends, and says so: what was found until then holds.
	Revoked func() bool
	// OnProgress, if not nil, is told how many of about total entries have been
	// looked at.
	OnProgress func(done, total uint64)
}

// Check verifies a store and yields every violation, as it is found. A store that
// is well yields none, or notes only. Ending the iteration ends the check.
func Check(d Devices, o Options) iter.Seq[Violation] {
	return func(yield func(Violation) bool) {
		c := &checker{opts: o}
		c.report = func(v Violation) {
			if !c.stopped && !c.revoked() {
				c.stopped = !yield(v)
			}
		}
		c.run(d)
		if c.gaveUp {
			yield(Violation{
				Severity: Note, Code: NotChecked, Device: "store", Offset: -1, Structure: "checkpoint",
				Problem: "the store needed its space while it was being checked", Meaning: "the rest was not checked: check again, or make room",
			})
		}
	}
}

// checker is a check under way.
type checker struct {
	*image
	opts    Options
	report  report
	stopped bool // the caller has heard enough
	gaveUp  bool // the pinned checkpoint is gone; then stopped too

	done, total uint64
	complete    [layout.Kinds + 1]bool // by kind: the tree was read whole
	logLost     bool                   // what was copied since the checkpoint is unknown

	pages      bitset // tree pages seen
	allocated  bitset // slots, as recovery would have them
	used       bitset // slots that hold something
	snaps      snapshotTable
	leases     []layout.SlotRun // of the checkpoint, ascending
	generation block.Generation // the store's
	chunks     uint64           // of the origin at its largest
	replayed   []replayedCopy   // ascending
	// branchBatches is what the control ring holds of chunks written to snapshots.
	branchBatches []pendingBatch
	mirror        mirror
}

// run checks one structure after the other. Each relies on those before.
func (c *checker) run(d Devices) {
	c.image = openImage(d, c.opts.Superblock, c.report)
	if c.image == nil {
		return
	}
	for _, r := range c.sb.Roots {
		c.total += r.Entries
	}
	if c.opts.Data {
		c.total += c.sb.Roots[layout.KindExceptions-1].Entries
	}
	for _, step := range []func(){
		c.readSnapshots, c.readSlots, c.readLeases, c.claimLeases, c.claimGrown, c.replay, c.readDigests, c.checkExceptions, c.checkChanges, c.checkLeaks,
	} {
		if step(); c.stopped {
			return
		}
	}
}

// replay takes in what recovery would. A pinned checkpoint is judged as it is.
func (c *checker) replay() {
	if c.sb.Clean || c.pinned() {
		return
	}
	for _, p := range c.branchBatches {
		c.takeIn(p)
	}
	c.replayBatches()
	c.sortReplayed()
}

// pinned reports whether the check is of one checkpoint of a store in use.
func (c *checker) pinned() bool { return c.opts.Superblock != nil }

// revoked reports whether the pinned checkpoint is gone, and ends the check then.
func (c *checker) revoked() bool {
	if !c.gaveUp && c.opts.Revoked != nil && c.opts.Revoked() {
		c.gaveUp, c.stopped = true, true
	}
	return c.gaveUp
}

// progress tells the caller of n more entries, and reports whether to go on.
func (c *checker) progress(n int) bool {
	c.done += uint64(n)
	if c.opts.OnProgress != nil {
		c.opts.OnProgress(c.done, max(c.done, c.total))
	}
	return !c.stopped && !c.revoked()
}

// notChecked reports that something could not be judged.
func (c *checker) notChecked(device, structure, problem, meaning string) {
	c.report(Violation{
		Severity: Note, Code: NotChecked, Device: device, Offset: -1, Structure: structure, Problem: problem, Meaning: meaning,
	})
}

// readSlots reads which slots the checkpoint has as allocated.
func (c *checker) readSlots() {
	count := uint64(0)
	w := walk[layout.SlotWord]{
		img: c.image, codec: layout.SlotWordCodec{}, kind: layout.KindSlots, pages: &c.pages, report: c.report,
	}
	w.leaf = func(h layout.PageHeader, entries []layout.SlotWord) bool {
		for _, word := range entries {
			if c.checkWord(h.Page, word) {
				c.allocated.setWord(word.Index, word.Bits)
				count += uint64(bits.OnesCount64(word.Bits))
			}
		}
		return c.progress(len(entries))
	}
	c.complete[layout.KindSlots] = w.run()
	if c.complete[layout.KindSlots] && count != c.sb.Allocated {
		c.badSlots(-1, "slot tree", fmt.Sprintf("%d slots are allocated, the superblock says %d", count, c.sb.Allocated),
			"the count of free slots is wrong")
	}
}

// checkWord reports whether all slots of a word exist.
func (c *checker) checkWord(p block.Page, w layout.SlotWord) bool {
	if w.Index > c.sb.Slots/64 || maskOf(w.Index, 0, c.sb.Slots)&w.Bits != w.Bits {
		c.badSlots(pageOffset(p), pageName(layout.KindSlots, p),
			fmt.Sprintf("word %d has slots of %#x allocated, the store has %d slots", w.Index, w.Bits, c.sb.Slots), "the slot map is wrong")
		return false
	}
	return true
}

func (c *checker) badSlots(offset int64, structure, problem, meaning string) {
	c.report(Violation{
		Severity: Damage, Code: BadSlots, Device: c.meta.name, Offset: offset, Structure: structure, Problem: problem, Meaning: meaning,
	})
}

// checkLeaks finds allocated slots in which nothing is.
func (c *checker) checkLeaks() {
	if !c.complete[layout.KindExceptions] || c.logLost {
		c.notChecked(c.meta.name, "slot tree", "not all that uses slots could be read", "leaked slots were not looked for")
		return
	}
	c.allocated.without(&c.used, func(first, n uint64) bool {
		c.report(Violation{
			Severity: Leak, Code: LeakedSlot, Device: "store", Offset: c.slotOffset(block.Slot(first)),
			Structure: fmt.Sprintf("slots %d+%d", first, n), Problem: "they are allocated, but no exception is in them",
			Meaning: "their space is lost until the store is made anew",
		})
		return !c.stopped
	})
}
