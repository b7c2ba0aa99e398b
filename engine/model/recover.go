// SPDX-License-Identifier: Apache-2.0

package model

import (
	"errors"
	"fmt"
	"slices"

	"zumastor.org/zumastor/engine/block"
)

// Found is a snapshot as it was found in a store.
type Found struct {
	Attributes
	Tag      block.Tag
	Of       Parent
	Squashed bool
	Content  []byte // of all of it; nil: it is squashed, or being merged
}

// State is what was found in a store.
type State struct {
	Snapshots []Found // oldest first
	Origin    []byte  // all of it
	Restoring bool    // a revert or merge is under way
}

// restore is a revert or merge.
type restore struct {
	tag     block.Tag
	merge   bool
	content *Disk // that the origin takes
	maybe   bool  // announced
	running bool  // confirmed, and perhaps still copying
}

// Restoring announces a revert of the origin to a snapshot or, with merge, one that
// deletes it.
func (v *Volume) Restoring(tag block.Tag, merge bool) {
	v.restore = restore{tag: tag, merge: merge, content: v.Snapshot(tag).frozen("origin"), maybe: true}
}

// RestoreStarted confirms the revert or merge: the origin reads as the snapshot,
// durably.
func (v *Volume) RestoreStarted() {
	v.restore.maybe, v.restore.running = false, true
	v.take(v.restore.content)
}

// Merging reports whether a snapshot is being merged into the origin: then it is listed,
// and cannot be opened.
func (v *Volume) Merging(tag block.Tag) bool {
	return v.restore.running && v.restore.merge && v.restore.tag == tag
}

// take gives the origin the content of a disk of its size.
func (v *Volume) take(content *Disk) {
	copy(v.Origin.sectors, content.clone().sectors)
}

// RestoredFrom reports whether the origin is being restored from the snapshot.
func (v *Volume) RestoredFrom(tag block.Tag) bool { return v.restore.running && v.restore.tag == tag }

// RestoreEnded confirms that nothing is left to be copied: the snapshot of a merge is
// gone. It takes in, from the list of the snapshots, what a full store has given up
// meanwhile.
func (v *Volume) RestoreEnded(found []Found) {
	v.takeDropped(found) // whose turn it was depends on the restore
	if v.restore.merge && v.restore.running {
		v.Deleted(v.restore.tag)
	}
	v.restore = restore{}
}

// Dropped takes in the snapshots that a full store has given up, which must be those
// whose turn it was, and compares the list of those that are left.
func (v *Volume) Dropped(found []Found) error {
	v.takeDropped(found)
	return v.CheckList(found)
}

func (v *Volume) takeDropped(found []Found) {
	for v.Drop {
		next := v.Victim()
		if next == nil || !givenUp(next, found) {
			return
		}
		v.drop(next)
	}
}

// givenUp reports whether a snapshot is gone, or is squashed now.
func givenUp(s *Snapshot, found []Found) bool {
	i := slices.IndexFunc(found, func(f Found) bool { return f.Tag == s.Tag })
	return i < 0 || found[i].Squashed && !s.Squashed
}

// CheckList compares a list of the snapshots, oldest first.
func (v *Volume) CheckList(found []Found) error {
	for i := range max(len(found), len(v.snaps)) {
		if i == len(found) {
			return fmt.Errorf("snapshot %d is lost; the snapshots are %v", v.snaps[i].Tag, tags(found))
		}
		if i == len(v.snaps) || found[i].Tag != v.snaps[i].Tag {
			return fmt.Errorf("the snapshots are %v, want %v", tags(found), v.Tags())
		}
		if err := v.snaps[i].check(found[i]); err != nil {
			return err
		}
	}
	return nil
}

// check compares all but the content.
func (s *Snapshot) check(f Found) error {
	if f.Of != s.Of || f.Squashed != s.Squashed || f.Attributes != s.Attributes {
		return fmt.Errorf("snapshot %d is %+v of %+v, squashed %t; want %+v of %+v, %t",
			s.Tag, f.Attributes, f.Of, f.Squashed, s.Attributes, s.Of, s.Squashed)
	}
	return nil
}

