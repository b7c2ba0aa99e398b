// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"slices"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

// foundAt says where an exception was found.
type foundAt struct {
	device string
	page   block.Page // zero: in a log record
	record uint64
}

func (a foundAt) offset() int64 {
	if a.page == 0 {
		return -1
	}
	return pageOffset(a.page)
}

// String names the structure.
func (a foundAt) String() string {
	if a.page == 0 {
		return fmt.Sprintf("batch record %d", a.record)
	}
	return pageName(layout.KindExceptions, a.page)
}

// checkExceptions judges every exception of the tree and of the log, in order.
func (c *checker) checkExceptions() {
	j := exceptionJudge{checker: c, rest: c.replayed}
	w := walk[layout.Exception]{
		img: c.image, codec: layout.ExceptionCodec{}, kind: layout.KindExceptions, pages: &c.pages, report: c.report,
	}
	w.leaf = func(h layout.PageHeader, entries []layout.Exception) bool {
		at := foundAt{device: c.meta.name, page: h.Page}
		for _, e := range entries {
			j.fromTree(e, at)
		}
		return c.progress(len(entries))
	}
	c.complete[layout.KindExceptions] = w.run()
	for len(j.rest) > 0 && !c.stopped {
		j.fromLog()
	}
	j.endLost()
	j.readData()
}

// exceptionJudge judges exceptions that come in order.
type exceptionJudge struct {
	*checker
	rest   []replayedCopy   // of the log, not yet judged
	prev   layout.Exception // the last one that is in the index
	prevAt foundAt
	run    dataRun
	lost   []layout.Exception // neighbours whose content is lost
	lostAt foundAt
}

// goesOn reports whether e is of the same chunk as the exception before it.
func (j *exceptionJudge) goesOn(e layout.Exception) bool {
	return j.prev.Branch == e.Branch && j.prev.Chunk == e.Chunk && j.prev.Generation != 0
}

// before returns the lower end of the generations that e, of the origin, serves.
func (j *exceptionJudge) before(e layout.Exception) block.Generation {
	if j.goesOn(e) {
		return j.prev.Generation
	}
	return 0
}

// fromTree judges an exception of the tree, after those of the log that precede
// it. The log's exception of the same chunk and generation takes its place.
func (j *exceptionJudge) fromTree(e layout.Exception, at foundAt) {
	for len(j.rest) > 0 {
		order := layout.ExceptionCodec{}.Compare(j.rest[0].Exception, e)
		if order > 0 {
			break
		}
		if order == 0 && !j.fromLogNeeded() {
			j.doomed(e, at)
		}
		replacement := j.rest[0].Slot
		j.fromLog()
		if order == 0 {
			if e.Branch != 0 && e.Slot != replacement {
				j.used.add(uint64(e.Slot)) // until the next checkpoint
			}
			return
		}
	}
	j.mirror.exception(e)
	j.judge(e, at)
}

// fromLog judges the log's next exception. Recovery leaves out, and frees, what no
// snapshot needs.
func (j *exceptionJudge) fromLog() {
	r, needed := j.rest[0], j.fromLogNeeded()
	j.rest = j.rest[1:]
	if !needed {
		if r.Slot != layout.LostSlot {
			j.used.add(uint64(r.Slot))
		}
		return
	}
	j.judge(r.Exception, foundAt{device: "store", record: r.seq})
}

// fromLogNeeded reports whether recovery takes the log's next exception in: a copy
// if a snapshot needs it, what was written to a snapshot in any case.
func (j *exceptionJudge) fromLogNeeded() bool {
	r := j.rest[0]
	return r.Branch != 0 || anyIn(j.snaps.of(0).kept, j.before(r.Exception), r.Generation)
}

// doomed reports an exception of the tree that recovery leaves there while it
// frees its slot, because the log has it too and no snapshot needs it.
func (j *exceptionJudge) doomed(e layout.Exception, at foundAt) {
	j.bad(Damage, FreeSlot, e, at, fmt.Sprintf("batch record %d has it too, and no snapshot needs it", j.rest[0].seq),
		"recovery frees its slot and leaves the exception: its deletion will free another chunk's")
}

