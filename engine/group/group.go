// SPDX-License-Identifier: Apache-2.0

// Package group takes snapshots of several volumes at one instant, all or none.
//
// It owns the order of the steps (see [Create]) and what becomes of a group whose
// making was interrupted ([Resolve]). It owns no state: every store keeps its own
// snapshot of a group, with the group's identity and size. Stores are reached through
// [Member], by the command line and the manager. Functions may be called at the same
// time for different groups; whoever makes two groups of the same stores at once gets
// one after the other. When a step fails, all that was done is undone as far as the
// stores can be reached; what cannot be is left prepared, and listed as such.
package group

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/store"
)

// DefaultLimit is how long the writes of a volume are held for a group unless
// another time is asked for.
const DefaultLimit = 10 * time.Second

// Errors that callers decide on.
var (
	// ErrLimit is wrapped when the snapshots of a group could not be prepared in time.
	ErrLimit = errors.New("writes were held for too long")
	// ErrIncomplete is wrapped when stores of a group were not named.
	ErrIncomplete = errors.New("group has snapshots in other stores")
)

// Member is a store as a group needs it. A *store.Store is one, and so is a client of
// its server.
type Member interface {
	// Prepare is [store.Store.Prepare].
	Prepare(n store.NewSnapshot, hold func() error) (layout.Snapshot, error)
	CommitGroup(group layout.UUID) error
	AbortGroup(group layout.UUID) error
	Snapshots() []store.SnapshotInfo
	DeleteSnapshot(tag block.Tag) error
}

// Named is a member and what to call it in errors.
type Named struct {
	Name string
	Member
}

// Options say what snapshots to make.
type Options struct {
	Tag      block.Tag
	Name     string
	Priority int8
	Held     bool
	Limit    time.Duration // for which writes are held at most; zero: DefaultLimit
}

