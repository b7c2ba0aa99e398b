// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
	"slices"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

// record is a log record that was found anywhere.
type record struct {
	layout.RecordHeader
	body []byte
}

// identityOf returns the identity that a record's header gives itself, if it can be
// one of the store's.
func (r *repair) identityOf(p []byte) (layout.Identity, bool) {
	if len(p) < layout.RecordHeaderSize || !bytes.Equal(p[16:32], r.old.sb.UUID[:]) {
		return layout.Identity{}, false
	}
	id := layout.Identity{UUID: r.old.sb.UUID, Epoch: binary.LittleEndian.Uint64(p[32:]), Seq: binary.LittleEndian.Uint64(p[40:])}
	return id, !r.old.sure || id.Epoch <= r.old.sb.Epoch
}

// current reports whether recovery would come past a record: it is not older than the
// checkpoint.
func (r *repair) current(id layout.Identity, pos layout.Position) bool {
	return r.old.sure && !r.old.sb.Clean && id.Epoch == r.old.sb.Epoch && id.Seq >= pos.Seq
}

// readLogs collects what all records say that can be found.
func (r *repair) readLogs() error {
	if err := r.readControl(); err != nil {
		return err
	}
	var seen []uint64
	take := func(rec record) error {
		if rec.Kind != layout.RecordBatch {
			return nil
		}
		b, err := layout.DecodeBatch(rec.body)
		if err != nil || b.Branch != 0 {
			return nil
		}
		from := fromOldLog
		if r.current(rec.Identity, r.old.sb.LogPos) {
			from = fromLog
			seen = append(seen, rec.Seq)
		}
		return r.takeBatch(b, from, rec.Identity)
	}
	if err := r.eachBatch(take); err != nil {
		return err
	}
	if gap, ok := gapIn(seen, r.old.sb.LogPos.Seq); ok {
		r.problem("batch %d is lost: what it preserved is not known", gap)
		r.suspicion = append(r.suspicion, suspicion{upTo: math.MaxUint64})
	}
	return nil
}

// gapIn returns the first number from first on that is missing among those seen,
// below the highest of them.
func gapIn(seen []uint64, first uint64) (gap uint64, ok bool) {
	slices.Sort(seen)
	for _, n := range slices.Compact(seen) {
		if n != first {
			return first, true
		}
		first++
	}
	return 0, false
}

// takeBatch adds the exceptions of a batch. Of one older than the checkpoint only
// those count whose tree is lost.
func (r *repair) takeBatch(b *layout.Batch, from trust, id layout.Identity) error {
	used := false
	for _, c := range b.Copies {
		e := layout.Exception{Branch: b.Branch, Chunk: c.Chunk, Generation: b.Generation, Slot: c.Slot, Sum: c.Sum}
		if from == fromOldLog && r.old.sure && !r.lost[layout.KindExceptions].has(exceptionKey(e)) {
			continue
		}
		used = true
		if err := r.finds.add(find{e, from, id.Seq}); err != nil {
			return err
		}
	}
	if used {
		r.report.Batches++
	}
	return nil
}

// eachBatch calls fn for every whole record in the log of batches.
func (r *repair) eachBatch(fn func(record) error) error {
	sb := r.old.sb
	switch sb.Placement {
	case layout.PlacementInline:
		return r.eachDescriptor(fn)
	case layout.PlacementDisk:
		return r.eachRecord(r.old.meta, int64(sb.Journal.First)*block.PageSize, int64(sb.Journal.Len)*block.PageSize, block.PageSize, fn)
	}
	if r.old.journal == nil {
		r.problem("the journal device was not named: batches since the last checkpoint are lost")
		if !sb.Clean {
			r.suspicion = append(r.suspicion, suspicion{upTo: math.MaxUint64})
		}
		return nil
	}
	grain := block.PageSize
	if sb.Placement == layout.PlacementPMem {
		grain = 64
	}
	return r.eachRecord(r.old.journal, layout.LabelSize, sb.JournalSize, grain, fn)
}

