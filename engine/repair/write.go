// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"fmt"
	"slices"

	"zumastor.org/zumastor/engine/alloc"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/layout/bulk"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/store"
)

// fill is the part of the new tree pages that is used: some room for what comes
// between.
const fill = 0.9

// write makes the new store: an empty one first, then chunks and trees in what that
// one has free, then the superblock that names them.
func (r *repair) write(to placement.Devices) error {
	sb, err := r.format(to)
	if err != nil {
		return err
	}
	r.report.New = sb.UUID
	r.copyTo = (&chunkWriter{to: to.Store, sb: sb, buf: device.Buffer(max(writeBytes, 1<<sb.ChunkShift))}).add
	sb.Checkpoint, sb.Epoch, sb.Clean = 1, 1, true
	err = bulk.WriteTrees(to.MetaDevice(), sb, bulk.Contents{
		Exceptions: r.exceptions(),
		Changes:    r.changes.sorted(&r.err),
		Slots:      func(yield func(layout.SlotWord) bool) { bulk.SlotWords(uint64(r.nextSlot))(yield) },
		Snapshots:  func(yield func(layout.Snapshot) bool) { r.snapshots()(yield) },
	}, fill)
	if r.err != nil {
		return r.err
	}
	if err != nil {
		return fmt.Errorf("writing the new store: %w", err)
	}
	sb.Policy, sb.Generation, sb.Restore = r.old.sb.Policy, r.generation, r.restore()
	return seal(to, sb)
}

// writeBytes is how much is written at once.
const writeBytes = 1 << 20

// chunkWriter writes chunks into one slot after the other.
type chunkWriter struct {
	to   device.Device
	sb   *layout.Superblock
	next uint64 // slot of what is in buf
	buf  []byte
	n    int // bytes of buf that wait
}

// add writes a chunk, sooner or later; nil stands for the end.
func (w *chunkWriter) add(data []byte) error {
	w.n += copy(w.buf[w.n:], data)
	if data != nil && w.n < len(w.buf) {
		return nil
	}
	if w.n == 0 {
		return nil
	}
	slots := uint64(w.n) >> w.sb.ChunkShift
	if w.next+slots > w.sb.Slots {
		return fmt.Errorf("the new store has %d slots only: %w", w.sb.Slots, alloc.ErrNoSpace)
	}
	if _, err := w.to.WriteAt(w.buf[:w.n], w.sb.DataOffset+int64(w.next<<w.sb.ChunkShift)); err != nil {
		return fmt.Errorf("writing slots %d+%d of the new store: %w", w.next, slots, err)
	}
	w.next, w.n = w.next+slots, 0
	return nil
}

// format makes the empty store and returns its superblock.
func (r *repair) format(to placement.Devices) (*layout.Superblock, error) {
	old := r.old.sb
	o := store.FormatOptions{
		OriginSize: old.OriginSize, ChunkSize: 1 << old.ChunkShift, Placement: r.opts.Placement, JournalSize: r.opts.JournalSize, Created: old.Created,
	}
	if o.Placement == 0 {
		o.Placement = old.Placement
	}
	uuid, err := store.Format(to, o)
	if err != nil {
		return nil, fmt.Errorf("formatting the new store: %w", err)
	}
	o.UUID = uuid
	return store.Plan(to, o)
}

// seal makes all durable that was written, then the superblock.
func seal(to placement.Devices, sb *layout.Superblock) error {
	for _, d := range []device.Device{to.Store, to.MetaDevice()} {
		if err := d.Flush(); err != nil {
			return fmt.Errorf("flushing the new store: %w", err)
		}
	}
	page := device.Buffer(block.PageSize)
	copy(page, sb.Encode())
	if _, err := to.MetaDevice().WriteAt(page, int64(sb.Checkpoint%layout.Superblocks)*block.PageSize); err != nil {
		return fmt.Errorf("writing the new superblock: %w", err)
	}
	if err := to.MetaDevice().Flush(); err != nil {
		return fmt.Errorf("flushing the new superblock: %w", err)
	}
	return nil
}

// restore returns the revert or merge that is to go on in the new store: none from a
// snapshot that may show the wrong bytes. All exceptions must have been judged.
func (r *repair) restore() layout.Restore {
	restore := r.old.sb.Restore
	if restore.Generation == 0 {
		return restore
	}
	if s := r.snaps.all[restore.Generation]; s == nil || s.State != layout.SnapshotLive || s.Damaged || !r.old.known {
		r.problem("the origin was being restored from the snapshot of generation %d, which is lost or damaged: that cannot go on", restore.Generation)
		return layout.Restore{}
	}
	return restore
}

// snapshots returns those of the new store. All exceptions must have been judged.
func (r *repair) snapshots() func(func(layout.Snapshot) bool) {
	r.snaps.inherit()
	var list []layout.Snapshot
	for _, g := range r.snaps.order {
		list = append(list, r.snaps.all[g].Snapshot)
	}
	return slices.Values(list)
}

// countCopy counts an exception of the origin for the snapshots that read it, those
// after before: up at the first, down after the last.
func (r *repair) countCopy(before block.Generation, e layout.Exception) {
	kept := r.snaps.kept[0]
	first, _ := slices.BinarySearch(kept, before+1)
	end, _ := slices.BinarySearch(kept, e.Generation+1)
	lost := e.Slot == layout.LostSlot
	r.counted(lost)
	if r.ends == nil {
		r.ends = make([]counts, len(kept)+1)
	}
	if lost {
		for _, g := range kept[first:end] {
			r.snaps.all[g].Lossy = true
		}
	}
	r.ends[first].add(1, lost)
	r.ends[end].add(-1, lost)
}

// countWrite counts an exception of a snapshot.
func (r *repair) countWrite(e layout.Exception) {
	lost := e.Slot == layout.LostSlot
	r.counted(lost)
	if r.writes == nil {
		r.writes = make(map[block.Branch]counts)
	}
	if lost {
		r.snaps.all[block.Generation(e.Branch)].Lossy = true
	}
	c := r.writes[e.Branch]
	c.add(1, lost)
	r.writes[e.Branch] = c
}

func (r *repair) counted(lost bool) {
	r.report.Exceptions++
	if lost {
		r.report.Lost++
	}
}

// counts are exceptions, and those of them that are lost.
type counts struct{ all, lost int64 }

func (c *counts) add(n int64, lost bool) {
	c.all += n
	if lost {
		c.lost += n
	}
}

// finish completes the report.
func (r *repair) finish() *Report {
	if r.snaps.inherit(); r.copyTo == nil {
		r.restore() // for what it says of it
	}
	var sum counts
	row := 0
	for _, g := range r.snaps.order {
		e := r.snaps.all[g]
		own := r.writes[block.Branch(g)]
		if e.Parent == 0 && !given(e.State) && r.ends != nil {
			sum.all += r.ends[row].all
			sum.lost += r.ends[row].lost
			row++
			own.all, own.lost = own.all+sum.all, own.lost+sum.lost
		}
		r.report.Snapshots = append(r.report.Snapshots, SnapshotReport{e.Snapshot, uint64(own.all), uint64(own.lost)})
	}
	return &r.report
}
