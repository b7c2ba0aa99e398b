// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"fmt"
	"math"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/digest"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/wire"
)

// Store is what a [Local] needs of an open store; *server.Server is one.
type Store interface {
	Create(n store.NewSnapshot) (layout.Snapshot, error)
	Delete(ref wire.SnapshotRef, recursive bool) error
	Change(ref wire.SnapshotRef, change func(*layout.Snapshot) error) error
	Find(ref wire.SnapshotRef) (store.SnapshotInfo, error)
	Snapshots() []store.SnapshotInfo
	Status() store.Status
	Sharing() ([]store.Sharing, error)
	SetPolicy(p layout.Policy) error
	PlanResize(originSize, size, metaSize int64) (store.ResizePlan, error)
	ResizeOrigin(ctx context.Context, size int64, progress func(store.Progress)) error
	ResizeStore(ctx context.Context, size, metaSize int64, progress func(store.Progress)) error
	Prepare(n store.NewSnapshot, hold func() error) (layout.Snapshot, error)
	CommitGroup(group layout.UUID) error
	AbortGroup(group layout.UUID) error
	Restore(ref wire.SnapshotRef, o store.RestoreOptions) error
	LostChunks(ref wire.SnapshotRef) (list []block.Chunk, count uint64, err error)
	SkipLost() error
	AbandonRestore() (store.RestoreStatus, error)
	StartScrub(o store.ScrubOptions) error
	SetScrubRate(rate int64)
	StopScrub()
	ScrubStatus() store.ScrubStatus
	Subscribe(buffer int) (events <-chan store.Event, cancel func())
	Events(since uint64) []store.Event
	ChangeList(q store.ChangeQuery) (*store.ChangeList, error)
	Digest(ref wire.SnapshotRef) (store.Digest, error)
	BeginDigest(ref wire.SnapshotRef) (layout.Snapshot, block.Generation, error)
	DigestLeaves() (uint64, error)
	DigestChildren(g block.Generation, n digest.Node, sums *[digest.Fanout]digest.Sum) error
	PutDigests(g block.Generation, sums []store.DigestNode) error
	EndDigest(g block.Generation)
}

// Local manages a store that is open in this process. Its calls do not heed the
// end of their context, but for a wait for events: none of the others can be broken
// off half-way.
type Local struct {
	Store Store
	// Volume returns what the volume has served; nil where that is not known.
	Volume func() Volume
	// Progress is told how far a resize is; it may be nil.
	Progress func(store.Progress)
	// Held are the groups that are being made; nil where none can be.
	Held *Held
}

var _ Manager = Local{}

// Do implements [Manager].
func (l Local) Do(ctx context.Context, r Request) (Response, error) {
	if err := r.Check(); err != nil {
		return Response{}, err
	}
	return l.do(ctx, r)
}

func (l Local) do(ctx context.Context, r Request) (a Response, err error) {
	switch r.Verb {
	case VerbCreate:
		a.Snapshot, err = l.create(r.New)
	case VerbDelete:
		err = l.Store.Delete(r.Snapshot.wire(), r.Recursive)
	case VerbChange:
		a.Snapshot, err = l.change(r.Snapshot.wire(), r.Change)
	case VerbList:
		for _, s := range l.Store.Snapshots() {
			a.List = append(a.List, describe(s))
		}
	case VerbStatus:
		status := describeStatus(l.Store.Status())
		if l.Volume != nil {
			served := l.Volume()
			status.Volume = &served
		}
		a.Status = &status
	case VerbSharing:
		a.Sharing, err = l.sharing()
	case VerbPrepare:
		err = l.prepare(r.New, r.Group)
	case VerbRelease, VerbCommit, VerbAbort:
		a.Snapshot, err = l.endGroup(r.Verb, r.Group)
	case VerbResize:
		a.Plan, err = l.resize(ctx, r.Resize)
	case VerbRevert, VerbMerge, VerbLost, VerbSkipLost, VerbAbandon:
		err = l.restore(r, &a)
	case VerbPolicy:
		err = l.setPolicy(r.Policy)
	case VerbScrubStart, VerbScrubStop, VerbScrubStatus:
		a.Scrub, err = l.scrub(r)
	case VerbChanges:
		a.Changes, err = l.changes(r.Changes)
	case VerbDigest, VerbDigestBegin, VerbDigestChildren, VerbDigestPut, VerbDigestEnd:
		a.Digest, err = l.digest(r)
	case VerbEvents:
		a.Events = l.events(ctx, r.Events)
	default:
		err = fmt.Errorf("%w: this process does not %s", ErrRequest, r.Verb)
	}
	return a, err
}

