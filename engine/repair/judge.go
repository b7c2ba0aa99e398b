// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"iter"
	"slices"
	"sync"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

// fact is what the finds of one exception come to.
type fact struct {
	layout.Exception
	finds []find // the most trusted first
	named bool   // a change names it
}

// exceptions returns the exceptions of the new store, in order: the finds that are
// true, needed and whole, and those that are known to be lost. It copies the chunks,
// if the repair has somewhere to copy them to. An error is in r.err.
func (r *repair) exceptions() iter.Seq[layout.Exception] {
	return func(yield func(layout.Exception) bool) {
		var window [][]fact // each of one chunk of one branch
		facts, most := 0, max(1, readAhead>>r.old.sb.ChunkShift)
		for chunk := range r.chunksFound() {
			window = append(window, chunk)
			if facts += len(chunk); facts >= most {
				if !r.judgeAll(window, yield) {
					return
				}
				window, facts = window[:0], 0
			}
		}
		if r.err == nil && r.judgeAll(window, yield) && r.copyTo != nil {
			r.failed(r.copyTo(nil))
		}
	}
}

// chunksFound returns what was found, a chunk of a branch at a time.
func (r *repair) chunksFound() iter.Seq[[]fact] {
	return func(yield func([]fact) bool) {
		var chunk []fact
		for f := range r.finds.sorted(&r.err) {
			if n := len(chunk); n > 0 {
				last := &chunk[n-1]
				if (layout.ExceptionCodec{}).Compare(last.Exception, f.Exception) == 0 {
					last.take(f)
					continue
				}
				if last.Branch != f.Branch || last.Chunk != f.Chunk {
					if !yield(chunk) {
						return
					}
					chunk = nil
				}
			}
			next := fact{Exception: f.Exception}
			next.take(f)
			chunk = append(chunk, next)
		}
		if r.err == nil && len(chunk) > 0 {
			yield(chunk)
		}
	}
}

// judgeAll judges chunks, whose slots it reads many at once before.
func (r *repair) judgeAll(window [][]fact, yield func(layout.Exception) bool) bool {
	r.failed(r.ctx.Err())
	r.prefetch(window)
	for _, chunk := range window {
		for _, e := range r.judge(chunk) {
			r.failed(r.changes.add(layout.Change{Branch: e.Branch, Generation: e.Generation, Chunk: e.Chunk}))
			if r.err != nil || !yield(e) {
				return false
			}
		}
	}
	return r.err == nil
}

const (
	readAhead = 4 << 20 // bytes of slots that are read before they are judged
	readers   = 16      // slots that are read at a time
)

// prefetch reads the slots in which chunks are most likely to be. What cannot be read
// is tried again when it is needed.
func (r *repair) prefetch(window [][]fact) {
	clear(r.ahead)
	var slots []block.Slot
	for _, chunk := range window {
		for _, f := range chunk {
			if len(f.finds) > 0 && uint64(f.finds[0].Slot) < r.old.sb.Slots {
				slots = append(slots, f.finds[0].Slot)
			}
		}
	}
	slices.Sort(slots)
	slots = slices.Compact(slots)
	data := make([][]byte, len(slots))
	var wg sync.WaitGroup
	for w := range min(readers, len(slots)) {
		wg.Go(func() {
			for i := w; i < len(slots); i += readers {
				if p, err := r.old.store.read(r.old.slotOffset(slots[i]), 1<<r.old.sb.ChunkShift); err == nil {
					data[i] = p
				}
			}
		})
	}
	wg.Wait()
	for i, p := range data {
		if p != nil {
			r.ahead[slots[i]] = p
		}
	}
}

// take adds a find of the same exception.
func (f *fact) take(more find) {
	if more.trust == fromChanges {
		f.named = true
		return
	}
	f.finds = append(f.finds, more)
}

// judge returns the exceptions of one chunk of a branch that the new store has.
func (r *repair) judge(chunk []fact) []layout.Exception {
	if len(chunk) == 0 {
		return nil
	}
	if chunk[0].Branch == 0 {
		return r.judgeCopies(chunk)
	}
	return r.judgeWrites(chunk)
}

