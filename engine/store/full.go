// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"zumastor.org/zumastor/engine/alloc"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/wire"
)

// AwaitSpace is for a client that was refused slots: h is the snapshot that it
// writes to, or zero for the origin's. It returns nil when it may ask for them
// again. What the clients of snapshots have leased and do not use is taken back first
// and, for one of these, what the origin's has.
// Then the store's policy says what it does until there is space. With [layout.PolicyBlock]
// it waits: for a deletion, more room, another policy, or the end of the client. With
// [layout.PolicyDrop], for the origin, it drops and squashes snapshots; see
// [Store.dropNext] for which. Otherwise, and when there is nothing to be dropped, the
// error wraps [alloc.ErrNoSpace]. The client must keep nobody waiting meanwhile.
func (s *Store) AwaitSpace(h wire.Handle) error {
	return s.AwaitSpaceContext(context.Background(), h)
}

// AwaitSpaceContext is AwaitSpace for a client that may go away: when ctx ends it looks
// for space no further, and returns the reason, at once if it was waiting.
func (s *Store) AwaitSpaceContext(ctx context.Context, h wire.Handle) error {
	for {
		changed := *s.space.Load() // before looking, so that no change is missed
		found, err := s.findSpace(ctx, h)
		if found || err != nil {
			return err
		}
		var retry <-chan time.Time
		if s.mustRetry() {
			retry = time.After(s.opts.Retry)
		}
		select {
		case <-changed:
		case <-retry:
		case <-ctx.Done():
			return gaveUp(ctx)
		}
	}
}

// gaveUp says that somebody waits for space no more.
func gaveUp(ctx context.Context) error {
	return fmt.Errorf("waiting for space: %w", context.Cause(ctx))
}

// StopWaiting has those fail who wait for space, now and later, with an error that
// wraps [device.ErrClosed]. It is for a process that is about to close the store and
// lets requests under way end before.
func (s *Store) StopWaiting() {
	s.closing.Store(true)
	s.spaceChanged()
}

// spaceChanged lets those who wait for space look again.
func (s *Store) spaceChanged() {
	next := make(chan struct{})
	close(*s.space.Swap(&next))
}

// findSpace does what the policy says, for one client after another: what is dropped
// for one is room for the next. Without an error and space, the client is to wait.
func (s *Store) findSpace(ctx context.Context, h wire.Handle) (found bool, err error) {
	s.dropping.Lock()
	defer s.dropping.Unlock()
	policy, err := s.shortOf(h)
	if err != nil {
		return false, err
	}
	for {
		if found, err := s.findFree(ctx, h); found || err != nil {
			return found, err
		}
		if s.giveUpShrink() { // it ends, and then there is room
			return false, nil
		}
		if wait, err := s.lacks(); wait || err != nil {
			return false, err
		}
		s.noteFull(policy)
		dropped := false
		if policy == layout.PolicyDrop && h == 0 {
			s.admin.Lock()
			dropped, err = s.dropNext()
			s.admin.Unlock()
		}
		switch {
		case err != nil:
			return false, err
		case policy == layout.PolicyBlock && s.closing.Load():
			return false, fmt.Errorf("waiting for space: %w", device.ErrClosed)
		case policy == layout.PolicyBlock:
			return false, nil
		case !dropped:
			return false, fmt.Errorf("%w, policy %v: delete a snapshot", alloc.ErrNoSpace, policy)
		}
	}
}

// findFree looks for space that nobody has to give anything up for, and reports whether
// there is any.
func (s *Store) findFree(ctx context.Context, h wire.Handle) (found bool, err error) {
	for {
		if ctx.Err() != nil {
			return false, gaveUp(ctx)
		}
		more, err := s.freeSome()
		if err != nil {
			return false, err
		}
		if s.hasSpace(h) {
			return true, nil
		}
		if more || s.takeIdle(h) {
			continue
		}
		if s.hasSpace(h) { // somebody has used his leases meanwhile
			return true, nil
		}
		if !s.retryAside() {
			return false, nil
		}
	}
}

// shortOf returns the policy for the client of h, if it may have slots at all.
func (s *Store) shortOf(h wire.Handle) (layout.Policy, error) {
	if err := s.mutable(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if h != 0 {
		_, err := s.writable(h)
		return s.sb.Policy, err
	}
	if s.client == nil {
		return 0, fmt.Errorf("%w: the origin has no client", ErrStale)
	}
	return s.sb.Policy, nil
}

// freeSome frees what the next checkpoint and, up to a lease, deletions can. It reports
// whether more of these is left.
func (s *Store) freeSome() (more bool, err error) {
	s.mu.Lock()
	some := s.snaps.reclaiming > 0 || s.slots.Waiting() > 0 || len(s.heads) > 0
	s.mu.Unlock()
	if !some {
		return false, nil
	}
	return s.makeRoom(true)
}

// hasSpace reports whether the client of h may be given slots.
func (s *Store) hasSpace(h wire.Handle) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.slots.Leasable() > 0 && (h == 0 || s.branchRuns() > 0)
}

// noteFull takes in that a client has found no space.
func (s *Store) noteFull(policy layout.Policy) {
	s.mu.Lock()
	had := s.full
	s.full = true
	s.mu.Unlock()
	if !had {
		s.emit(Event{Kind: EventFull, Text: "policy " + policy.String()})
	}
}

