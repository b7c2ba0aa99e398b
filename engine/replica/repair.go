// SPDX-License-Identifier: Apache-2.0

package replica

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/delta"
	"zumastor.org/zumastor/engine/digest"
	"zumastor.org/zumastor/engine/digest/compute"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/store"
)

// Errors of a repair.
var (
	// ErrOlder is wrapped when a snapshot is to be repaired that is not the newest one.
	ErrOlder = errors.New("only the newest snapshot of a copy can be repaired")
	// ErrStill is wrapped when a snapshot has not the digest that it is to have after its repair.
	ErrStill = errors.New("after the repair the content is still another one")
)

// Repair gives the newest snapshot of a volume's origin other content: the origin is
// written to, a second snapshot with the same identity is made of it, and the first one is
// deleted. Until the second one is there, the first says that the origin is being made
// something else, as while a delta is applied: after a crash the same repair is begun
// again, or [Abandon] gives the origin the old content back. [Volume.Find] finds the
// second one as soon as there are two. Not for concurrent use.
type Repair struct {
	volume  Volume
	damaged admin.Snapshot
	is      admin.Source
	id      string
	marked  bool
	wrote   bool
}

// Repair begins to repair a snapshot, whose content this is. Nothing is written before
// Write. The error wraps [ErrOlder], [ErrChanged] if the origin does not hold what the
// snapshot does, [ErrOther], or [store.ErrInUse] if the snapshot may not be deleted.
func (v Volume) Repair(ctx context.Context, snap *admin.Snapshot, content delta.Content) (*Repair, error) {
	s, err := v.state(ctx)
	if err != nil {
		return nil, err
	}
	r := &Repair{volume: v, damaged: *snap, is: s.identity(snap), marked: s.marked != nil}
	sum := sha256.Sum256(fmt.Appendf(nil, "repair of %s %d", r.is.Store, r.is.Generation))
	r.id = layout.UUID(sum[:16]).String()
	switch {
	case s.restore != nil:
		return nil, store.ErrRestoring
	case s.newest.Generation != snap.Generation:
		return nil, fmt.Errorf("%w: snapshot %d is older than snapshot %d: delete one of them", ErrOlder, snap.Tag, s.newest.Tag)
	case snap.Held || snap.UseCount > 0:
		return nil, fmt.Errorf("%w: snapshot %d is held or counted as used, and a repair puts another one in its place", store.ErrInUse, snap.Tag)
	case s.marked != nil && s.marked.Applying != r.id:
		return nil, fmt.Errorf("%w: go on with that, or abandon it", ErrOther)
	case s.marked != nil:
		return r, nil
	}
	return r, v.unchanged(ctx, plan{base: snap}, content)
}

// Write writes a part of what the snapshot is to hold.
func (r *Repair) Write(ctx context.Context, p []byte, off int64) error {
	if !r.marked {
		if err := r.volume.mark(ctx, &r.damaged, r.id); err != nil {
			return fmt.Errorf("noting that snapshot %d is being repaired: %w", r.damaged.Tag, err)
		}
		r.marked = true
	}
	r.wrote = true
	_, err := r.volume.Origin.WriteAt(p, off)
	return err
}

// Finish puts what was written in the snapshot's place, under that tag and name if they
// are free, and returns when that is durable. If the digest that it is to have is not nil,
// and the volume has another one then, the error wraps [ErrStill], and the snapshot stays.
// It also ends what an earlier repair left to do; the content is not to be open any more.
func (r *Repair) Finish(ctx context.Context, tag block.Tag, name string, want *digest.Sum) error {
	if r.wrote {
		if err := r.replace(ctx, want); err != nil {
			return err
		}
	}
	s, err := r.volume.state(ctx)
	if err != nil {
		return err
	}
	if s.marked != nil {
		if err := r.volume.mark(ctx, s.marked, ""); err != nil {
			return err
		}
	}
	for i := range s.list {
		if snap := &s.list[i]; snap.Parent == 0 && s.identity(snap) == r.is && snap.Generation != s.newest.Generation {
			if err := r.delete(ctx, snap.Tag); err != nil {
				return fmt.Errorf("the repaired content is snapshot %d; deleting the damaged one, after which the repair is to be ended by another: %w", s.newest.Tag, err)
			}
		}
	}
	if s.newest.Tag == tag {
		return nil
	}
	if err := r.create(ctx, tag, name); err != nil {
		return fmt.Errorf("giving snapshot %d, which is repaired, tag %d: %w", s.newest.Tag, tag, err)
	}
	return r.delete(ctx, s.newest.Tag)
}

// replace makes the second snapshot, and makes sure of it.
func (r *Repair) replace(ctx context.Context, want *digest.Sum) error {
	v := r.volume
	if err := v.Origin.Flush(); err != nil {
		return fmt.Errorf("flushing what was repaired: %w", err)
	}
	s, err := v.state(ctx)
	if err != nil {
		return err
	}
	second := s.freeTag()
	if err := r.create(ctx, second, ""); err != nil || want == nil {
		return err
	}
	got, err := v.digest(ctx, second)
	if err == nil && got != *want {
		err = fmt.Errorf("%w: digest %v instead of %v; compare all content", ErrStill, got, *want)
	}
	if err != nil {
		err = errors.Join(err, r.delete(ctx, second))
	}
	return err
}

// digest computes a snapshot's digest.
func (v Volume) digest(ctx context.Context, tag block.Tag) (sum digest.Sum, err error) {
	s, err := v.state(ctx)
	if err != nil {
		return sum, err
	}
	content, closer, err := v.Open(*s.newest)
	if err != nil {
		return sum, err
	}
	defer func() { err = errors.Join(err, closer.Close()) }()
	res, err := compute.Run(ctx, v.Manager, admin.Ref{Tag: tag}, content, compute.Options{})
	return res.Sum, err
}

// freeTag returns a tag that no snapshot has.
func (s *state) freeTag() (tag block.Tag) {
	for i := range s.list {
		tag = max(tag, s.list[i].Tag+1)
	}
	return tag
}

func (r *Repair) create(ctx context.Context, tag block.Tag, name string) error {
	_, err := r.volume.Manager.Do(ctx, admin.Request{Verb: admin.VerbCreate, New: &admin.NewSnapshot{Tag: tag, Name: name, Source: &r.is}})
	return err
}

// A server may notice only after a while that who read a snapshot has gone.
const (
	deleteTries = 50
	deletePause = 100 * time.Millisecond
)

func (r *Repair) delete(ctx context.Context, tag block.Tag) (err error) {
	for range deleteTries {
		_, err = r.volume.Manager.Do(ctx, admin.Request{Verb: admin.VerbDelete, Snapshot: &admin.Ref{Tag: tag}})
		if !errors.Is(err, store.ErrInUse) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(deletePause):
		}
	}
	return err
}