// eachRecord calls fn for every whole record in a ring.
func (r *repair) eachRecord(s *source, start, length int64, grain int, fn func(record) error) error {
	return r.scan(s, start, length, grain, func(off int64, p []byte) error {
		id, ok := r.identityOf(p)
		if !ok {
			return nil
		}
		h, err := layout.DecodeRecordHeader(p, id)
		n := layout.RecordHeaderSize + int64(h.Body)
		if err != nil || n > start+length-off {
			return nil
		}
		size := n
		if grain == block.PageSize { // a block device, read in sectors
			size = (n + block.SectorSize - 1) / block.SectorSize * block.SectorSize
		}
		whole, err := s.read(off, int(size))
		if err != nil || layout.VerifyRecord(whole[:n]) != nil {
			return nil
		}
		return fn(record{h, whole[layout.RecordHeaderSize:n]})
	})
}

// eachDescriptor calls fn for every whole descriptor in the data area: it ends its
// slot, with what does not fit into the slot's last page in whole pages before that.
func (r *repair) eachDescriptor(fn func(record) error) error {
	sb, size := r.old.sb, 1<<r.old.sb.ChunkShift
	take := func(slot block.Slot, last []byte) error {
		id, ok := r.identityOf(last)
		if !ok {
			return nil
		}
		h, err := layout.DecodeRecordHeader(last, id)
		if err != nil {
			return nil
		}
		whole := bytes.Clone(last)
		n := layout.RecordHeaderSize + int(h.Body)
		if rest := (max(0, n-block.PageSize) + block.PageSize - 1) / block.PageSize * block.PageSize; rest > 0 {
			if rest+block.PageSize > size {
				return nil
			}
			over, err := r.old.store.read(r.old.slotOffset(slot+1)-block.PageSize-int64(rest), rest)
			if err != nil {
				return nil
			}
			whole = append(whole, over...)
		}
		if layout.VerifyRecord(whole[:n]) != nil {
			return nil
		}
		return fn(record{h, whole[layout.RecordHeaderSize:n]})
	}
	if size <= 16<<10 { // reading all costs no more than many seeks
		return r.scan(r.old.store, sb.DataOffset, int64(sb.Slots)<<sb.ChunkShift, size, func(off int64, p []byte) error {
			return take(block.Slot((off-sb.DataOffset)>>sb.ChunkShift), p[size-block.PageSize:])
		})
	}
	slots := min(sb.Slots, uint64(max(0, r.old.store.size-sb.DataOffset))>>sb.ChunkShift)
	for slot := block.Slot(0); uint64(slot) < slots; slot++ {
		if slot%1024 == 0 {
			if err := r.ctx.Err(); err != nil {
				return err
			}
		}
		if last, err := r.old.store.read(r.old.slotOffset(slot+1)-block.PageSize, block.PageSize); err == nil {
			if err := take(slot, last); err != nil {
				return err
			}
		}
	}
	return nil
}

// readControl takes in the records of snapshots, and of what was written to them.
func (r *repair) readControl() error {
	sb := r.old.sb
	var list []record
	err := r.eachRecord(r.old.meta, int64(sb.Control.First)*block.PageSize, int64(sb.Control.Len)*block.PageSize, block.PageSize, func(rec record) error {
		list = append(list, rec)
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortFunc(list, func(a, b record) int { return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Seq, b.Seq)) })
	var seen []uint64
	for _, rec := range list {
		current := r.current(rec.Identity, sb.ControlPos)
		if current {
			seen = append(seen, rec.Seq)
		}
		if err := r.takeControl(rec, current); err != nil {
			return err
		}
	}
	if gap, ok := gapIn(seen, sb.ControlPos.Seq); ok {
		r.problem("record %d of the snapshots is lost", gap)
		r.suspicion = append(r.suspicion, suspicion{all: true})
	}
	return nil
}

// takeControl takes a record of the control ring in, in its order.
func (r *repair) takeControl(rec record, current bool) error {
	if rec.Kind == layout.RecordSnapshot {
		if s, err := layout.DecodeSnapshotRecord(rec.body); err == nil {
			r.snaps.recorded(s, current)
		}
		return nil
	}
	b, err := layout.DecodeBatch(rec.body)
	if err != nil || b.Branch == 0 {
		return nil
	}
	from := fromOldLog
	if current {
		from = fromLog
	}
	return r.takeBatch(b, from, rec.Identity)
}
