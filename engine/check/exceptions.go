// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

// foundAt says where an exception was found.
type foundAt struct {
	device string
	offset int64
	where  string
}

// checkExceptions judges every exception of the tree and of the log, in order.
func (c *checker) checkExceptions() {
	j := exceptionJudge{checker: c, rest: c.replayed}
	w := walk[layout.Exception]{
		img: c.image, codec: layout.ExceptionCodec{}, kind: layout.KindExceptions, pages: &c.pages, report: c.report,
	}
	w.leaf = func(h layout.PageHeader, entries []layout.Exception) bool {
		at := foundAt{c.meta.name, pageOffset(h.Page), pageName(layout.KindExceptions, h.Page)}
		for _, e := range entries {
			j.fromTree(e, at)
		}
		return c.progress(len(entries))
	}
	c.complete[layout.KindExceptions] = w.run()
	for len(j.rest) > 0 && !c.stopped {
		j.fromLog()
	}
	j.readData()
}

// exceptionJudge judges exceptions that come in order.
type exceptionJudge struct {
	*checker
	rest []replayedCopy   // of the log, not yet judged
	prev layout.Exception // the last one that is in the index
	run  dataRun
}

// before returns the lower end of the generations that e serves.
func (j *exceptionJudge) before(e layout.Exception) block.Generation {
	if j.prev.Branch == e.Branch && j.prev.Chunk == e.Chunk {
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
		j.fromLog()
		if order == 0 {
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
		j.used.add(uint64(r.Slot))
		return
	}
	at := foundAt{"store", -1, fmt.Sprintf("batch record %d", r.seq)}
	j.judge(r.Exception, at)
}

// fromLogNeeded reports whether a snapshot needs the log's next exception.
func (j *exceptionJudge) fromLogNeeded() bool {
	r := j.rest[0]
	return anyIn(j.snaps.live, j.before(r.Exception), r.Generation)
}

// doomed reports an exception of the tree that recovery leaves there while it
// frees its slot, because the log has it too and no snapshot needs it.
func (j *exceptionJudge) doomed(e layout.Exception, at foundAt) {
	j.report(Violation{
		Severity: Damage, Code: FreeSlot, Device: at.device, Offset: at.offset,
		Structure: fmt.Sprintf("exception of chunk %d, generation %d in %s", e.Chunk, e.Generation, at.where),
		Problem:   fmt.Sprintf("batch record %d has it too, and no snapshot needs it", j.rest[0].seq),
		Meaning:   "recovery frees its slot and leaves the exception: its deletion will free another chunk's",
	})
}

// judge judges an exception of the index.
func (j *exceptionJudge) judge(e layout.Exception, at foundAt) {
	bad := func(severity Severity, code Code, problem, meaning string) {
		j.report(Violation{
			Severity: severity, Code: code, Device: at.device, Offset: at.offset,
			Structure: fmt.Sprintf("exception of chunk %d, generation %d in %s", e.Chunk, e.Generation, at.where),
			Problem:   problem, Meaning: meaning,
		})
	}
	before := j.before(e)
	j.prev = e
	switch {
	case e.Branch != 0 || uint64(e.Chunk) >= j.geo.Chunks():
		bad(Damage, BadException, fmt.Sprintf("there is no chunk %d of branch %d", e.Chunk, e.Branch), "the tree has an entry that was never made")
	case e.Generation == 0 || e.Generation > j.generation:
		bad(Damage, BadException, fmt.Sprintf("the origin's generation is %d", j.generation), "snapshots yet to be made would read it")
	case !anyIn(j.snaps.live, before, e.Generation) && !anyIn(j.snaps.deleting, before, e.Generation):
		if j.complete[layout.KindSnapshots] {
			bad(Leak, NeedlessCopy, "no snapshot reads it and no deletion will come past it", "its slot is lost until a neighbour is deleted")
		}
	}
	if uint64(e.Slot) >= j.sb.Slots {
		bad(Damage, BadException, fmt.Sprintf("it is in slot %d of %d", e.Slot, j.sb.Slots), "the chunk is lost")
		return
	}
	if !j.used.add(uint64(e.Slot)) {
		bad(Damage, SharedSlot, fmt.Sprintf("slot %d is in use already", e.Slot), "two chunks cannot be in one slot: one of them is lost")
	}
	if j.complete[layout.KindSlots] && !j.allocated.has(uint64(e.Slot)) {
		bad(Damage, FreeSlot, fmt.Sprintf("slot %d is free", e.Slot), "the chunk will be overwritten")
	}
	if j.opts.Data {
		j.addData(e)
	}
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
	case layout.Checksum(chunk) != e.CRC:
		v.Problem = fmt.Sprintf("checksum %#08x instead of %#08x", layout.Checksum(chunk), e.CRC)
	default:
		return
	}
	j.report(v)
}