// bad reports something about an exception.
func (j *exceptionJudge) bad(severity Severity, code Code, e layout.Exception, at foundAt, problem, meaning string) {
	j.report(Violation{
		Severity: severity, Code: code, Device: at.device, Offset: at.offset(),
		Structure: fmt.Sprintf("exception of %s in %s", chunkName(e.Branch, e.Chunk, e.Generation), at), Problem: problem, Meaning: meaning,
	})
}

// chunkName names a chunk of a generation.
func chunkName(b block.Branch, c block.Chunk, g block.Generation) string {
	if b != 0 {
		return fmt.Sprintf("branch %d, chunk %d, generation %d", b, c, g)
	}
	return fmt.Sprintf("chunk %d, generation %d", c, g)
}

// judge judges an exception of the index.
func (j *exceptionJudge) judge(e layout.Exception, at foundAt) {
	if e.Branch == 0 {
		j.judgeCopy(e, at)
	} else {
		j.judgeWrite(e, at)
	}
	if e.Slot == layout.LostSlot {
		j.judgeLost(e, at)
	}
	j.prev, j.prevAt = e, at
	if e.Slot == layout.LostSlot {
		return
	}
	j.judgeSlot(e, at)
	if j.opts.Data && e.Branch == 0 && uint64(e.Slot) < j.sb.Slots {
		j.addData(e)
	}
}

const neverFreed = "its slot is lost until a neighbour is deleted"

// judgeCopy judges an exception that was copied out of the origin.
func (j *exceptionJudge) judgeCopy(e layout.Exception, at foundAt) {
	switch {
	case uint64(e.Chunk) >= j.chunks:
		j.bad(Damage, BadException, e, at, fmt.Sprintf("the origin never had more than %d chunks", j.chunks), "the tree has an entry that was never made")
	case e.Generation == 0 || e.Generation > j.generation:
		j.bad(Damage, BadException, e, at, fmt.Sprintf("the origin's generation is %d", j.generation), "snapshots yet to be made would read it")
	case j.complete[layout.KindSnapshots] && !j.snaps.needed(0, j.before(e), e.Generation):
		j.bad(Leak, NeedlessCopy, e, at, "no snapshot reads it and no deletion will come past it", neverFreed)
	}
}

// judgeWrite judges an exception that was written to a snapshot, and whether the
// one before it of the same chunk is still needed. If not, recovery frees it when it
// takes in one of the log.
func (j *exceptionJudge) judgeWrite(e layout.Exception, at foundAt) {
	if at.page != 0 && j.goesOn(e) && j.complete[layout.KindSnapshots] && !j.snaps.needed(e.Branch, j.prev.Generation, e.Generation) {
		if !j.snaps.awaited(e.Branch, j.prev.Generation) {
			j.bad(Leak, NeedlessCopy, j.prev, j.prevAt, "no snapshot of its branch reads it and no deletion will come past it", neverFreed)
		}
	}
	s, ok := j.snaps.branch(e.Branch)
	switch {
	case !ok && !j.complete[layout.KindSnapshots]:
	case !ok:
		j.bad(Damage, BadException, e, at, fmt.Sprintf("there is no snapshot of generation %d", e.Branch), "nothing reads it, and nothing frees it")
	case uint64(e.Chunk) >= j.chunksOf(s.Size):
		j.bad(Damage, BadException, e, at, fmt.Sprintf("the snapshot has %d chunks", j.chunksOf(s.Size)), "the tree has an entry that was never made")
	case uint64(e.Generation) < uint64(e.Branch) || e.Generation > j.generation:
		j.bad(Damage, BadException, e, at, fmt.Sprintf("the branch began with generation %d, the newest is %d", e.Branch, j.generation), "the wrong snapshots read it")
	case e.Sum != 0:
		j.bad(Damage, BadException, e, at, fmt.Sprintf("it has the checksum %#08x, which overwriting in place makes wrong", e.Sum), "a writer of it was not this engine")
	}
}

// judgeSlot judges where an exception says that its chunk is.
func (j *exceptionJudge) judgeSlot(e layout.Exception, at foundAt) {
	if uint64(e.Slot) >= j.sb.Slots {
		j.bad(Damage, BadException, e, at, fmt.Sprintf("it is in slot %d of %d", e.Slot, j.sb.Slots), "the chunk is lost")
		return
	}
	if !j.used.add(uint64(e.Slot)) {
		j.bad(Damage, SharedSlot, e, at, fmt.Sprintf("slot %d is in use already", e.Slot), "two chunks cannot be in one slot: one of them is lost")
	}
	if j.complete[layout.KindSlots] && !j.allocated.has(uint64(e.Slot)) {
		j.bad(Damage, FreeSlot, e, at, fmt.Sprintf("slot %d is free", e.Slot), "the chunk will be overwritten")
	}
}

