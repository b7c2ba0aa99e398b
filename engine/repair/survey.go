// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"encoding/binary"
	"fmt"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/store"
)

// survey is what a look at all pages says where superblocks are lost.
type survey struct {
	uuid   layout.UUID
	newest uint64                      // number of the last checkpoint that wrote a page
	roots  [layout.Kinds + 1]candidate // by kind
	sample []layout.Exception
	size   int64 // of the origin when its newest snapshot was made
	latest block.Generation
}

// candidate is the newest page of a kind, the highest of those.
type candidate struct {
	layout.PageHeader
	highest uint8 // level of any page of the kind
}

// maxSample is how many exceptions a survey remembers.
const maxSample = 256

// survey looks at the pages where tree pages are, or may be.
func (r *repair) survey(img *image) *survey {
	s := &survey{}
	extents := []layout.Extent{{First: layout.Superblocks, Len: uint64(min(img.meta.size, 1<<40)/32+64<<20) / block.PageSize}}
	if img.sb != nil {
		s.uuid, extents = img.sb.UUID, img.extents()
	} else {
		s.uuid = r.commonest(img, extents[0])
	}
	for _, e := range extents {
		r.eachPage(img, e, func(h layout.PageHeader, page []byte) {
			if h.Identity == [16]byte(s.uuid) {
				s.add(h, page)
			}
		})
	}
	return s
}

// eachPage calls fn for all whole tree pages that lie where they say.
func (r *repair) eachPage(img *image, e layout.Extent, fn func(h layout.PageHeader, page []byte)) {
	_ = r.scan(img.meta, int64(e.First)*block.PageSize, int64(e.Len)*block.PageSize, block.PageSize, func(off int64, p []byte) error {
		h, err := layout.DecodePageHeader(p)
		if err == nil && int64(h.Page) == off/block.PageSize && h.Kind >= 1 && int(h.Kind) <= layout.Kinds {
			fn(h, p)
		}
		return nil
	})
}

// commonest returns the identity that most pages have.
func (r *repair) commonest(img *image, e layout.Extent) (best layout.UUID) {
	count := make(map[layout.UUID]int)
	r.eachPage(img, e, func(h layout.PageHeader, _ []byte) {
		if count[h.Identity]++; count[h.Identity] > count[best] {
			best = h.Identity
		}
	})
	return best
}

// add takes a page in.
func (s *survey) add(h layout.PageHeader, page []byte) {
	s.newest = max(s.newest, h.Checkpoint)
	c := &s.roots[h.Kind]
	highest := max(c.highest, h.Level)
	if c.Page == 0 || h.Checkpoint > c.Checkpoint || h.Checkpoint == c.Checkpoint && h.Level > c.Level {
		c.PageHeader = h
	}
	c.highest = highest
	if h.Level > 0 {
		return
	}
	switch h.Kind {
	case layout.KindExceptions:
		leaf, err := layout.DecodePage(layout.ExceptionCodec{}, h, page)
		for i := 0; err == nil && i < len(leaf.Entries) && len(s.sample) < maxSample; i += 16 {
			if e := leaf.Entries[i]; e.Branch == 0 && e.Slot != layout.LostSlot {
				s.sample = append(s.sample, e)
			}
		}
	case layout.KindSnapshots:
		leaf, err := layout.DecodePage(layout.SnapshotCodec{}, h, page)
		for i := 0; err == nil && i < len(leaf.Entries); i++ {
			if e := leaf.Entries[i]; e.Parent == 0 && e.Generation >= s.latest {
				s.latest, s.size = e.Generation, e.Size
			}
		}
	}
}

// superblock returns from with the trees that the survey found, as far as they may be
// the newest: a root is no lower than any page of its kind.
func (s *survey) superblock(from *layout.Superblock) *layout.Superblock {
	sb := *from
	sb.UUID, sb.Checkpoint, sb.Clean = s.uuid, max(s.newest, from.Checkpoint), false
	for kind := layout.KindExceptions; int(kind) <= layout.Kinds; kind++ {
		c := s.roots[kind]
		sb.Roots[kind-1] = layout.Root{}
		if c.Page != 0 && c.Level == c.highest {
			sb.Roots[kind-1] = layout.Root{Page: c.Page, Level: c.Level}
		}
	}
	return &sb
}

