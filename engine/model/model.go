// SPDX-License-Identifier: Apache-2.0

// Package model is the executable specification of a volume with snapshots:
// what every read must return, and what must be there after a power cut.
//
// It owns the promises, kept with plain slices and maps: a sector reads as it was
// last written; a snapshot reads as the origin did when it was made, for as long
// as it lives; after a power cut each sector is as some write since the last
// flush left it, or as of that flush, and every snapshot whose creation had
// returned is there, unless its deletion had at least begun. It does not own how
// any of this is done, does no I/O and imports nothing of the engine but its
// units. Tests call it, one goroutine at a time. Violations are errors that name
// the sector and what was found there.
package model

import (
	"fmt"
	"maps"
	"slices"

	"zumastor.org/zumastor/engine/block"
)

// Volume is an origin with its snapshots as they must be.
//
// A change is announced before it is made and confirmed after, so that a copy
// taken in between knows what a power cut may leave: Writing and Wrote, Creating
// and Created, Deleting and Deleted. A change that fails is announced and not
// confirmed: a power cut may still show it.
type Volume struct {
	sectors  []sector
	snaps    map[block.Tag]content
	order    []block.Tag            // of snaps, oldest first
	creating map[block.Tag]content  // may be there after a power cut
	deleting map[block.Tag]struct{} // may be gone after a power cut
}

// sector is one of the origin's.
type sector struct {
	now   Stamp
	older []Stamp // what a power cut may leave instead, in no order
}

// content is a snapshot's sectors.
type content []Stamp

// New returns a volume of size bytes, a multiple of 512, all zeroes, without
// snapshots.
func New(size int64) *Volume {
	return &Volume{
		sectors: make([]sector, size/block.SectorSize), snaps: make(map[block.Tag]content),
		creating: make(map[block.Tag]content), deleting: make(map[block.Tag]struct{}),
	}
}

// Clone returns a copy that shares nothing that changes.
func (v *Volume) Clone() *Volume {
	to := &Volume{
		sectors: slices.Clone(v.sectors), snaps: maps.Clone(v.snaps), order: slices.Clone(v.order),
		creating: maps.Clone(v.creating), deleting: maps.Clone(v.deleting),
	}
	for i := range to.sectors {
		to.sectors[i].older = slices.Clip(to.sectors[i].older)
	}
	return to
}

// Size returns the origin's size in bytes.
func (v *Volume) Size() int64 { return int64(len(v.sectors)) * block.SectorSize }

// span returns the numbers of the sectors of a range, as [first, end).
func span(off, n int64) (first, end int64) {
	return off / block.SectorSize, (off + n) / block.SectorSize
}

// Pattern says what a write leaves in each sector, by its number.
type Pattern func(sector int64) Stamp

// Writing announces a write of the n bytes at off.
func (v *Volume) Writing(off, n int64, p Pattern) {
	for no, end := span(off, n); no < end; no++ {
		v.sectors[no].older = append(v.sectors[no].older, p(no))
	}
}

// Wrote confirms a write: reads return it.
func (v *Volume) Wrote(off, n int64, p Pattern) {
	for no, end := span(off, n); no < end; no++ {
		s := &v.sectors[no]
		s.older = append(s.older, s.now)
		s.now = p(no)
	}
}

// Withdraw takes an announced write back: it failed before anything was written.
func (v *Volume) Withdraw(off, n int64) {
	for no, end := span(off, n); no < end; no++ {
		s := &v.sectors[no]
		s.older = s.older[: len(s.older)-1 : len(s.older)-1]
	}
}

// Flushed confirms a flush: a power cut leaves everything as it is now.
func (v *Volume) Flushed() {
	for i := range v.sectors {
		v.sectors[i].older = nil
	}
}

// Has reports whether a snapshot lives.
func (v *Volume) Has(tag block.Tag) bool { return v.snaps[tag] != nil }

// Live returns the tags of the live snapshots, oldest first.
func (v *Volume) Live() []block.Tag { return slices.Clone(v.order) }

// Creating announces a snapshot of the origin as it is now.
func (v *Volume) Creating(tag block.Tag) {
	c := make(content, len(v.sectors))
	for i, s := range v.sectors {
		c[i] = s.now
	}
	v.creating[tag] = c
}

