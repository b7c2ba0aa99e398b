// SPDX-License-Identifier: Apache-2.0

// Package replica makes a volume what a delta says, atomically: the volume becomes the
// newer snapshot, or stays as it was, at any crash or cut.
//
// It owns the order of the steps, and what is refused before the first byte is written.
// It does not own the volume, the store's snapshots or the format of deltas: it asks an
// admin.Manager, writes to the origin it is given and reads deltas by package delta.
// Command ddsnap calls it, for a running server and for an idle store alike. One Apply
// or Abandon of a volume at a time, and nobody else may write to its origin.
//
// While a delta is applied, the origin holds what nobody ever wrote, and its newest
// snapshot, the base, says so; it keeps its content. After a failure the same delta is
// applied again, or [Abandon] gives the origin the base's content back.
package replica

import (
	"context"
	"errors"
	"fmt"
	"io"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/delta"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/store"
)

// Errors that callers decide on.
var (
	// ErrNotEmpty is wrapped when a delta of all of a volume is applied to one that has
	// snapshots.
	ErrNotEmpty = errors.New("the volume has snapshots, and the delta is of all of a volume")
	// ErrChanged is wrapped when the origin was written to since the base was made.
	ErrChanged = errors.New("the origin was written to since the base")
	// ErrOther is wrapped when another delta is half applied.
	ErrOther = errors.New("another delta is half applied")
	// ErrNothing is wrapped when there is nothing to abandon.
	ErrNothing = errors.New("no delta is being applied")
)

// Volume is what takes deltas.
type Volume struct {
	Manager admin.Manager
	Origin  delta.Receiver
	// Open opens the content of a snapshot, which is kept until it is closed.
	Open func(admin.Snapshot) (delta.Content, io.Closer, error)
}

// OnDevice is a volume's origin, as a device, to be written to.
func OnDevice(d device.Device) delta.Receiver { return onDevice{d} }

type onDevice struct{ device.Device }

// Zero implements delta.Receiver.
func (d onDevice) Zero(off, n int64) error { return device.WriteZeroes(d.Device, off, n) }

// Result says what a delta did, or would do.
type Result struct {
	Header  delta.Header
	Summary delta.Summary
	Resumed bool // an earlier try was gone on with
	There   bool // the newer snapshot was there already
}

// Options say how a delta is applied.
type Options struct {
	delta.ApplyOptions
	DryRun bool // verify, and write nothing
	// Start is up to where the volume is known to hold the newer state; what is applied
	// is the delta's rest from there on. Zero: a whole delta.
	Start int64
	// Admit is asked before anything is done; its error ends Apply. It may be nil.
	Admit func(delta.Header) error
	// Confirm is asked before all that the origin holds is overwritten, by a delta of all
	// of a volume; its error ends Apply. It may be nil.
	Confirm func(delta.Header) error
}

// Apply makes the volume the newer state of a delta, and a snapshot of it with the
// sender's tag and name, which is durable when Apply returns nil. If from can be read
// twice, all of it is verified against the base before the first byte is written.
//
// The volume must be empty of snapshots for a delta of all of a volume; else its newest
// snapshot must be the delta's base, known by where it was made first and not by its
// name, and the origin must hold the same. Where both the store and the delta know the
// base's digest, they must be the same. A delta whose snapshot is there already does
// nothing.
func Apply(ctx context.Context, from io.Reader, v Volume, o Options) (res Result, err error) {
	r, again, err := open(from, o.Start)
	if err != nil {
		return res, err
	}
	res.Header = r.Header()
	if o.Admit != nil {
		if err := o.Admit(res.Header); err != nil {
			return res, err
		}
	}
	p, err := v.plan(ctx, &res.Header)
	if err != nil || p.there {
		res.There = p.there
		return res, errors.Join(err, v.finish(ctx, p, o))
	}
	res.Resumed = p.resume
	if err := v.sameDigest(ctx, p.base, res.Header.From); err != nil {
		return res, err
	}
	var base delta.Content
	if p.base != nil {
		content, closer, err := v.Open(*p.base)
		if err != nil {
			return res, fmt.Errorf("opening the base: %w", err)
		}
		defer func() { err = errors.Join(err, closer.Close()) }()
		base = content
	}
	if again != nil {
		if err := delta.CheckBase(ctx, r, base); err != nil {
			return res, err
		}
		res.Summary = r.Summary()
		if r, err = again(); err != nil {
			return res, err
		}
	}
	if !p.resume {
		if err := v.unchanged(ctx, p, base); err != nil {
			return res, err
		}
	}
	if o.DryRun {
		return res, nil
	}
	if p.base == nil && o.Confirm != nil {
		if err := o.Confirm(res.Header); err != nil {
			return res, err
		}
	}
	return v.carryOut(ctx, r, base, p, res, o)
}

