// SPDX-License-Identifier: Apache-2.0

package check

import (
	"cmp"
	"fmt"
	"slices"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

// replayedCopy is a copy of a batch that recovery would take in.
type replayedCopy struct {
	layout.Exception
	seq uint64
}

// pendingBatch is a batch that no later one is known to say is durable.
type pendingBatch struct {
	record
	batch *layout.Batch
}

// replayBatches takes in the batches since the checkpoint, as recovery would: all
// that a later one says are durable, and those after as far as their chunks have
// their checksums.
func (c *checker) replayBatches() {
	l := c.batchLog()
	if l == nil {
		c.notChecked("journal", "log of batches", "its device cannot be read", "copies since the last checkpoint are unknown")
		c.logLost = true
		return
	}
	if ch, ok := l.(*chain); ok {
		ch.slots = c.laterSlots
	}
	var pending []pendingBatch
	id := layout.Identity{UUID: c.sb.UUID, Epoch: c.sb.Epoch, Seq: c.sb.LogPos.Seq}
	end, why := scan(l, id, c.sb.LogPos.Place, func(r record) bool {
		b, err := c.decodeBatch(r)
		if err != nil {
			c.refused(l.source(), "batch", r, err)
			return false
		}
		for len(pending) > 0 && pending[0].Seq <= r.Durable {
			c.takeIn(pending[0])
			pending = pending[1:]
		}
		pending = append(pending, pendingBatch{r, b})
		return !c.stopped
	})
	for _, p := range pending {
		if !c.chunksThere(p.batch) {
			break
		}
		c.takeIn(p)
	}
	c.judgeEnd(l, "batch", c.sb.LogPos, end, why)
}

// sortReplayed brings what the logs hold into the order of the exceptions.
func (c *checker) sortReplayed() {
	slices.SortStableFunc(c.replayed, func(a, b replayedCopy) int {
		return layout.ExceptionCodec{}.Compare(a.Exception, b.Exception)
	})
	c.dropReplaced()
}

// laterSlots yields where a descriptor after the log's end may be: in what was leased
// at the checkpoint; with Options.Data also in what was free then and may have been
// leased since. No other slot was written to by clients of the origin. Leases count as
// free here, for claimLeases comes before.
func (c *checker) laterSlots(yield func(block.Slot) bool) {
	if !c.opts.Data {
		for _, r := range c.leases {
			for s := uint64(r.First); s < min(uint64(r.First)+r.Len, c.sb.Slots); s++ {
				if !yield(block.Slot(s)) {
					return
				}
			}
		}
		return
	}
	known := c.complete[layout.KindSlots]
	for s := range c.sb.Slots {
		if !(known && c.allocated.has(s)) && !yield(block.Slot(s)) {
			return
		}
	}
}

// decodeBatch reads a batch and applies the tests that make recovery refuse one.
func (c *checker) decodeBatch(r record) (*layout.Batch, error) {
	if r.Kind != layout.RecordBatch {
		return nil, fmt.Errorf("it is of kind %d", r.Kind)
	}
	b, err := layout.DecodeBatch(r.body)
	if err != nil {
		return nil, err
	}
	if b.Branch != 0 || b.Generation > c.generation {
		return nil, fmt.Errorf("it is of branch %d, generation %d; the origin's generation is %d", b.Branch, b.Generation, c.generation)
	}
	return b, c.checkCopies(b, c.chunks)
}

// checkCopies applies the tests of a batch's chunks and slots.
func (c *checker) checkCopies(b *layout.Batch, chunks uint64) error {
	for _, copied := range b.Copies {
		if copied.Slot == layout.LostSlot && b.Branch == 0 && copied.Sum == 0 && uint64(copied.Chunk) < chunks {
			continue
		}
		if uint64(copied.Chunk) >= chunks || uint64(copied.Slot) >= c.sb.Slots {
			return fmt.Errorf("it copies chunk %d of %d to slot %d of %d", copied.Chunk, chunks, copied.Slot, c.sb.Slots)
		}
	}
	return nil
}

// takeIn adds a batch to what recovery would make of the store.
func (c *checker) takeIn(p pendingBatch) {
	if c.sb.Placement == layout.PlacementInline && p.batch.Branch == 0 {
		c.allocated.add(uint64(p.slot))
		c.used.add(uint64(p.slot)) // until the next checkpoint
	}
	for _, copied := range p.batch.Copies {
		if copied.Slot != layout.LostSlot {
			c.allocated.add(uint64(copied.Slot))
		}
		c.replayed = append(c.replayed, replayedCopy{layout.Exception{
			Branch: p.batch.Branch, Chunk: copied.Chunk, Generation: p.batch.Generation, Slot: copied.Slot, Sum: copied.Sum,
		}, p.Seq})
	}
}

// chunksThere reports whether all chunks of a batch that are not lost have their
// checksums.
func (c *checker) chunksThere(b *layout.Batch) bool {
	if c.store == nil {
		return false
	}
	for _, copied := range b.Copies {
		if copied.Slot == layout.LostSlot {
			continue
		}
		data, err := c.store.read(c.slotOffset(copied.Slot), c.geo.ChunkSize())
		if err != nil || layout.SumOf(data) != copied.Sum {
			return false
		}
	}
	return true
}

// dropReplaced leaves the last of the copies of the same chunk in the same
// generation.
func (c *checker) dropReplaced() {
	kept := c.replayed[:0]
	for i, r := range c.replayed {
		if i+1 == len(c.replayed) || (layout.ExceptionCodec{}).Compare(r.Exception, c.replayed[i+1].Exception) != 0 {
			kept = append(kept, r)
		} else if r.Branch != 0 && r.Slot != c.replayed[i+1].Slot {
			c.used.add(uint64(r.Slot)) // until the next checkpoint
		}
	}
	c.replayed = kept
}

// inReplay reports whether the log has a copy of the chunk in the generation.
func (c *checker) inReplay(k layout.Change) bool {
	_, ok := slices.BinarySearchFunc(c.replayed, k, func(r replayedCopy, k layout.Change) int {
		return cmp.Or(cmp.Compare(r.Branch, k.Branch), cmp.Compare(r.Chunk, k.Chunk), cmp.Compare(r.Generation, k.Generation))
	})
	return ok
}

// refused reports a record whose checksum is right and that recovery refuses.
func (c *checker) refused(src *source, what string, r record, err error) {
	c.report(Violation{
		Severity: Damage, Code: BadLog, Device: src.name, Offset: r.offset, Structure: fmt.Sprintf("%s record %d", what, r.Seq),
		Problem: err.Error(), Meaning: "recovery refuses it, and so the store cannot be opened",
	})
}

// judgeEnd judges why a log ends. A record that is torn or not there is the normal
// end, unless a later one says that it was durable.
func (c *checker) judgeEnd(l recordLog, what string, pos layout.Position, end layout.Identity, why error) {
	if why == nil {
		return
	}
	v := Violation{
		Severity: Damage, Code: BadLog, Device: l.source().name, Offset: -1,
		Structure: fmt.Sprintf("%s record %d", what, end.Seq), Problem: why.Error(),
	}
	if r, ok := l.(*ring); ok && pos.Place%uint64(r.grain) != 0 {
		v.Problem = fmt.Sprintf("the superblock places the log at byte %d, no multiple of %d", pos.Place, r.grain)
		v.Meaning = "what happened since the last checkpoint is lost"
		c.report(v)
		return
	}
	if !notHere(why) {
		v.Code, v.Meaning = Unreadable, "what happened since is lost"
		c.report(v)
		return
	}
	if later, ok := l.later(end); ok && later.Durable >= end.Seq {
		v.Problem = fmt.Sprintf("%v, but record %d at byte %d says that it was durable", why, later.Seq, later.offset)
		v.Meaning = "recovery stops before it: what it and all later records hold is lost"
		c.report(v)
	}
}

// readLeases reads which slots the checkpoint has as leased.
func (c *checker) readLeases() {
	w := walk[layout.SlotRun]{
		img: c.image, codec: layout.LeaseCodec{}, kind: layout.KindLeases, pages: &c.pages, report: c.report,
		leaf: func(_ layout.PageHeader, entries []layout.SlotRun) bool {
			c.leases = append(c.leases, entries...)
			return c.progress(len(entries))
		},
	}
	c.complete[layout.KindLeases] = w.run()
}

// claimGrown takes the slots that grown extents lie in: with the metadata on a
// device of its own there are none.
func (c *checker) claimGrown() {
	if c.sb.Separate {
		return
	}
	size := int64(c.geo.ChunkSize())
	for _, e := range c.sb.Grown {
		first := (int64(e.First)*block.PageSize - c.sb.DataOffset) / size
		end := (int64(e.End())*block.PageSize - c.sb.DataOffset + size - 1) / size
		for s := uint64(max(first, 0)); s < min(uint64(max(end, 0)), c.sb.Slots); s++ {
			if !c.allocated.has(s) && c.complete[layout.KindSlots] {
				c.badSlots(c.slotOffset(block.Slot(s)), fmt.Sprintf("grown extent of pages %d+%d", e.First, e.Len),
					fmt.Sprintf("it lies in slot %d, which is free", s), "tree pages will be overwritten with chunks")
				break
			}
			c.used.add(s)
		}
	}
}

// claimLeases judges the checkpoint's leases and gives their slots back, as
// recovery does.
func (c *checker) claimLeases() {
	for _, r := range c.leases {
		first, end := uint64(r.First), uint64(r.First)+r.Len
		if end > c.sb.Slots {
			c.badLease(r, fmt.Sprintf("there are %d slots", c.sb.Slots), "recovery refuses it, and so the store cannot be opened")
			continue
		}
		for s := first; s < end; s++ {
			if !c.allocated.has(s) && c.complete[layout.KindSlots] {
				c.badLease(r, fmt.Sprintf("slot %d is free or leased twice", s), "two batches may be written to it")
				break
			}
		}
		c.allocated.remove(first, end)
	}
	if c.sb.Clean && len(c.leases) > 0 {
		c.badLease(c.leases[0], "the store was closed in order, but has leases", "their slots may be lost")
	}
}

func (c *checker) badLease(r layout.SlotRun, problem, meaning string) {
	c.report(Violation{
		Severity: Damage, Code: BadLease, Device: c.meta.name, Offset: int64(c.sb.Checkpoint%layout.Superblocks) * block.PageSize,
		Structure: fmt.Sprintf("lease of slots %d+%d", r.First, r.Len), Problem: problem, Meaning: meaning,
	})
}