func tags(found []Found) []block.Tag {
	list := make([]block.Tag, len(found))
	for i, f := range found {
		list[i] = f.Tag
	}
	return list
}

// Tags returns the tags of all snapshots, oldest first.
func (v *Volume) Tags() []block.Tag {
	list := make([]block.Tag, len(v.snaps))
	for i, s := range v.snaps {
		list[i] = s.Tag
	}
	return list
}

// Recover takes over the state after a power cut. It returns an error if the power
// cut broke a promise. What is left is durable, and nobody has anything open.
func (v *Volume) Recover(found State) error {
	merged := v.recoverMerge(found)
	err := v.recoverList(found.Snapshots)
	if err == nil {
		err = v.recoverSnapshots(found.Snapshots, found.Restoring && v.restore.merge)
	}
	if err == nil {
		err = v.recoverOrigin(found, merged)
	}
	if err != nil {
		return fmt.Errorf("after a power cut: %w", err)
	}
	return nil
}

// recoverMerge takes in whether a merge has ended, and with it its snapshot.
func (v *Volume) recoverMerge(found State) bool {
	r := v.restore
	if !r.merge || !r.maybe && !r.running || slices.Contains(tags(found.Snapshots), r.tag) {
		return false
	}
	if s := v.Snapshot(r.tag); s == nil || s.doomed {
		return false // it may be gone for another reason
	}
	v.Deleted(r.tag)
	return true
}

// recoverList takes in which snapshots are there, and their attributes.
func (v *Volume) recoverList(found []Found) error {
	there := tags(found)
	for _, s := range slices.Backward(v.Snapshots()) { // so that parents go after those made of them
		if s.doomed && !slices.Contains(there, s.Tag) {
			if under := v.Under(s.Tag); len(under) > 1 {
				return fmt.Errorf("snapshot %d is gone, snapshot %d of it is not", s.Tag, under[0].Tag)
			}
			v.Deleted(s.Tag)
		}
		s.doomed = false
	}
	for _, f := range found {
		i := slices.IndexFunc(v.creating, func(s *Snapshot) bool { return s.Tag == f.Tag })
		if i >= 0 && v.Snapshot(f.Tag) == nil {
			v.snaps = append(v.snaps, v.creating[i])
		}
		if s := v.Snapshot(f.Tag); s != nil && slices.Contains(s.maybe, f.Attributes) {
			s.Attributes = f.Attributes
		}
	}
	v.creating = nil
	if err := v.Dropped(found); err != nil {
		return err
	}
	for _, s := range v.snaps {
		s.maybe, s.Open = nil, 0
	}
	return nil
}

func (v *Volume) recoverSnapshots(found []Found, merging bool) error {
	for i, s := range v.snaps {
		if s.Squashed || found[i].Content == nil && merging && s.Tag == v.restore.tag {
			continue
		}
		if err := s.recover(found[i].Content); err != nil {
			return err
		}
	}
	return nil
}

// recoverOrigin takes over the origin's content: that of the snapshot, wholly, where a
// revert or merge has begun, which may be known or not.
func (v *Volume) recoverOrigin(found State, merged bool) error {
	r := v.restore
	v.restore = restore{}
	switch {
	case found.Restoring && !r.maybe && !r.running:
		return errors.New("the origin is being restored, and nobody asked for that")
	case r.merge && r.running && !merged && !found.Restoring:
		return fmt.Errorf("snapshot %d was not merged to the end, and is there", r.tag)
	}
	if found.Restoring || merged {
		v.take(r.content)
	}
	if found.Restoring {
		r.maybe, r.running = false, true
		v.restore = r
	}
	before := v.Origin.clone()
	err := v.Origin.recover(found.Origin)
	if err == nil || !r.maybe || merged || found.Restoring {
		return err
	}
	v.Origin = before // perhaps all was restored already
	v.take(r.content)
	if v.Origin.recover(found.Origin) != nil {
		return err
	}
	return nil
}
