// SPDX-License-Identifier: Apache-2.0

package metamorphic

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"zumastor.org/zumastor/engine/alloc"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/model"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/wire"
)

// resize changes the size of the origin. Its device grows if need be, and is never cut.
func (r *Runner) resize(size int64) error {
	if d := r.Rig.Machine.Device(rig.Origin); d.Size() < size {
		d.Grow(size)
	}
	r.Model.Origin.Resizing(size)
	err := r.Rig.Server.ResizeOrigin(context.Background(), size, nil)
	if err != nil {
		return r.tolerate(err)
	}
	r.Model.Origin.Resized(size)
	if got := r.Rig.Volume.Size(); got != size {
		return fmt.Errorf("the origin has %d bytes after a resize to %d", got, size)
	}
	return nil
}

// resizeStore changes the size of the store, which changes nothing that is read.
func (r *Runner) resizeStore(size int64) error {
	size = size / block.PageSize * block.PageSize
	for _, part := range []string{rig.Store, rig.Meta} {
		if d := r.Rig.Machine.Device(part); d != nil && d.Size() < size {
			d.Grow(size)
		}
	}
	err := r.Rig.Server.ResizeStore(context.Background(), size, 0, nil)
	if errors.Is(err, store.ErrTooSmall) {
		r.Failed++
		return nil
	}
	return r.tolerate(err)
}

// restore reverts the origin to a snapshot, or merges a snapshot into it.
func (r *Runner) restore(tag block.Tag, merge bool) error {
	s := r.Model.Snapshot(tag)
	want := r.whyNotRestore(s, merge)
	if want == nil {
		r.Model.Restoring(tag, merge)
	}
	start := r.Rig.Server.Revert
	if merge {
		start = r.Rig.Server.Merge
	}
	err := start(wire.SnapshotRef{Tag: tag})
	if want != nil {
		return r.refused("restoring", err, want)
	}
	if err != nil {
		return r.tolerate(err)
	}
	r.Model.RestoreStarted()
	if err := r.read(Op{Kind: Read, Len: r.Model.Origin.Size()}); err != nil {
		return fmt.Errorf("while it is being restored: %w", err)
	}
	return r.endRestore()
}

// endRestore brings a revert or merge to its end. Where the store is full it does what
// an administrator does: it closes what is open for writing, which gives leased slots
// back, and deletes snapshots.
func (r *Runner) endRestore() error {
	err := r.Rig.Volume.Restore(context.Background())
	if errors.Is(err, alloc.ErrNoSpace) && r.Model.Drop {
		if err := r.Model.Dropped(r.list()); err != nil {
			return err
		}
	}
	for _, s := range slices.Backward(r.Model.Snapshots()) {
		if !errors.Is(err, alloc.ErrNoSpace) {
			break
		}
		if err := r.closeWriter(s.Tag); err != nil {
			return err
		}
		if err = r.Rig.Volume.Restore(context.Background()); !errors.Is(err, alloc.ErrNoSpace) || r.Model.RestoredFrom(s.Tag) {
			continue
		}
		if err := r.remove(s.Tag, false); err != nil {
			return err
		}
		err = r.Rig.Volume.Restore(context.Background())
	}
	if err == nil {
		r.Model.RestoreEnded(r.list())
	}
	return err
}

// whyNotRestore returns the error that keeps the origin from being restored, or nil.
func (r *Runner) whyNotRestore(s *model.Snapshot, merge bool) error {
	switch {
	case s == nil:
		return store.ErrNoSnapshot
	case s.Squashed:
		return store.ErrSquashed
	case s.Size() != r.Model.Origin.Size():
		return store.ErrSize
	case s.Open > 0:
		return store.ErrInUse
	case merge && len(r.Model.Under(s.Tag)) > 1:
		return store.ErrHasSnapshots
	case merge && s.Held:
		return store.ErrHeld
	case merge && s.UseCount > 0:
		return store.ErrInUse
	}
	return nil
}