// Create makes a snapshot of every member, all of one instant, and returns the
// group's identity. Either all members have their snapshot when it returns, or none.
//
// Each member holds its writes and makes its snapshot durable as prepared. Once all
// have, there is an instant that every one of them shares, and the writes go on. Then
// each is told that the group is complete. If Create is interrupted after the first
// of these and before the last, members are left prepared; [Resolve] completes them.
func Create(ctx context.Context, members []Named, o Options) (layout.UUID, error) {
	var id layout.UUID
	rand.Read(id[:]) // never fails
	if len(members) == 0 || len(members) > 1<<16-1 {
		return id, fmt.Errorf("a group has 1 to 65535 members, not %d", len(members))
	}
	limit := o.Limit
	if limit == 0 {
		limit = DefaultLimit
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%w: %v", ErrLimit, limit))
	defer cancel()
	if err := prepare(ctx, cancel, members, store.NewSnapshot{
		Tag: o.Tag, Name: o.Name, Priority: o.Priority, Held: o.Held, Group: id, GroupSize: uint16(len(members)),
	}); err != nil {
		return id, err
	}
	return id, commit(members, id)
}

// prepare returns when every member's snapshot is prepared and all its writes go on.
// After an error no member has one any more.
func prepare(ctx context.Context, cancel context.CancelFunc, members []Named, n store.NewSnapshot) error {
	var holding sync.WaitGroup
	holding.Add(len(members))
	all := make(chan struct{})
	go func() {
		holding.Wait()
		close(all)
	}()
	errs := make([]error, len(members))
	var done sync.WaitGroup
	for i, m := range members {
		done.Go(func() {
			arrived := sync.OnceFunc(holding.Done)
			defer arrived()
			_, errs[i] = m.Prepare(n, func() error {
				arrived()
				select {
				case <-all:
					return ctx.Err()
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			})
			if errs[i] != nil {
				errs[i] = fmt.Errorf("%s: %w", m.Name, errs[i])
				cancel() // nobody else need hold any longer
			}
		})
	}
	done.Wait()
	first := firstCause(errs)
	if first == nil {
		return nil
	}
	return errors.Join(first, abort(members, n.Group, errs))
}

// firstCause returns the error that made the others fail.
func firstCause(errs []error) error {
	var first error
	for _, err := range errs {
		if err != nil && (first == nil || errors.Is(first, context.Canceled)) {
			first = err
		}
	}
	return first
}

// abort deletes the snapshots of those members that have prepared theirs.
func abort(members []Named, id layout.UUID, prepared []error) error {
	var errs []error
	for i, m := range members {
		if prepared[i] != nil {
			continue
		}
		if err := m.AbortGroup(id); err != nil {
			errs = append(errs, fmt.Errorf("%s: taking the snapshot back: %w", m.Name, err))
		}
	}
	return errors.Join(errs...)
}

// commit tells every member that the group is complete.
func commit(members []Named, id layout.UUID) error {
	var errs []error
	for _, m := range members {
		if err := m.CommitGroup(id); err != nil {
			errs = append(errs, fmt.Errorf("%s: completing group %v: %w", m.Name, id, err))
		}
	}
	return errors.Join(errs...)
}

// Group is a group as far as the members that were asked know it.
type Group struct {
	ID        layout.UUID
	Size      int        // of its snapshots, one a member
	Snapshots []Snapshot // those found
}

// Snapshot is a member's snapshot of a group.
type Snapshot struct {
	Member string
	store.SnapshotInfo
}

// Complete reports whether every snapshot of the group was found and can be read.
func (g *Group) Complete() bool {
	return len(g.Snapshots) == g.Size && g.count(layout.SnapshotLive) == g.Size
}

func (g *Group) count(state layout.SnapshotState) (n int) {
	for _, s := range g.Snapshots {
		if s.State == state {
			n++
		}
	}
	return n
}

// List returns the groups that the members have snapshots of, oldest first.
func List(members []Named) []Group {
	var groups []Group
	for _, m := range members {
		for _, s := range m.Snapshots() {
			if s.GroupSize == 0 {
				continue
			}
			i := slices.IndexFunc(groups, func(g Group) bool { return g.ID == s.Group })
			if i < 0 {
				i = len(groups)
				groups = append(groups, Group{ID: s.Group, Size: int(s.GroupSize)})
			}
			groups[i].Snapshots = append(groups[i].Snapshots, Snapshot{m.Name, s})
		}
	}
	slices.SortStableFunc(groups, func(a, b Group) int { return int(a.Snapshots[0].Created - b.Snapshots[0].Created) })
	return groups
}

// Resolution is what becomes of a group whose making was interrupted.
type Resolution struct {
	Group
	Committed bool // else its snapshots were, or are to be, deleted
}

// Resolve ends the making of groups that was interrupted. A group of which one
// snapshot can be read, or of which all are prepared, is completed: they are of one
// instant. The prepared snapshots of any other are deleted. That takes all members of
// the group: the error wraps [ErrIncomplete] if some were not named, and their groups
// are left as they are, unless one of the snapshots can be read. With dry, it
// changes nothing.
func Resolve(members []Named, dry bool) ([]Resolution, error) {
	var done []Resolution
	var errs []error
	for _, g := range List(members) {
		if g.count(layout.SnapshotPrepared) == 0 {
			continue
		}
		r := Resolution{Group: g, Committed: g.count(layout.SnapshotLive) > 0 || g.count(layout.SnapshotPrepared) == g.Size}
		if !r.Committed && len(members) < g.Size {
			errs = append(errs, fmt.Errorf("group %v: %w: it has %d, %d stores were named", g.ID, ErrIncomplete, g.Size, len(members)))
			continue
		}
		done = append(done, r)
		if dry {
			continue
		}
		for _, m := range members {
			end := m.AbortGroup
			if r.Committed {
				end = m.CommitGroup
			}
			if err := end(g.ID); err != nil && !errors.Is(err, store.ErrNoGroup) {
				errs = append(errs, fmt.Errorf("%s: group %v: %w", m.Name, g.ID, err))
			}
		}
	}
	return done, errors.Join(errs...)
}

// Delete deletes the snapshots of a group. Those that cannot be deleted are named in
// the error; the others are deleted all the same. The error wraps [store.ErrNoGroup]
// if no member has one.
func Delete(members []Named, id layout.UUID) error {
	var errs []error
	found := false
	for _, m := range members {
		for _, s := range m.Snapshots() {
			if s.GroupSize == 0 || s.Group != id {
				continue
			}
			found = true
			if err := m.DeleteSnapshot(s.Tag); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", m.Name, err))
			}
		}
	}
	if !found {
		return fmt.Errorf("%w: %v", store.ErrNoGroup, id)
	}
	return errors.Join(errs...)
}
