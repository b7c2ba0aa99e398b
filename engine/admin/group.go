// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/store"
)

// Group says which group a request is about, and of one to be made what is needed.
type Group struct {
	ID    string        `json:"id"`                      // its UUID
	Size  uint16        `json:"size,omitempty"`          // snapshots, one a store
	Limit time.Duration `json:"limit_nanosec,omitempty"` // for which writes are held at most
	Abort bool          `json:"abort,omitempty"`         // of release: the snapshot is deleted again
}

// longestHold bounds for how long a process holds writes for whoever makes a group.
const longestHold = time.Minute

// Held are the groups being made for which a process holds writes. The zero value
// holds none. It is safe for concurrent use.
type Held struct {
	mu     sync.Mutex
	groups map[layout.UUID]*heldGroup
}

// heldGroup is one of them.
type heldGroup struct {
	holding chan struct{} // closed when its snapshot is prepared and writes are held
	release chan error    // takes how that ends: nil, or why the snapshot is to go again
	done    chan struct{} // closed when it has ended; snap and err are set before
	snap    layout.Snapshot
	err     error
}

// prepare answers VerbPrepare: it returns when writes are held. They go on at
// release, or after the limit, when the snapshot is deleted again.
func (l Local) prepare(n *NewSnapshot, g *Group) error {
	id, err := parseUUID(g.ID)
	if err != nil || l.Held == nil {
		return errors.Join(err, fmt.Errorf("%w: this process makes no groups", ErrRequest))
	}
	h := &heldGroup{holding: make(chan struct{}), release: make(chan error, 1), done: make(chan struct{})}
	if !l.Held.add(id, h) {
		return fmt.Errorf("%w: group %v is being made already", ErrRequest, id)
	}
	want := store.NewSnapshot{Tag: n.Tag, Name: n.Name, Priority: n.Priority, Held: n.Held, Group: id, GroupSize: g.Size}
	go func() {
		defer l.Held.remove(id)
		defer close(h.done)
		h.snap, h.err = l.Store.Prepare(want, func() error { return h.hold(min(g.Limit, longestHold)) })
	}()
	select {
	case <-h.holding:
		return nil
	case <-h.done:
		return h.err
	}
}

// hold keeps writes waiting.
func (h *heldGroup) hold(limit time.Duration) error {
	close(h.holding)
	patience := time.NewTimer(limit)
	defer patience.Stop()
	select {
	case err := <-h.release:
		return err
	case <-patience.C:
		return fmt.Errorf("writes were held for %v and not released", limit)
	}
}

func (x *Held) add(id layout.UUID, h *heldGroup) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.groups == nil {
		x.groups = make(map[layout.UUID]*heldGroup)
	}
	if x.groups[id] != nil {
		return false
	}
	x.groups[id] = h
	return true
}

func (x *Held) remove(id layout.UUID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.groups, id)
}

// find returns the group, or nil; x may be nil.
func (x *Held) find(id layout.UUID) *heldGroup {
	if x == nil {
		return nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.groups[id]
}

// endGroup answers the verbs that follow a prepare.
func (l Local) endGroup(v Verb, g *Group) (*Snapshot, error) {
	id, err := parseUUID(g.ID)
	if err != nil {
		return nil, err
	}
	switch v {
	case VerbCommit:
		return nil, l.Store.CommitGroup(id)
	case VerbAbort:
		return nil, l.Store.AbortGroup(id)
	}
	h := l.Held.find(id)
	if h == nil {
		return nil, fmt.Errorf("%w: writes are not held for group %v any more", store.ErrNoGroup, id)
	}
	var end error
	if g.Abort {
		end = errors.New("the group is not made")
	}
	select {
	case h.release <- end:
	default: // released already
	}
	<-h.done
	if h.err != nil {
		return nil, h.err
	}
	made := describe(store.SnapshotInfo{Snapshot: h.snap})
	return &made, nil
}

// parseUUID is the reverse of layout.UUID's String.
func parseUUID(text string) (id layout.UUID, err error) {
	raw, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err != nil || len(raw) != len(id) {
		return id, fmt.Errorf("%w: %q is not a UUID", ErrRequest, text)
	}
	copy(id[:], raw)
	return id, nil
}

// Member is a store as package group needs it, through whatever manages it.
type Member struct {
	ctx   context.Context
	m     Manager
	limit time.Duration
	snaps []store.SnapshotInfo
}

// NewMember returns a member that holds writes no longer than limit. Its snapshots
// are those of now. ctx is that of all its requests.
func NewMember(ctx context.Context, m Manager, limit time.Duration) (*Member, error) {
	r, err := m.Do(ctx, Request{Verb: VerbList})
	if err != nil {
		return nil, err
	}
	x := &Member{ctx: ctx, m: m, limit: limit}
	for _, s := range r.List {
		info, err := undescribe(s)
		if err != nil {
			return nil, err
		}
		x.snaps = append(x.snaps, info)
	}
	return x, nil
}

// Snapshots returns the snapshots that there were when the member was made.
func (x *Member) Snapshots() []store.SnapshotInfo { return x.snaps }

// Prepare is [store.Store.Prepare].
func (x *Member) Prepare(n store.NewSnapshot, hold func() error) (layout.Snapshot, error) {
	g := Group{ID: n.Group.String(), Size: n.GroupSize, Limit: x.limit}
	want := NewSnapshot{Tag: n.Tag, Name: n.Name, Priority: n.Priority, Held: n.Held}
	if _, err := x.m.Do(x.ctx, Request{Verb: VerbPrepare, New: &want, Group: &g}); err != nil {
		return layout.Snapshot{}, err
	}
	held := hold()
	r, err := x.m.Do(x.ctx, Request{Verb: VerbRelease, Group: &Group{ID: g.ID, Abort: held != nil}})
	switch {
	case held != nil:
		return layout.Snapshot{}, held
	case err != nil:
		return layout.Snapshot{}, err
	}
	info, err := undescribe(*r.Snapshot)
	return info.Snapshot, err
}

// CommitGroup is [store.Store.CommitGroup].
func (x *Member) CommitGroup(id layout.UUID) error {
	_, err := x.m.Do(x.ctx, Request{Verb: VerbCommit, Group: &Group{ID: id.String()}})
	return err
}

// AbortGroup is [store.Store.AbortGroup].
func (x *Member) AbortGroup(id layout.UUID) error {
	_, err := x.m.Do(x.ctx, Request{Verb: VerbAbort, Group: &Group{ID: id.String()}})
	return err
}

// DeleteSnapshot is [store.Store.DeleteSnapshot].
func (x *Member) DeleteSnapshot(tag block.Tag) error {
	_, err := x.m.Do(x.ctx, Request{Verb: VerbDelete, Snapshot: &Ref{Tag: tag}})
	return err
}

// undescribe is the reverse of describe, as far as groups need it.
func undescribe(d Snapshot) (s store.SnapshotInfo, err error) {
	s.Tag, s.Name, s.Generation, s.Created, s.Size = d.Tag, d.Name, d.Generation, d.Created.UnixNano(), d.Size
	s.Held, s.Users, s.UseCount = d.Held, d.Readers, d.UseCount
	for _, state := range []layout.SnapshotState{layout.SnapshotLive, layout.SnapshotSquashed, layout.SnapshotPrepared} {
		if state.String() == d.State {
			s.State = state
		}
	}
	if d.GroupSize > 0 {
		s.GroupSize = uint16(d.GroupSize)
		s.Group, err = parseUUID(d.Group)
	}
	return s, err
}