// judgeLost judges an exception without content: the snapshots that read it say so.
// Recovery marks those of the log.
func (j *exceptionJudge) judgeLost(e layout.Exception, at foundAt) {
	if e.Branch == 0 && at.page != 0 {
		kept := j.snaps.of(0).kept
		first, _ := slices.BinarySearch(kept, j.before(e)+1)
		for _, g := range kept[first:] {
			s := j.snaps.all[g]
			if g > e.Generation {
				break
			}
			if j.geo.Offset(e.Chunk) < s.Size && !s.Lossy && !s.Damaged {
				j.bad(Damage, BadSnapshot, e, at, fmt.Sprintf("%s reads it, and is not marked as lossy", snapshotName(s)), "nobody is told that chunks of it are lost")
				break
			}
		}
	}
	j.addLost(e, at)
}

// addLost has a lost chunk reported together with its neighbours.
func (j *exceptionJudge) addLost(e layout.Exception, at foundAt) {
	if n := len(j.lost); n > 0 && (j.lost[n-1].Branch != e.Branch || j.lost[n-1].Chunk+1 != e.Chunk || n >= maxLostRun) {
		j.endLost()
	}
	if len(j.lost) == 0 {
		j.lostAt = at
	}
	j.lost = append(j.lost, e)
}

// maxLostRun bounds how many lost chunks are reported at once.
const maxLostRun = 1024

// endLost reports what addLost has put off.
func (j *exceptionJudge) endLost() {
	n := len(j.lost)
	if n == 0 {
		return
	}
	problem := "its content is known to be lost"
	if n > 1 {
		problem = fmt.Sprintf("its content and that of the %d chunks after it is known to be lost", n-1)
	}
	j.bad(Note, LostData, j.lost[0], j.lostAt, problem,
		"snapshots that read them get an error")
	j.lost = j.lost[:0]
}

// dataRun is exceptions in consecutive slots, which are read at once.
type dataRun struct {
	entries []layout.Exception
}

// dataStep is how much is read at once, in bytes.
const dataStep = 1 << 20

// addData has e's chunk verified with its neighbours.
func (j *exceptionJudge) addData(e layout.Exception) {
	n := len(j.run.entries)
	if n > 0 && (j.run.entries[n-1].Slot+1 != e.Slot || n >= dataStep>>j.sb.ChunkShift) {
		j.readData()
	}
	j.run.entries = append(j.run.entries, e)
}

// readData verifies what addData has put off.
func (j *exceptionJudge) readData() {
	run := j.run.entries
	j.run.entries = run[:0]
	if len(run) == 0 || j.store == nil {
		return
	}
	size := j.geo.ChunkSize()
	data, err := j.store.read(j.slotOffset(run[0].Slot), len(run)*size)
	for i, e := range run {
		chunk, cerr := data, err
		if err != nil { // one by one, so that only what is lost is reported
			chunk, cerr = j.store.read(j.slotOffset(e.Slot), size)
		} else {
			chunk = data[i*size:][:size]
		}
		j.checkData(e, chunk, cerr)
	}
	j.progress(len(run))
}

func (j *exceptionJudge) checkData(e layout.Exception, chunk []byte, err error) {
	v := Violation{
		Severity: Damage, Code: BadData, Device: j.store.name, Offset: j.slotOffset(e.Slot),
		Structure: fmt.Sprintf("chunk %d of generation %d in slot %d", e.Chunk, e.Generation, e.Slot),
		Meaning:   "snapshots that read it get wrong bytes",
	}
	switch {
	case err != nil:
		v.Code, v.Problem, v.Meaning = Unreadable, err.Error(), "snapshots that read it fail"
	case layout.SumOf(chunk) != e.Sum:
		v.Problem = fmt.Sprintf("checksum %#08x instead of %#08x", layout.SumOf(chunk), e.Sum)
	default:
		return
	}
	j.report(v)
}
