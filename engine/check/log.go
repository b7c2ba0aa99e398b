// SPDX-License-Identifier: Apache-2.0

package check

import (
	"errors"
	"fmt"
	"iter"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

// record is a log record that was found where it must be.
type record struct {
	layout.RecordHeader
	body   []byte
	offset int64      // of its header on its device, in bytes
	slot   block.Slot // whose end it fills, of placement inline
	size   int64      // that it takes up, of a journal
}

// recordLog is a log of either form.
type recordLog interface {
	source() *source
	// next returns the record that id says, at place. The error wraps
	// layout.ErrCorrupt or layout.ErrVersion if it is not there.
	next(place uint64, id layout.Identity) (record, error)
	// after returns the place that follows a record.
	after(r record) uint64
	// later returns any record of the log whose number is above id's.
	later(id layout.Identity) (record, bool)
}

// scan calls fn for the records from pos on, until fn returns false or the log
// ends: before the first place that does not hold the exact next record. It
// returns the identity of the record that is not there, and why.
func scan(l recordLog, id layout.Identity, place uint64, fn func(record) bool) (end layout.Identity, why error) {
	for {
		r, err := l.next(place, id)
		if err != nil {
			return id, err
		}
		if !fn(r) {
			return id, nil
		}
		id.Seq++
		place = l.after(r)
	}
}

// notHere reports whether err says that a record is not there, and not that it
// could not be read.
func notHere(err error) bool {
	return errors.Is(err, layout.ErrCorrupt) || errors.Is(err, layout.ErrVersion)
}

// ring is a journal region: records at multiples of the grain, none of which
// wraps around the end.
type ring struct {
	src               *source
	start, len, grain int64
}

// pmemGrain is what records in persistent memory are aligned to, in bytes.
const pmemGrain = 64

// controlRing returns the ring of snapshot records.
func (img *image) controlRing() *ring {
	return pageRing(img.meta, img.sb.Control)
}

func pageRing(src *source, e layout.Extent) *ring {
	return &ring{src: src, start: int64(e.First) * block.PageSize, len: int64(e.Len) * block.PageSize, grain: block.PageSize}
}

// batchLog returns the log of batches, nil if its device is not there.
func (img *image) batchLog() recordLog {
	switch {
	case img.sb.Placement == layout.PlacementInline && img.store != nil:
		return &chain{img: img}
	case img.sb.Placement == layout.PlacementDisk:
		return pageRing(img.meta, img.sb.Journal)
	case img.needsJournal() && img.journal != nil:
		grain := int64(block.PageSize)
		if img.sb.Placement == layout.PlacementPMem {
			grain = pmemGrain
		}
		return &ring{src: img.journal, start: layout.LabelSize, len: img.sb.JournalSize / grain * grain, grain: grain}
	}
	return nil
}

func (r *ring) source() *source { return r.src }

func (r *ring) after(rec record) uint64 {
	return uint64((rec.offset - r.start + rec.size) % r.len)
}

// next looks at place and then, where a record that does not fit before the end
// goes, at the beginning.
func (r *ring) next(place uint64, id layout.Identity) (record, error) {
	if place >= uint64(r.len) {
		return record{}, fmt.Errorf("%w: place %d is outside the journal of %d bytes", layout.ErrCorrupt, place, r.len)
	}
	rec, err := r.at(int64(place), id)
	if err != nil && notHere(err) && place != 0 {
		if wrapped, werr := r.at(0, id); werr == nil || !notHere(werr) {
			return wrapped, werr
		}
	}
	return rec, err
}

func (r *ring) at(place int64, id layout.Identity) (record, error) {
	if place+max(r.grain, layout.RecordHeaderSize) > r.len {
		return record{}, fmt.Errorf("%w: the journal ends", layout.ErrCorrupt)
	}
	head, err := r.src.read(r.start+place, layout.RecordHeaderSize)
	if err != nil {
		return record{}, err
	}
	h, err := layout.DecodeRecordHeader(head, id)
	if err != nil {
		return record{}, err
	}
	n := layout.RecordHeaderSize + int64(h.Body)
	if n > r.len-place {
		return record{}, fmt.Errorf("%w: a body of %d bytes does not fit", layout.ErrCorrupt, h.Body)
	}
	rec, err := r.src.read(r.start+place, int(n))
	if err != nil {
		return record{}, err
	}
	if err := layout.VerifyRecord(rec); err != nil {
		return record{}, err
	}
	size := (n + r.grain - 1) / r.grain * r.grain
	return record{RecordHeader: h, body: rec[layout.RecordHeaderSize:], offset: r.start + place, size: size}, nil
}

// laterStep is how much of a log later reads at once, in bytes.
const laterStep = 1 << 20

func (r *ring) later(id layout.Identity) (record, bool) {
	for from := int64(0); from < r.len; from += laterStep {
		n := min(laterStep, r.len-from)
		part, err := r.src.read(r.start+from, int(n))
		if err != nil {
			return record{}, false
		}
		for at := int64(0); at+layout.RecordHeaderSize <= n; at += r.grain {
			if found, ok := laterHeader(part[at:], id); ok {
				if rec, err := r.at(from+at, found); err == nil {
					return rec, true
				}
			}
		}
	}
	return record{}, false
}

// laterHeader returns the identity in p if it is of id's epoch and a higher
// number. Decoding fills the header in before it compares.
func laterHeader(p []byte, id layout.Identity) (layout.Identity, bool) {
	h, _ := layout.DecodeRecordHeader(p, id)
	return h.Identity, h.UUID == id.UUID && h.Epoch == id.Epoch && h.Seq > id.Seq
}

// chain is the descriptors of placement inline, each of which names the slot of
// the next.
type chain struct {
	img   *image
	slots iter.Seq[block.Slot] // where later looks, ascending
}

func (c *chain) source() *source { return c.img.store }

func (c *chain) after(r record) uint64 { return uint64(r.Next) }

// next reads the descriptor that ends where its slot ends: header and begin of
// the body in the slot's last page, the rest in whole pages before it.
func (c *chain) next(place uint64, id layout.Identity) (record, error) {
	if place >= c.img.sb.Slots {
		return record{}, fmt.Errorf("%w: slot %d of %d", layout.ErrCorrupt, place, c.img.sb.Slots)
	}
	last := c.img.slotOffset(block.Slot(place)+1) - block.PageSize
	rec, err := c.img.store.read(last, block.PageSize)
	if err != nil {
		return record{}, err
	}
	h, err := layout.DecodeRecordHeader(rec, id)
	if err != nil {
		return record{}, err
	}
	n := layout.RecordHeaderSize + int64(h.Body)
	if rest := (max(0, n-block.PageSize) + block.PageSize - 1) / block.PageSize * block.PageSize; rest > 0 {
		if rest+block.PageSize > int64(c.img.geo.ChunkSize()) {
			return record{}, fmt.Errorf("%w: a body of %d bytes does not fit into a slot", layout.ErrCorrupt, h.Body)
		}
		over, err := c.img.store.read(last-rest, int(rest))
		if err != nil {
			return record{}, err
		}
		rec = append(rec, over...)
	}
	if err := layout.VerifyRecord(rec[:n]); err != nil {
		return record{}, err
	}
	return record{RecordHeader: h, body: rec[layout.RecordHeaderSize:n], offset: last, slot: block.Slot(place)}, nil
}

// later reads what lies between the ends of near slots along with them: one long
// read takes less time than many short ones.
func (c *chain) later(id layout.Identity) (record, bool) {
	most := block.Slot(max(1, laterStep/c.img.geo.ChunkSize()))
	var near []block.Slot
	for slot := range c.slots {
		if len(near) > 0 && slot-near[0] >= most {
			if r, ok := c.laterOf(near, id); ok {
				return r, true
			}
			near = near[:0]
		}
		near = append(near, slot)
	}
	return c.laterOf(near, id)
}

// laterOf looks at the ends of slots that one read reaches; if it cannot be read, of
// each by itself.
func (c *chain) laterOf(slots []block.Slot, id layout.Identity) (record, bool) {
	if len(slots) == 0 {
		return record{}, false
	}
	end := func(slot block.Slot) int64 { return c.img.slotOffset(slot+1) - block.PageSize }
	first := end(slots[0])
	part, err := c.img.store.read(first, int(end(slots[len(slots)-1])-first)+layout.RecordHeaderSize)
	if err != nil && len(slots) > 1 {
		for i := range slots {
			if r, ok := c.laterOf(slots[i:i+1], id); ok {
				return r, true
			}
		}
	}
	if err != nil {
		return record{}, false
	}
	for _, slot := range slots {
		if found, ok := laterHeader(part[end(slot)-first:], id); ok {
			if rec, err := c.next(uint64(slot), found); err == nil {
				return rec, true
			}
		}
	}
	return record{}, false
}
