// SPDX-License-Identifier: Apache-2.0

package metamorphic

import (
	"errors"
	"fmt"
	"runtime"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/model"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
	"zumastor.org/zumastor/engine/wire"
)

// doSnapshot does one operation of those that are about snapshots.
func (r *Runner) doSnapshot(o Op) error {
	switch o.Kind {
	case Snapshot:
		return r.create(o.Tag, model.Parent{})
	case SnapOf:
		return r.create(o.Tag, model.Parent{Snapshot: true, Tag: o.Of})
	case Delete, DeleteAll:
		return r.remove(o.Tag, o.Kind == DeleteAll)
	case Change:
		return r.changeSnapshot(o.Tag, o.Attrs)
	case ReadSnap:
		return r.readSnapshot(o.Tag, o.Off, o.Len)
	case WriteSnap:
		return r.writeSnapshot(o)
	case FlushSnap:
		return r.flushSnapshot(o.Tag)
	case CloseSnap:
		return r.closeWriter(o.Tag)
	case Scrub:
		return r.scrub()
	}
	return fmt.Errorf("%w: %v", ErrSyntax, o)
}

// refused takes the error of an operation that must fail, and how.
func (r *Runner) refused(what string, err, want error) error {
	if errors.Is(err, want) || r.Tolerant {
		return nil
	}
	if err == nil {
		err = errors.New("no error")
	}
	return fmt.Errorf("%s: %w, not %w", what, err, want)
}

func (r *Runner) create(tag block.Tag, of model.Parent) error {
	n := store.NewSnapshot{Tag: tag}
	size := r.Model.Origin.Size()
	if of.Snapshot {
		n.Parent = &wire.SnapshotRef{Tag: of.Tag}
		parent := r.Model.Snapshot(of.Tag)
		switch {
		case parent == nil:
			_, err := r.Rig.Server.Create(n)
			return r.refused("creating a snapshot of none", err, store.ErrNoSnapshot)
		case parent.Squashed:
			_, err := r.Rig.Server.Create(n)
			return r.refused("creating a snapshot of one that was squashed", err, store.ErrSquashed)
		}
		size = parent.Size()
	}
	if r.Model.Snapshot(tag) != nil {
		_, err := r.Rig.Server.Create(n)
		return r.refused("creating a snapshot that exists", err, store.ErrExists)
	}
	r.Model.Creating(tag, of, model.Attributes{})
	s, err := r.Rig.Server.Create(n)
	if err != nil {
		return r.tolerate(err)
	}
	if s.Tag != tag || s.Size != size || s.Generation == 0 || (s.Parent != 0) != of.Snapshot {
		return fmt.Errorf("new snapshot %d is described as %+v", tag, s)
	}
	r.Model.Created(tag)
	return nil
}

// remove deletes a snapshot, or finds out why it is not deleted.
func (r *Runner) remove(tag block.Tag, recursive bool) error {
	doomed := r.Model.Under(tag)
	want := r.whyNot(doomed, recursive)
	if want == nil {
		r.Model.Deleting(tag)
	}
	err := r.Rig.Server.Delete(wire.SnapshotRef{Tag: tag}, recursive)
	if want != nil {
		return r.refused("deleting a snapshot", err, want)
	}
	if err == nil {
		r.Model.Deleted(tag)
	}
	return r.tolerate(err)
}

// whyNot returns the error that keeps snapshots from being deleted, or nil.
func (r *Runner) whyNot(doomed []*model.Snapshot, recursive bool) error {
	if len(doomed) == 0 {
		return store.ErrNoSnapshot
	}
	// The first one met is the reason, from the oldest on.
	for i := len(doomed) - 1; i >= 0; i-- {
		switch s := doomed[i]; {
		case i < len(doomed)-1 && !recursive:
			return store.ErrHasSnapshots
		case s.Held:
			return store.ErrHeld
		case s.Open > 0 || s.UseCount > 0:
			return store.ErrInUse
		}
	}
	return nil
}

func (r *Runner) changeSnapshot(tag block.Tag, a model.Attributes) error {
	change := func(s *layout.Snapshot) error {
		s.Name, s.Priority, s.UseCount, s.Held = a.Name, a.Priority, a.UseCount, a.Held
		return nil
	}
	s := r.Model.Snapshot(tag)
	ref := wire.SnapshotRef{Tag: tag}
	switch {
	case s == nil:
		return r.refused("changing a snapshot that does not exist", r.Rig.Server.Change(ref, change), store.ErrNoSnapshot)
	case r.Model.Named(a.Name, tag):
		return r.refused("giving a name that is taken", r.Rig.Server.Change(ref, change), store.ErrExists)
	}
	s.Changing(a)
	err := r.Rig.Server.Change(ref, change)
	if err == nil {
		s.Changed(a)
	}
	return r.tolerate(err)
}