// distrustRoots gives a tree up as lost whole if it is not known where it begins: its
// root is not among the pages, or the other tree of exceptions is newer.
func (r *repair) distrustRoots(img *image, s *survey) {
	e, c := &img.sb.Roots[layout.KindExceptions-1], &img.sb.Roots[layout.KindChanges-1]
	es, cs := s.roots[layout.KindExceptions], s.roots[layout.KindChanges]
	switch {
	case es.Checkpoint < cs.Checkpoint:
		*e = layout.Root{}
	case cs.Checkpoint < es.Checkpoint:
		*c = layout.Root{}
	}
	any := es.Page != 0 || cs.Page != 0
	for kind, root := range map[uint8]*layout.Root{layout.KindExceptions: e, layout.KindChanges: c} {
		if any && root.Page == 0 {
			r.lost[kind].add(key{}, lastKey)
			r.problem("the root of the tree of %s is lost", kindNames[kind])
		}
	}
	if img.sb.Roots[layout.KindSnapshots-1].Page == 0 {
		r.snaps.incomplete = true
	}
}

// guess returns a superblock for a store that has none: of those that formatting
// makes on such devices, the one by which most exceptions have their checksums.
func (r *repair) guess(img *image, s *survey) (*layout.Superblock, error) {
	if given := r.opts.Superblock; given != nil {
		sb := *given
		return &sb, nil
	}
	if s.newest == 0 || len(s.sample) == 0 {
		return nil, fmt.Errorf("%w: neither a superblock nor a tree of exceptions", ErrNothing)
	}
	var best *layout.Superblock
	most := 0
	for _, sb := range r.shapes(img, s) {
		probe := image{store: img.store, sb: sb}
		n := 0
		for _, e := range s.sample {
			data, err := img.store.read(probe.slotOffset(e.Slot), 1<<sb.ChunkShift)
			if err == nil && layout.SumOf(data) == e.Sum {
				n++
			}
		}
		if n > most || n > 0 && n == most && r.hasJournal(img, sb) {
			best, most = sb, n
		}
	}
	if best == nil {
		return nil, fmt.Errorf("%w: the superblocks are lost, and by no chunk size has any of %d exceptions its checksum", ErrNothing, len(s.sample))
	}
	r.problem("both superblocks are lost: chunks of %d bytes from byte %d on are guessed, by which %d of %d exceptions have their checksums",
		1<<best.ChunkShift, best.DataOffset, most, len(s.sample))
	return best, nil
}

// hasJournal reports whether there are records of the store in sb's journal in the
// metadata area: with that on a device of its own, nothing else tells placement disk
// from inline.
func (r *repair) hasJournal(img *image, sb *layout.Superblock) bool {
	found := false
	start, length := int64(sb.Journal.First)*block.PageSize, int64(sb.Journal.Len)*block.PageSize
	_ = r.scan(img.meta, start, length, block.PageSize, func(_ int64, p []byte) error {
		id := layout.Identity{UUID: sb.UUID, Epoch: binary.LittleEndian.Uint64(p[32:]), Seq: binary.LittleEndian.Uint64(p[40:])}
		h, err := layout.DecodeRecordHeader(p, id)
		found = found || err == nil && h.Kind == layout.RecordBatch
		return nil
	})
	return found
}

// shapes returns the superblocks that formatting makes on such devices.
func (r *repair) shapes(img *image, s *survey) (list []*layout.Superblock) {
	devs := placement.Devices{Store: sized{size: img.store.size}}
	if img.meta != img.store {
		devs.Meta = sized{size: img.meta.size}
	}
	placements := []layout.Placement{layout.PlacementInline, layout.PlacementDisk}
	if img.journal != nil {
		placements = []layout.Placement{layout.PlacementNVRAM}
		devs.Journal = journal{sized{size: img.journal.size}}
	}
	for size := block.MinChunkSize; size <= block.MaxChunkSize; size *= 2 {
		for _, p := range placements {
			o := store.FormatOptions{OriginSize: s.size, ChunkSize: size, Placement: p, UUID: s.uuid}
			if img.journal != nil {
				o.JournalSize = img.journal.size
			}
			if sb, err := store.Plan(devs, o); err == nil {
				list = append(list, sb)
			}
		}
	}
	return list
}

// sized is a device that is only planned for.
type sized struct {
	device.Device
	size int64
}

// Size returns the device's size in bytes.
func (s sized) Size() int64 { return s.size }

// journal is a journal device that is only planned for.
type journal struct{ sized }

// Persist does nothing.
func (journal) Persist(_, _ int64) error { return nil }