// Created confirms a snapshot: it is there after a power cut, and so is all that
// the origin held when it was made.
func (v *Volume) Created(tag block.Tag) {
	v.Flushed()
	v.snaps[tag] = v.creating[tag]
	v.order = append(v.order, tag)
	delete(v.creating, tag)
}

// Deleting announces a deletion.
func (v *Volume) Deleting(tag block.Tag) { v.deleting[tag] = struct{}{} }

// Deleted confirms a deletion: the snapshot is gone, and never comes back.
func (v *Volume) Deleted(tag block.Tag) {
	delete(v.snaps, tag)
	delete(v.deleting, tag)
	v.order = slices.DeleteFunc(v.order, func(t block.Tag) bool { return t == tag })
}

// CheckOrigin compares what was read from the origin at off.
func (v *Volume) CheckOrigin(off int64, p []byte) error {
	for i, no := 0, off/block.SectorSize; i < len(p); i, no = i+block.SectorSize, no+1 {
		if got := p[i : i+block.SectorSize]; !v.sectors[no].now.Is(got) {
			return fmt.Errorf("origin: sector %d holds %v, want %v", no, StampIn(got), v.sectors[no].now)
		}
	}
	return nil
}

// CheckSnapshot compares what was read from a live snapshot at off.
func (v *Volume) CheckSnapshot(tag block.Tag, off int64, p []byte) error {
	want := v.snaps[tag]
	if want == nil {
		return fmt.Errorf("snapshot %d was read, but should not exist", tag)
	}
	for i, no := 0, off/block.SectorSize; i < len(p); i, no = i+block.SectorSize, no+1 {
		if got := p[i : i+block.SectorSize]; !want[no].Is(got) {
			return fmt.Errorf("snapshot %d: sector %d holds %v, want %v; the origin has %v",
				tag, no, StampIn(got), want[no], v.sectors[no].now)
		}
	}
	return nil
}

// CheckLive compares a list of the live snapshots, oldest first.
func (v *Volume) CheckLive(tags []block.Tag) error {
	if !slices.Equal(tags, v.order) {
		return fmt.Errorf("live snapshots are %v, want %v", tags, v.order)
	}
	return nil
}

// Settle takes over what the n bytes at off turned out to be after a write of
// them failed: the old content or the new, sector by sector.
func (v *Volume) Settle(off int64, p []byte) error {
	for i, no := 0, off/block.SectorSize; i < len(p); i, no = i+block.SectorSize, no+1 {
		if err := v.sectors[no].settle(no, p[i:i+block.SectorSize]); err != nil {
			return err
		}
	}
	return nil
}

func (s *sector) settle(no int64, got []byte) error {
	if s.now.Is(got) {
		return nil
	}
	for _, old := range s.older {
		if old.Is(got) {
			s.older = append(s.older, s.now)
			s.now = old
			return nil
		}
	}
	return fmt.Errorf("origin: sector %d holds %v, want %v or one of %v", no, StampIn(got), s.now, s.older)
}

// Recover takes over the state after a power cut: the live snapshots, oldest
// first, and the whole origin. It returns an error if the power cut broke a
// promise. What is left is durable.
func (v *Volume) Recover(live []block.Tag, origin []byte) error {
	if err := v.recoverSnapshots(live); err != nil {
		return err
	}
	if err := v.Settle(0, origin); err != nil {
		return fmt.Errorf("after a power cut: %w", err)
	}
	v.Flushed()
	return nil
}

func (v *Volume) recoverSnapshots(live []block.Tag) error {
	for _, tag := range slices.Clone(v.order) {
		_, mayBeGone := v.deleting[tag]
		if gone := !slices.Contains(live, tag); gone && !mayBeGone {
			return fmt.Errorf("after a power cut: snapshot %d is lost; %v are there", tag, live)
		} else if gone {
			v.Deleted(tag)
		}
	}
	for _, tag := range live {
		if c := v.creating[tag]; c != nil && !v.Has(tag) {
			v.snaps[tag] = c
			v.order = append(v.order, tag)
		}
	}
	clear(v.creating)
	clear(v.deleting)
	if err := v.CheckLive(live); err != nil {
		return fmt.Errorf("after a power cut: %w", err)
	}
	return nil
}