// readSnapshot reads a snapshot, by way of its writer if it has one and the range is
// not all of it.
func (r *Runner) readSnapshot(tag block.Tag, off, n int64) (err error) {
	s := r.Model.Snapshot(tag)
	if s != nil { // its parent may have been larger or smaller then
		off = min(off, s.Size())
		n = min(n, s.Size()-off)
	}
	var p []byte
	if w := r.writers[tag]; w != nil && s != nil && n < s.Size() {
		p = make([]byte, n)
		_, err = w.ReadAt(p, off)
	} else {
		p, err = r.Rig.ReadSnapshot(tag, off, n)
	}
	switch {
	case s == nil:
		return r.refused("reading a snapshot that does not exist", err, store.ErrNoSnapshot)
	case s.Squashed && errors.Is(err, volume.ErrSquashed):
		return nil
	case s.Squashed:
		return r.refused("reading a snapshot that was squashed", err, store.ErrSquashed)
	case r.Model.Merging(tag):
		return r.refused("reading a snapshot that is being merged", err, store.ErrInUse)
	case err != nil:
		return r.tolerate(err)
	}
	r.note(p)
	return s.Check(off, p)
}

// writer returns a snapshot, open for writing.
func (r *Runner) writer(s *model.Snapshot) (*volume.Snapshot, error) {
	if w := r.writers[s.Tag]; w != nil {
		return w, nil
	}
	w, err := volume.OpenSnapshotRef(r.Rig.Source(), wire.SnapshotRef{Tag: s.Tag}, true)
	if err != nil {
		return nil, err
	}
	if r.writers == nil {
		r.writers = make(map[block.Tag]*volume.Snapshot)
	}
	r.writers[s.Tag] = w
	s.Open++
	return w, nil
}

// writeSnapshot writes to a snapshot. A write that fails may have been made in part.
func (r *Runner) writeSnapshot(o Op) error {
	s := r.Model.Snapshot(o.Tag)
	if s == nil || s.Squashed && r.writers[o.Tag] == nil {
		_, err := volume.OpenSnapshotRef(r.Rig.Source(), wire.SnapshotRef{Tag: o.Tag}, true)
		if s == nil {
			return r.refused("writing to a snapshot that does not exist", err, store.ErrNoSnapshot)
		}
		return r.refused("writing to a snapshot that was squashed", err, store.ErrSquashed)
	}
	w, err := r.writer(s)
	if err != nil {
		return r.tolerate(err)
	}
	if s.Squashed {
		_, err := w.WriteAt(make([]byte, block.SectorSize), 0)
		return r.refused("writing to a snapshot that was squashed", err, volume.ErrSquashed)
	}
	o.Len = min(o.Len, s.Size()-o.Off)
	if o.Len <= 0 {
		return nil
	}
	p := model.Written(o.Seed)
	s.Writing(o.Off, o.Len, p)
	if _, err = w.WriteAt(o.data(), o.Off); err == nil {
		s.Wrote(o.Off, o.Len, p)
		return nil
	}
	if err := r.tolerate(err); err != nil {
		return err
	}
	left := make([]byte, o.Len)
	if _, err := w.ReadAt(left, o.Off); err != nil {
		s.Wrote(o.Off, o.Len, model.Same(model.Any))
		return r.tolerate(err)
	}
	return s.Settle(o.Off, left)
}

func (r *Runner) flushSnapshot(tag block.Tag) error {
	w, s := r.writers[tag], r.Model.Snapshot(tag)
	if w == nil || s == nil || s.Squashed {
		return nil
	}
	err := w.Flush()
	if err == nil {
		s.Flushed()
	}
	return r.tolerate(err)
}

// closeWriter closes a snapshot that is open for writing, which flushes it.
func (r *Runner) closeWriter(tag block.Tag) error {
	w, s := r.writers[tag], r.Model.Snapshot(tag)
	if w == nil {
		return nil
	}
	err := w.Close()
	delete(r.writers, tag)
	if s.Open--; err == nil {
		s.Flushed()
	}
	return r.tolerate(err)
}

// scrub verifies all copies, of which none is damaged.
func (r *Runner) scrub() error {
	if err := r.Rig.Server.StartScrub(store.ScrubOptions{}); err != nil {
		return r.tolerate(err)
	}
	status := r.Rig.Server.ScrubStatus()
	for ; status.Running; status = r.Rig.Server.ScrubStatus() {
		runtime.Gosched()
	}
	if !r.Tolerant && (status.BadCount > 0 || status.Err != "") {
		return fmt.Errorf("scrub: %q, bad chunks: %+v", status.Err, status.Bad)
	}
	return nil
}