// open reads a delta's header. If the delta can be read twice, again begins anew.
func open(from io.Reader, start int64) (r *delta.Reader, again func() (*delta.Reader, error), err error) {
	if s, ok := from.(io.Seeker); ok {
		if begin, err := s.Seek(0, io.SeekCurrent); err == nil {
			again = func() (*delta.Reader, error) {
				if _, err := s.Seek(begin, io.SeekStart); err != nil {
					return nil, err
				}
				return delta.NewRestReader(from, start)
			}
		}
	}
	r, err = delta.NewRestReader(from, start)
	return r, again, err
}

// carryOut does what was planned.
func (v Volume) carryOut(ctx context.Context, r *delta.Reader, base delta.Content, p plan, res Result, o Options) (Result, error) {
	if p.base != nil && !p.resume {
		if err := v.mark(ctx, p.base, p.id); err != nil {
			return res, fmt.Errorf("noting that a delta is being applied: %w", err)
		}
	}
	o.Resume = p.resume || o.Start > 0
	var err error
	if res.Summary, err = delta.Apply(ctx, r, base, v.Origin, o.ApplyOptions); err != nil {
		return res, err
	}
	to := res.Header.To
	_, err = v.Manager.Do(ctx, admin.Request{Verb: admin.VerbCreate, New: &admin.NewSnapshot{
		Tag: to.Tag, Name: to.Name, Source: &admin.Source{Store: layout.UUID(to.Store).String(), Generation: to.Generation},
	}})
	if err != nil {
		return res, fmt.Errorf("making snapshot %d of what the delta made: %w", to.Tag, err)
	}
	return res, v.mark(ctx, p.base, "")
}

// mark notes by its base that a delta is being applied, or, if id is empty, that none is.
func (v Volume) mark(ctx context.Context, base *admin.Snapshot, id string) error {
	if base == nil {
		return nil
	}
	_, err := v.Manager.Do(ctx, admin.Request{
		Verb: admin.VerbChange, Snapshot: &admin.Ref{Tag: base.Tag}, Change: &admin.Change{Applying: &id},
	})
	return err
}

// finish ends what only the last step was missing of.
func (v Volume) finish(ctx context.Context, p plan, o Options) error {
	if !p.there || p.marked == nil || o.DryRun {
		return nil
	}
	return v.mark(ctx, p.marked, "")
}

// plan is what a delta is to do.
type plan struct {
	id     string
	base   *admin.Snapshot // nil for a delta of all of a volume
	marked *admin.Snapshot // that says that a delta is being applied
	resume bool
	there  bool
}

// state is the snapshots of a volume's origin.
type state struct {
	store   string           // its UUID
	size    int64            // of the origin
	list    []admin.Snapshot // all, oldest first
	newest  *admin.Snapshot  // of the origin
	restore *admin.Restore
	marked  *admin.Snapshot // that says that a delta is being applied
}

func (v Volume) state(ctx context.Context) (s state, err error) {
	st, err := v.Manager.Do(ctx, admin.Request{Verb: admin.VerbStatus})
	if err != nil {
		return s, err
	}
	s.store, s.size, s.restore = st.Status.UUID, st.Status.OriginSize, st.Status.Restore
	list, err := v.Manager.Do(ctx, admin.Request{Verb: admin.VerbList})
	s.list = list.List
	for i := range s.list {
		if s.list[i].Applying != "" {
			s.marked = &s.list[i]
		}
		if s.list[i].Parent == 0 && (s.newest == nil || s.list[i].Generation > s.newest.Generation) {
			s.newest = &s.list[i]
		}
	}
	return s, err
}

// is reports whether a snapshot has the content that an end of a delta names.
func (s *state) is(snap *admin.Snapshot, e *delta.End) bool {
	return s.identity(snap) == admin.Source{Store: layout.UUID(e.Store).String(), Generation: e.Generation} && snap.Parent == 0
}