// doubted reports whether nothing vouches for an exception but an old place where it
// once was named: the change tree is whole there and does not name it.
func (r *repair) doubted(f *fact) bool {
	for _, g := range f.finds {
		if g.trust <= fromTree {
			return false
		}
	}
	c := layout.Change{Branch: f.Branch, Generation: f.Generation, Chunk: f.Chunk}
	return !f.named && !r.lost[layout.KindChanges].has(changeKey(c))
}

// judgeCopies judges what was copied out of the origin: it has checksums.
func (r *repair) judgeCopies(chunk []fact) (list []layout.Exception) {
	before := block.Generation(0)
	for i := range chunk {
		f := &chunk[i]
		if uint64(f.Chunk) >= r.chunks || !r.snaps.anyIn(0, before, f.Generation) {
			r.report.Dropped++
			continue
		}
		e, ok := r.firstWhole(f)
		if !ok && r.doubted(f) && r.old.sure {
			r.report.Dropped++
			continue
		}
		r.countCopy(before, e)
		before = e.Generation
		r.generation = max(r.generation, before)
		list = append(list, e)
	}
	return list
}

// firstWhole returns the exception with a slot of the new store, if one of its places
// holds what it is to hold; else as lost.
func (r *repair) firstWhole(f *fact) (e layout.Exception, ok bool) {
	e = layout.Exception{Chunk: f.Chunk, Generation: f.Generation, Slot: layout.LostSlot}
	for i, g := range f.finds {
		e.Sum = g.Sum
		if g.Slot == layout.LostSlot {
			break
		}
		if i > 0 && g.Slot == f.finds[i-1].Slot && g.Sum == f.finds[i-1].Sum {
			continue
		}
		if data, ok := r.readSlot(g.Slot); ok && layout.SumOf(data) == g.Sum {
			r.used.add(uint64(g.Slot))
			e.Slot = r.put(data)
			return e, true
		}
	}
	return e, false
}

// judgeWrites judges what was written to a snapshot: it has no checksums, so what
// cannot be true is left out, and what may be not marks the snapshot.
func (r *repair) judgeWrites(chunk []fact) (list []layout.Exception) {
	owner := r.snaps.all[block.Generation(chunk[0].Branch)]
	var kept []*fact
	for i := range chunk {
		f := &chunk[i]
		if owner == nil || given(owner.State) || uint64(f.Chunk) >= r.chunksOf(owner.Size) ||
			uint64(f.Generation) < uint64(f.Branch) || r.doubted(f) && r.old.sure {
			r.report.Dropped++
			continue
		}
		kept = append(kept, f)
	}
	for i, f := range kept {
		if i+1 < len(kept) && !r.snaps.anyIn(f.Branch, f.Generation, kept[i+1].Generation) {
			r.report.Dropped++
			continue
		}
		r.generation = max(r.generation, f.Generation)
		list = append(list, r.copyWrite(owner, f))
	}
	return list
}

// copyWrite returns the exception of a chunk written to a snapshot, with a slot of the
// new store, or as lost if it cannot be read or its slot holds another's bytes.
func (r *repair) copyWrite(owner *entry, f *fact) layout.Exception {
	e := layout.Exception{Branch: f.Branch, Chunk: f.Chunk, Generation: f.Generation, Slot: layout.LostSlot}
	if len(f.finds) > 0 {
		g := f.finds[0]
		if g.trust > fromTree && !f.named {
			owner.Damaged = true
		}
		if data, ok := r.readSlot(g.Slot); ok && r.used.add(uint64(g.Slot)) {
			e.Slot = r.put(data)
		}
	}
	r.countWrite(e)
	return e
}

// readSlot returns a slot of the old store.
func (r *repair) readSlot(s block.Slot) ([]byte, bool) {
	if uint64(s) >= r.old.sb.Slots {
		return nil, false
	}
	r.sawBytes(1 << r.old.sb.ChunkShift)
	if data, ok := r.ahead[s]; ok {
		return data, true
	}
	data, err := r.old.store.read(r.old.slotOffset(s), 1<<r.old.sb.ChunkShift)
	return data, err == nil
}

// put copies a chunk into the next slot of the new store.
func (r *repair) put(data []byte) block.Slot {
	slot := r.nextSlot
	r.nextSlot++
	if r.copyTo != nil && r.err == nil {
		r.failed(r.copyTo(data))
	}
	return slot
}

// failed takes over the first error of what cannot return one.
func (r *repair) failed(err error) {
	if r.err == nil {
		r.err = err
	}
}
