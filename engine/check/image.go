// SPDX-License-Identifier: Apache-2.0

package check

import (
	"errors"
	"fmt"
	"slices"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

// image is a store as the checker sees it: its devices and the superblock by
// which an opening would go.
type image struct {
	store, meta, journal *source
	sb                   *layout.Superblock
	geo                  block.Geometry
}

// report takes a violation.
type report func(Violation)

// openImage finds the newest superblock, if it is not given one, and judges it and
// the devices. It returns nil when there is none, or when the devices cannot be
// what it describes.
func openImage(d Devices, superblock []byte, report report) *image {
	img := &image{store: newSource("store", d.Store), meta: newSource("metadata", d.Meta), journal: newSource("journal", d.Journal)}
	if img.meta == nil {
		img.meta = img.store
	}
	if img.store == nil || !img.setSuperblock(superblock, report) {
		return nil
	}
	geo, err := block.NewGeometry(img.sb.OriginSize, 1<<img.sb.ChunkShift)
	if err != nil {
		return nil // decoding has checked it
	}
	img.geo = geo
	if img.sb.Separate != (d.Meta != nil) {
		report(Violation{
			Severity: Damage, Code: BadGeometry, Device: img.meta.name, Offset: 0, Structure: "superblock",
			Problem: fmt.Sprintf("the store's metadata is on a device of its own: %t, but one was named: %t", img.sb.Separate, d.Meta != nil),
			Meaning: "these are not the store's devices; nothing else was checked",
		})
		return nil
	}
	img.checkRegions(report)
	img.checkLabels(report)
	return img
}

// candidate is what one of the superblocks' pages holds.
type candidate struct {
	sb    *layout.Superblock
	err   error
	empty bool // zeroes, as formatting leaves the second
}

// isOne reports whether it is a superblock, though maybe a damaged one or one of
// another format.
func (c candidate) isOne() bool {
	return c.err == nil || (errors.Is(c.err, layout.ErrCorrupt) || errors.Is(c.err, layout.ErrVersion)) && !errors.Is(c.err, layout.ErrNoSuperblock)
}

func (img *image) superblock(i int64) candidate {
	page, err := img.meta.read(i*block.PageSize, block.PageSize)
	if err != nil {
		return candidate{err: err}
	}
	sb, err := layout.DecodeSuperblock(page[:layout.SuperblockSize])
	if err != nil {
		return candidate{err: err, empty: layout.NeverWritten(page[:layout.SuperblockSize])}
	}
	return candidate{sb: sb}
}

// setSuperblock sets img.sb to the superblock in p, or to the newest if that is nil,
// and reports whether there is one.
func (img *image) setSuperblock(p []byte, report report) bool {
	if p == nil {
		return img.findSuperblock(report)
	}
	sb, err := layout.DecodeSuperblock(p)
	if err != nil {
		report(Violation{
			Severity: Damage, Code: BadSuperblock, Device: img.meta.name, Offset: -1, Structure: "superblock of the pinned checkpoint",
			Problem: err.Error(), Meaning: "nothing was checked",
		})
		return false
	}
	img.sb = sb
	return true
}

// findSuperblock sets img.sb to the newest valid superblock, if there is one.
func (img *image) findSuperblock(report report) bool {
	var found [layout.Superblocks]candidate
	for i := range found {
		found[i] = img.superblock(int64(i))
		if sb := found[i].sb; sb != nil && (img.sb == nil || sb.Checkpoint > img.sb.Checkpoint) {
			img.sb = sb
		}
	}
	store := slices.ContainsFunc(found[:], candidate.isOne)
	for i, c := range found {
		img.judgeSuperblock(i, c, store, report)
	}
	return img.sb != nil
}

func (img *image) judgeSuperblock(i int, c candidate, store bool, report report) {
	v := Violation{
		Severity: Damage, Code: BadSuperblock, Device: img.meta.name,
		Offset: int64(i) * block.PageSize, Structure: fmt.Sprintf("superblock %d", i),
	}
	switch {
	case !store:
		v.Code, v.Problem = NoStore, c.err.Error()
		v.Meaning = "no store can be opened: this is no store, its metadata is on another device, or both superblocks are lost"
	case c.err != nil && img.sb == nil:
		v.Problem, v.Meaning = c.err.Error(), "neither superblock is whole: the store is refused, and nothing else was checked"
	case c.err != nil && c.empty && img.sb.Checkpoint == 0:
		return
	case c.err != nil && errors.Is(c.err, layout.ErrVersion):
		v.Problem, v.Meaning = c.err.Error(), "a newer program may have written this store"
	case c.err != nil:
		v.Problem = c.err.Error()
		v.Meaning = fmt.Sprintf("no crash does that; if it was the newer one, what checkpoint %d in the other one points at may have been written over: the store is refused", img.sb.Checkpoint)
	case c.sb.Checkpoint%layout.Superblocks != uint64(i):
		v.Problem = fmt.Sprintf("it is checkpoint %d, which belongs into page %d", c.sb.Checkpoint, c.sb.Checkpoint%layout.Superblocks)
		v.Meaning = "a page was copied or written to the wrong place"
	case c.sb.UUID != img.sb.UUID:
		v.Problem = fmt.Sprintf("it is of store %v, the newer one of store %v", c.sb.UUID, img.sb.UUID)
		v.Meaning = "pages of two stores are mixed"
	case c.sb != img.sb && c.sb.Checkpoint+1 != img.sb.Checkpoint:
		v.Problem = fmt.Sprintf("it is checkpoint %d, the newer one %d", c.sb.Checkpoint, img.sb.Checkpoint)
		v.Meaning = "a write of a superblock was lost, or old bytes have returned"
	case !sameShape(c.sb, img.sb):
		v.Problem = "its regions are not those of the newer one"
		v.Meaning = "one of the two describes another store"
	default:
		return
	}
	report(v)
}

// sameShape reports whether all agree that must be the same in every checkpoint:
// not sizes, which change online.
func sameShape(a, b *layout.Superblock) bool {
	return a.Placement == b.Placement && a.Separate == b.Separate && a.ChunkShift == b.ChunkShift &&
		a.DataOffset == b.DataOffset && a.Control == b.Control && a.Journal == b.Journal && a.JournalSize == b.JournalSize &&
		a.TreePages.First == b.TreePages.First && a.Created == b.Created
}

// checkRegions judges the regions against the devices; decoding has judged them
// against each other.
func (img *image) checkRegions(report report) {
	sb := img.sb
	bad := func(dev *source, format string, args ...any) {
		report(Violation{
			Severity: Damage, Code: BadGeometry, Device: dev.name, Offset: int64(sb.Checkpoint%layout.Superblocks) * block.PageSize,
			Structure: "superblock", Problem: fmt.Sprintf(format, args...),
			Meaning: "the device is truncated or another one, or the superblock is wrong: what lies beyond is lost",
		})
	}
	metaEnd := int64(sb.TreePages.End()) * block.PageSize
	dataEnd := sb.DataOffset + int64(sb.Slots<<sb.ChunkShift)
	switch {
	case !sb.Separate && sb.DataOffset < metaEnd:
		bad(img.meta, "the data area begins at byte %d, before the metadata area's end at %d", sb.DataOffset, metaEnd)
	case sb.Separate && sb.DataOffset < layout.LabelSize:
		bad(img.store, "the data area begins at byte %d, within the label", sb.DataOffset)
	}
	for _, e := range sb.Grown {
		metaEnd = max(metaEnd, int64(e.End())*block.PageSize)
	}
	if img.meta.size < metaEnd {
		bad(img.meta, "device has %d bytes, the metadata area ends at %d", img.meta.size, metaEnd)
	}
	if img.store.size < dataEnd {
		bad(img.store, "device has %d bytes, the data area ends at %d", img.store.size, dataEnd)
	}
	if j := img.journal; j != nil && img.needsJournal() && j.size < layout.LabelSize+sb.JournalSize {
		bad(j, "device has %d bytes, the journal ends at %d", j.size, layout.LabelSize+sb.JournalSize)
	}
}

// needsJournal reports whether the store has a journal device.
func (img *image) needsJournal() bool {
	return img.sb.Placement == layout.PlacementNVRAM || img.sb.Placement == layout.PlacementPMem
}

// checkLabels judges the labels of the devices without a superblock. A device of
// another store is not read any further: it becomes nil.
func (img *image) checkLabels(report report) {
	if img.sb.Separate && !img.checkLabel(img.store, layout.RoleData, report) {
		img.store = nil
	}
	switch {
	case !img.needsJournal():
		img.journal = nil
	case img.journal == nil:
		report(Violation{
			Severity: Damage, Code: BadLabel, Device: "journal", Offset: -1, Structure: "journal device",
			Problem: fmt.Sprintf("placement %v needs one, and none was named", img.sb.Placement),
			Meaning: "batches since the last checkpoint cannot be found",
		})
	case !img.checkLabel(img.journal, layout.RoleJournal, report):
		img.journal = nil
	}
}

func (img *image) checkLabel(s *source, role layout.Role, report report) bool {
	page, err := s.read(0, layout.LabelSize)
	if err == nil {
		err = layout.CheckLabel(page, img.sb.UUID, role)
	}
	if err != nil {
		report(Violation{
			Severity: Damage, Code: BadLabel, Device: s.name, Offset: 0, Structure: "label", Problem: err.Error(),
			Meaning: "the device is not this store's, or its first page is lost; it was not read any further",
		})
	}
	return err == nil
}

// slotOffset returns the byte offset of a slot on the store device.
func (img *image) slotOffset(s block.Slot) int64 {
	return img.sb.DataOffset + int64(uint64(s)<<img.sb.ChunkShift)
}