// noteSpace takes in how much space is free. It ends a state of being full only when
// a whole lease is free, so that it does not come and go with every slot. The lock is
// held.
func (s *Store) noteSpace() {
	free := s.slots.Leasable()
	if free > 0 {
		s.aside.lack = false
		s.spaceChanged()
	}
	if s.full && free >= s.leaseSlots() {
		s.full = false
		s.emit(Event{Kind: EventSpace, Text: fmt.Sprintf("%d slots are free", free)})
	}
}

// SetPolicy says what is to happen when the store is full. It is durable when
// SetPolicy returns, and heeded by those who wait for space already.
func (s *Store) SetPolicy(p layout.Policy) error {
	if _, err := layout.ParsePolicy(p.String()); err != nil {
		return err
	}
	if err := s.mutable(); err != nil {
		return err
	}
	s.admin.Lock()
	defer s.admin.Unlock()
	old := s.swapPolicy(p)
	if old == p {
		return nil
	}
	if err := s.Checkpoint(); err != nil {
		s.swapPolicy(old)
		return err
	}
	s.emit(Event{Kind: EventPolicy, Text: fmt.Sprintf("%v, and %v before", p, old)})
	s.spaceChanged()
	return nil
}

func (s *Store) swapPolicy(p layout.Policy) (old layout.Policy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old = s.sb.Policy
	s.sb.Policy = p
	s.changed = s.changed || p != old
	return old
}

// dropNext deletes the snapshot that is needed least: of the lowest priority, the
// oldest. While there are others, it takes none that is open, held, or has a use
// count; then it takes those as well, and squashes them: the content is given up,
// their clients get errors, and they stay listed. None is taken that has snapshots of
// its own, [layout.MaxPriority], or the content that the origin is being restored to.
// What is dropped is so durably. It reports whether there was one. The caller holds
// admin.
func (s *Store) dropNext() (dropped bool, err error) {
	if err := s.begin(); err != nil {
		return false, err
	}
	s.mu.Lock()
	snap := s.victim()
	if snap == nil {
		s.mu.Unlock()
		return false, nil
	}
	e := about(EventDropped, snap.Snapshot, fmt.Sprintf("for space; none that nobody uses has a priority below %d", snap.Priority))
	entry := snap.Snapshot
	entry.State = layout.SnapshotDeleting
	if snap.inUse() {
		e = about(EventSquashed, snap.Snapshot, "for space; none is left that nobody uses, and this one is "+snap.uses())
		entry.State = layout.SnapshotSquashed
	}
	s.mu.Unlock()
	if err := s.recordWith(entry); err != nil {
		return false, err
	}
	s.emit(e)
	if entry.State == layout.SnapshotSquashed {
		s.fence(snap)
	}
	s.wake()
	s.tellOrigin()
	return true, nil
}

// victim returns the snapshot that is to go first when the store is full, or nil.
// The lock is held.
func (s *Store) victim() *snapshot {
	parents := make(map[block.Branch]bool)
	for _, snap := range s.snaps.all {
		if snap.listed() {
			parents[snap.Parent] = true
		}
	}
	var first *snapshot
	for _, snap := range s.snaps.all { // oldest first
		switch {
		case !snap.readable() || snap.Priority == layout.MaxPriority || parents[snap.branch()]:
		case snap.Generation == s.sb.Restore.Generation:
		case first == nil, snap.before(first):
			first = snap
		}
	}
	return first
}

// before reports whether a snapshot is to go before another one, that is older.
func (s *snapshot) before(older *snapshot) bool {
	if s.inUse() != older.inUse() {
		return older.inUse()
	}
	return s.Priority < older.Priority
}

// inUse reports whether somebody wants to keep the snapshot.
func (s *snapshot) inUse() bool { return s.Held || s.UseCount > 0 || len(s.opened) > 0 }

// uses says who wants to keep the snapshot.
func (s *snapshot) uses() string {
	var list []string
	if s.Held {
		list = append(list, "held")
	}
	if s.UseCount > 0 {
		list = append(list, fmt.Sprintf("used %d times", s.UseCount))
	}
	if n := len(s.opened); n > 0 {
		list = append(list, fmt.Sprintf("open %d times", n))
	}
	return strings.Join(list, ", ")
}

// fence tells the clients of a snapshot that was squashed, and waits for them, but
// not for ever: until each has answered or is gone, nothing of the snapshot is freed,
// since it may still be read and written to where it was.
func (s *Store) fence(snap *snapshot) {
	s.mu.Lock()
	clients := slices.Clone(snap.opened)
	s.mu.Unlock()
	answered := make(chan struct{}, len(clients))
	for _, o := range clients {
		go func() {
			s.tellSquashed(o)
			answered <- struct{}{}
		}()
	}
	limit := time.NewTimer(s.opts.ClientWait)
	defer limit.Stop()
	for range clients {
		select {
		case <-answered:
		case <-limit.C:
			return
		}
	}
}

// tellSquashed tells a client that its snapshot was squashed. When it has taken that
// in, its leases are free.
func (s *Store) tellSquashed(o *opened) {
	heard := false
	err := o.client.Quiesce(func() (wire.SnapshotState, error) {
		heard = true
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.snapshotState(o.snap, o.write), nil
	})
	if !heard {
		if s.opts.Logger != nil {
			s.opts.Logger.Warn("a client does not take in that its snapshot was squashed", "snapshot", o.snap.Tag, "error", err)
		}
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.snaps.change(o.snap, func() { o.fenced = true })
	s.returnLeases(o)
	s.wake()
	s.spaceChanged()
}