// plan finds out what a delta is to do, and whether it may.
func (v Volume) plan(ctx context.Context, h *delta.Header) (p plan, err error) {
	s, err := v.state(ctx)
	if err != nil {
		return p, err
	}
	p.id, p.marked = layout.UUID(h.ID()).String(), s.marked
	for i := range s.list {
		if s.is(&s.list[i], &h.To) {
			p.there = true
			return p, nil
		}
	}
	if err := s.free(&h.To); err != nil {
		return p, err
	}
	switch {
	case s.restore != nil:
		return p, store.ErrRestoring
	case s.size != h.To.Size:
		return p, fmt.Errorf("%w: the origin has %d bytes, and the delta makes %d: resize it first", store.ErrSize, s.size, h.To.Size)
	case h.From == nil && s.newest != nil:
		return p, ErrNotEmpty
	case h.From == nil:
		return p, nil
	case s.newest == nil:
		return p, fmt.Errorf("%w: the volume has no snapshot, and the delta needs %s", delta.ErrBase, name(h.From))
	case !s.is(s.newest, h.From):
		return p, fmt.Errorf("%w: it needs %s, and the newest snapshot is %d", delta.ErrBase, name(h.From), s.newest.Tag)
	case s.marked != nil && s.marked.Applying != p.id:
		return p, fmt.Errorf("%w: go on with that, or abandon it", ErrOther)
	}
	p.base, p.resume = s.newest, s.marked != nil
	return p, nil
}

// free returns an error if the tag or name of the newer snapshot is taken.
func (s *state) free(to *delta.End) error {
	for _, snap := range s.list {
		if snap.Tag == to.Tag || to.Name != "" && snap.Name == to.Name {
			return fmt.Errorf("the delta makes %s, and a different one is there: %w", name(to), store.ErrExists)
		}
	}
	return nil
}

// name says which snapshot an end of a delta is.
func name(e *delta.End) string {
	text := fmt.Sprintf("snapshot %d", e.Tag)
	if e.Name != "" {
		text += fmt.Sprintf(" %q", e.Name)
	}
	return text + fmt.Sprintf(" (generation %d of store %v)", e.Generation, layout.UUID(e.Store))
}

// compareStep bounds how much is compared at a time, in bytes.
const compareStep = 1 << 20

// unchanged returns an error unless the origin holds what the base does.
func (v Volume) unchanged(ctx context.Context, p plan, base delta.Content) error {
	if p.base == nil {
		return nil
	}
	q := &admin.ChangeQuery{From: &admin.Ref{Tag: p.base.Tag}}
	for {
		r, err := v.Manager.Do(ctx, admin.Request{Verb: admin.VerbChanges, Changes: q})
		if err != nil {
			return err
		}
		for _, run := range r.Changes.Runs {
			off := int64(run[0]) * int64(r.Changes.ChunkSize)
			end := min(int64(run[0]+run[1])*int64(r.Changes.ChunkSize), r.Changes.Size)
			if err := v.compare(base, off, end); err != nil {
				return err
			}
		}
		if r.Changes.Next <= q.First {
			return nil
		}
		q.First = r.Changes.Next
	}
}

// compare compares a range of the origin with the base.
func (v Volume) compare(base delta.Content, off, end int64) error {
	a, b := make([]byte, compareStep), make([]byte, compareStep)
	for ; off < end; off += compareStep {
		n := min(compareStep, end-off)
		if _, err := v.Origin.ReadAt(a[:n], off); err != nil {
			return err
		}
		if _, err := base.ReadAt(b[:n], off); err != nil {
			return err
		}
		if string(a[:n]) != string(b[:n]) {
			return fmt.Errorf("%w, at offset %d: revert it to that first, and nobody else may write to it", ErrChanged, off/block.PageSize*block.PageSize)
		}
	}
	return nil
}

// Abandon gives the origin the content of the base back, after a delta was applied in
// part, and returns the base. The origin reads so, durably, when Abandon returns; what
// differs is copied as after any revert. The error wraps [ErrNothing] if no delta was.
func Abandon(ctx context.Context, m admin.Manager) (admin.Snapshot, error) {
	s, err := Volume{Manager: m}.state(ctx)
	switch {
	case err != nil:
		return admin.Snapshot{}, err
	case s.marked == nil:
		return admin.Snapshot{}, ErrNothing
	case s.newest == s.marked && (s.restore == nil || s.restore.Snapshot != s.marked.Tag):
		if _, err := m.Do(ctx, admin.Request{Verb: admin.VerbRevert, Snapshot: &admin.Ref{Tag: s.marked.Tag}}); err != nil {
			return *s.marked, fmt.Errorf("reverting the origin to the base: %w", err)
		}
	}
	return *s.marked, Volume{Manager: m}.mark(ctx, s.marked, "")
}