// restore carries out the verbs about reverts and merges.
func (l Local) restore(r Request, a *Response) error {
	switch r.Verb {
	case VerbLost:
		list, count, err := l.Store.LostChunks(r.Snapshot.wire())
		a.Lost = &Lost{Count: count, Chunks: list}
		return err
	case VerbSkipLost:
		return l.Store.SkipLost()
	case VerbAbandon:
		was, err := l.Store.AbandonRestore()
		a.Restore = describeRestore(&was)
		return err
	}
	return l.Store.Restore(r.Snapshot.wire(), store.RestoreOptions{Merge: r.Verb == VerbMerge, SkipLost: r.SkipLost})
}

// wire returns what the server is given for r.
func (r Ref) wire() wire.SnapshotRef { return wire.SnapshotRef{Tag: r.Tag, Name: r.Name} }

func (l Local) create(n *NewSnapshot) (*Snapshot, error) {
	want := store.NewSnapshot{Tag: n.Tag, Name: n.Name, Priority: n.Priority, Held: n.Held}
	if n.Parent != nil {
		parent := n.Parent.wire()
		want.Parent = &parent
	}
	if n.Source != nil {
		store, err := parseUUID(n.Source.Store)
		if err != nil {
			return nil, err
		}
		want.Source = layout.Source{Store: store, Generation: n.Source.Generation}
		if (store == layout.UUID{}) != (n.Source.Generation == 0) {
			return nil, fmt.Errorf("%w: source %v", ErrRequest, *n.Source)
		}
	}
	s, err := l.Store.Create(want)
	if err != nil {
		return nil, err
	}
	made := describe(store.SnapshotInfo{Snapshot: s})
	return &made, nil
}

func (l Local) change(ref wire.SnapshotRef, c *Change) (*Snapshot, error) {
	var changed layout.Snapshot
	var applying layout.UUID
	if c.Applying != nil && *c.Applying != "" {
		var err error
		if applying, err = parseUUID(*c.Applying); err != nil {
			return nil, err
		}
	}
	err := l.Store.Change(ref, func(s *layout.Snapshot) error {
		if c.Name != nil {
			s.Name = *c.Name
		}
		if c.Priority != nil {
			s.Priority = *c.Priority
		}
		if c.Held != nil {
			s.Held = *c.Held
		}
		if err := c.checkApplied(s, applying); err != nil {
			return err
		}
		if c.Applying != nil {
			s.Applying, s.Applied = applying, c.Applied
		}
		uses := int64(s.UseCount) + c.Uses
		if uses < 0 || uses > math.MaxUint32 {
			return fmt.Errorf("%w: its use count is %d, and %+d is not possible: it is from 0 to %d", ErrRequest, s.UseCount, c.Uses, uint32(math.MaxUint32))
		}
		s.UseCount = uint32(uses)
		changed = *s
		return nil
	})
	if err != nil {
		return nil, err
	}
	info, err := l.Store.Find(wire.SnapshotRef{Tag: changed.Tag})
	if err != nil {
		return nil, err
	}
	now := describe(info)
	return &now, nil
}

// checkApplied returns an error if the change says how far a delta is applied that is not
// the one by which the snapshot's origin is being made a newer state.
func (c *Change) checkApplied(s *layout.Snapshot, applying layout.UUID) error {
	switch {
	case c.Applied == 0:
		return nil
	case c.Applied < 0 || c.Applied > s.Size:
		return fmt.Errorf("%w: a delta is applied up to offset %d of %d", ErrRequest, c.Applied, s.Size)
	case c.Applying == nil || applying == layout.UUID{} || applying != s.Applying:
		return fmt.Errorf("%w: the delta that is applied up to offset %d is not being applied", ErrRequest, c.Applied)
	}
	return nil
}

func (l Local) setPolicy(name string) error {
	p, err := layout.ParsePolicy(name)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRequest, err)
	}
	return l.Store.SetPolicy(p)
}

func (l Local) sharing() ([]Sharing, error) {
	rows, err := l.Store.Sharing()
	if err != nil {
		return nil, err
	}
	list := make([]Sharing, len(rows))
	for i := range rows {
		list[i] = Sharing{Tag: rows[i].Tag, Chunks: rows[i].Chunks[:], Total: rows[i].Total}
	}
	return list, nil
}
