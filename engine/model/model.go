// SPDX-License-Identifier: Apache-2.0

// Package model is the executable specification of a volume with snapshots:
// what every read must return, and what must be there after a power cut.
//
// It owns the promises, kept with plain slices and maps: a sector reads as it was
// last written; a snapshot reads as its parent did when it was made and as it was
// written to since, for as long as it lives; after a power cut each sector is as some
// write since the last flush of its disk left it, or as of that flush, and every
// snapshot whose creation had returned is there with its attributes, unless its
// deletion had at least begun, or the store was full and it was next to be dropped.
// It does not own how any of this is done, does no I/O and imports nothing of the
// engine but its units. Tests call it, one goroutine at a time. Violations are errors
// that name the sector and what was found there.
package model

import (
	"fmt"
	"slices"

	"zumastor.org/zumastor/engine/block"
)

// Volume is an origin with its snapshots as they must be.
//
// A change is announced before it is made and confirmed after, so that a copy
// taken in between knows what a power cut may leave: Writing and Wrote, Creating
// and Created, and so on. A change that fails is announced and not confirmed: a power
// cut may still show it.
type Volume struct {
	Origin *Disk
	// Drop says that a full store drops snapshots rather than fails writes.
	Drop bool

	snaps    []*Snapshot // oldest first
	creating []*Snapshot // may be there after a power cut
	restore  restore
}

// Parent is what a snapshot is made of: the origin, or a snapshot.
type Parent struct {
	Snapshot bool
	Tag      block.Tag
}

// Attributes are what a user says about a snapshot, and the engine heeds.
type Attributes struct {
	Name     string
	Priority int8
	UseCount uint32
	Held     bool
}

// Snapshot is a snapshot as it must be. Its content is nothing once it is squashed.
type Snapshot struct {
	*Disk
	Attributes
	Tag      block.Tag
	Of       Parent
	Squashed bool
	Open     int // how many clients have it open

	maybe  []Attributes // that a power cut may leave instead
	doomed bool         // may be gone after a power cut
}

// New returns a volume of size bytes, a multiple of 512, all zeroes, without
// snapshots.
func New(size int64) *Volume { return &Volume{Origin: newDisk("origin", size)} }

// Clone returns a copy that shares nothing that changes.
func (v *Volume) Clone() *Volume {
	to := *v
	to.Origin = v.Origin.clone()
	to.snaps, to.creating = cloneSnapshots(v.snaps), cloneSnapshots(v.creating)
	return &to
}

func cloneSnapshots(list []*Snapshot) []*Snapshot {
	to := make([]*Snapshot, len(list))
	for i, s := range list {
		c := *s
		c.Disk, c.maybe = s.Disk.clone(), slices.Clip(s.maybe)
		to[i] = &c
	}
	return to
}

// Snapshot returns the snapshot with the tag, or nil.
func (v *Volume) Snapshot(tag block.Tag) *Snapshot {
	for _, s := range v.snaps {
		if s.Tag == tag {
			return s
		}
	}
	return nil
}

// Snapshots returns all snapshots, oldest first.
func (v *Volume) Snapshots() []*Snapshot { return slices.Clone(v.snaps) }

// Named reports whether a snapshot other than that with the tag has the name.
func (v *Volume) Named(name string, but block.Tag) bool {
	return name != "" && slices.ContainsFunc(v.snaps, func(s *Snapshot) bool { return s.Name == name && s.Tag != but })
}

// Under returns a snapshot and all that were made of it, directly or not, the newest
// first.
func (v *Volume) Under(tag block.Tag) (list []*Snapshot) {
	under := map[block.Tag]bool{tag: true}
	for _, s := range v.snaps {
		if s.Tag == tag || s.Of.Snapshot && under[s.Of.Tag] {
			under[s.Tag] = true
			list = append(list, s)
		}
	}
	slices.Reverse(list)
	return list
}

// Creating announces a snapshot of its parent, which must exist, as that is now.
func (v *Volume) Creating(tag block.Tag, of Parent, a Attributes) {
	v.creating = slices.DeleteFunc(v.creating, func(s *Snapshot) bool { return s.Tag == tag })
	v.creating = append(v.creating, &Snapshot{
		Disk: v.parent(of).frozen(fmt.Sprintf("snapshot %d", tag)), Attributes: a, Tag: tag, Of: of,
	})
}

func (v *Volume) parent(of Parent) *Disk {
	if !of.Snapshot {
		return v.Origin
	}
	return v.Snapshot(of.Tag).Disk
}

// Created confirms a snapshot: it is there after a power cut, and so is all that
// its parent held when it was made.
func (v *Volume) Created(tag block.Tag) {
	i := slices.IndexFunc(v.creating, func(s *Snapshot) bool { return s.Tag == tag })
	s := v.creating[i]
	v.creating = slices.Delete(v.creating, i, i+1)
	v.parent(s.Of).Flushed()
	v.snaps = append(v.snaps, s)
}

// Deleting announces the deletion of a snapshot and all under it.
func (v *Volume) Deleting(tag block.Tag) {
	for _, s := range v.Under(tag) {
		s.doomed = true
	}
}

// Deleted confirms a deletion: the snapshot is gone with all under it, and never
// comes back.
func (v *Volume) Deleted(tag block.Tag) {
	for _, gone := range v.Under(tag) {
		v.snaps = slices.DeleteFunc(v.snaps, func(s *Snapshot) bool { return s == gone })
	}
}

// Changing announces other attributes.
func (s *Snapshot) Changing(a Attributes) { s.maybe = append(s.maybe, a) }

// Changed confirms other attributes: they are durable.
func (s *Snapshot) Changed(a Attributes) { s.Attributes, s.maybe = a, nil }

// inUse reports whether somebody wants to keep the snapshot.
func (s *Snapshot) inUse() bool { return s.Held || s.UseCount > 0 || s.Open > 0 }

// NeverDropped is the priority of snapshots that a full store does not drop.
const NeverDropped = 127

// Victim returns the snapshot that a full store gives up next, or nil: of those that
// nobody uses, else of the others, the oldest of the lowest priority. Nobody's parent
// is one, nor what is never to be dropped, nor what the origin is restored from.
func (v *Volume) Victim() *Snapshot {
	var first *Snapshot
	for _, s := range v.snaps {
		switch {
		case s.Squashed || s.Priority == NeverDropped || len(v.Under(s.Tag)) > 1:
		case v.RestoredFrom(s.Tag):
		case first == nil, first.inUse() && !s.inUse(),
			first.inUse() == s.inUse() && s.Priority < first.Priority:
			first = s
		}
	}
	return first
}

// drop gives up the victim: one that is in use is squashed, and stays listed.
func (v *Volume) drop(s *Snapshot) {
	if s.inUse() {
		s.Squashed = true
		s.Disk = newDisk(s.name, 0)
		return
	}
	v.Deleted(s.Tag)
}
