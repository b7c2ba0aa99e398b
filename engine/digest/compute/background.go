// SPDX-License-Identifier: Apache-2.0

package compute

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/alloc"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/wire"
)

// Defaults of a [Background].
const (
	DefaultRate = 16 << 20    // bytes a second
	DefaultAge  = time.Minute // of a snapshot
)

const (
	// retry is how long it waits after an error that another try may not have.
	retry = 10 * time.Minute
	// look is how long it waits for somebody to have the origin, since the event that says so
	// comes a little before it can be read.
	look = 3 * time.Second
	// idle is how long it waits at most for something to happen.
	idle = time.Hour
	// share is the part of the metadata pages, in percent, up to which it fills them: the store
	// makes no snapshot when half of them are in use, and copies need them more.
	share = 25
	// mostTries is after how many failures a snapshot is passed over.
	mostTries = 3
)

// Content is that of a snapshot, to be closed.
type Content interface {
	io.ReaderAt
	io.Closer
}

// Background computes the digests of a store's snapshots of the origin as they are made,
// each from that of the one before: one at a time, oldest first, but none of a snapshot
// older than the newest digest that the store has. Without any it begins with the newest
// snapshot, which lives longest; those of older ones would cost as much as the first, and
// are left to who wants them. What there is to do it asks the store: so it goes on after a
// restart, and begins anew with the digest that was under way.
type Background struct {
	Manager admin.Manager
	// Open returns the content of a snapshot, which nothing keeps from being deleted. An
	// error that wraps store.ErrNoOrigin, also of the content, says that it is to be had
	// again when somebody has the origin.
	Open   func(admin.Snapshot) (Content, error)
	Rate   int64         // most bytes to read in a second; zero: DefaultRate
	Age    time.Duration // how old a snapshot must be: one that goes sooner costs nothing; zero: DefaultAge
	Logger *slog.Logger  // not nil

	tries map[block.Generation]int // failures to compute a digest, of snapshots that are there; for Run

	mu  sync.Mutex // guards now
	now admin.Digesting
}

// Status returns what it does. It may be called while it runs.
func (b *Background) Status() admin.Digesting {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

func (b *Background) say(now admin.Digesting) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = now
}

// Run works until ctx ends, in the goroutine that calls it. It looks for new snapshots
// when something comes from happened. It is called once.
func (b *Background) Run(ctx context.Context, happened <-chan store.Event) {
	b.tries = make(map[block.Generation]int)
	for ctx.Err() == nil {
		wait, err := b.step(ctx)
		if err != nil {
			b.trouble(err)
			rest(ctx, retry, nil) // what happens meanwhile does not help
		} else if wait > 0 && !rest(ctx, wait, happened) {
			happened = nil
		}
	}
}

// rest waits for a while, or until something happens, and reports whether more may.
func rest(ctx context.Context, wait time.Duration, happened <-chan store.Event) bool {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	case _, more := <-happened:
		return more
	}
	return true
}

// step computes a digest, or returns how long there is none to compute. An error is one of
// the store's, and of no snapshot.
func (b *Background) step(ctx context.Context) (time.Duration, error) {
	r, err := b.Manager.Do(ctx, admin.Request{Verb: admin.VerbList})
	if err != nil {
		return 0, err
	}
	maps.DeleteFunc(b.tries, func(g block.Generation, _ int) bool { return !there(r.List, g) })
	s, wait := b.next(r.List, time.Now())
	if s == nil || wait > 0 {
		return cmp.Or(wait, idle), nil
	}
	if err := b.room(ctx); err != nil {
		return 0, err
	}
	err = b.compute(ctx, s)
	switch {
	case err == nil || ctx.Err() != nil:
		return 0, nil
	case errors.Is(err, store.ErrNoOrigin) || errors.Is(err, wire.ErrAway):
		return look, nil
	case errors.Is(err, alloc.ErrNoSpace) || errors.Is(err, store.ErrFailed):
		return 0, err
	}
	if r, err := b.Manager.Do(ctx, admin.Request{Verb: admin.VerbList}); err == nil && !there(r.List, s.Generation) {
		return 0, nil // it was deleted
	}
	b.tries[s.Generation]++
	switch {
	case errors.Is(err, store.ErrWritten): // such have none
		b.tries[s.Generation] = mostTries
	case !errors.Is(err, store.ErrNoDigest): // its base's was forgotten meanwhile, or the content cannot be read
		b.tries[s.Generation] = mostTries
		b.trouble(err)
	}
	return 0, nil
}

// room returns an error if the store needs its metadata pages for its copies.
func (b *Background) room(ctx context.Context) error {
	r, err := b.Manager.Do(ctx, admin.Request{Verb: admin.VerbStatus})
	if err == nil && 100*r.Status.MetadataUsed > share*r.Status.MetadataPages {
		err = fmt.Errorf("more than %d%% of the metadata pages are in use: %w", share, alloc.ErrNoSpace)
	}
	return err
}

// there reports whether a snapshot is one that can have a digest.
func there(list []admin.Snapshot, g block.Generation) bool {
	return slices.ContainsFunc(list, func(s admin.Snapshot) bool { return s.Generation == g && s.State == layout.SnapshotLive.String() })
}

// next returns the snapshot whose digest is to be computed next, and how long it is too
// young for that; nil: there is none.
func (b *Background) next(list []admin.Snapshot, now time.Time) (next *admin.Snapshot, wait time.Duration) {
	age := cmp.Or(b.Age, DefaultAge)
	young := func(s *admin.Snapshot) time.Duration { return min(max(age-now.Sub(s.Created), 0), age) }
	var newest block.Generation // of those with a digest
	for i := range list {
		if list[i].Digest {
			newest = max(newest, list[i].Generation)
		}
	}
	for i := range list { // from the oldest to the newest
		s := &list[i]
		if s.Parent != 0 || s.State != layout.SnapshotLive.String() || s.Lossy || s.Generation <= newest || b.tries[s.Generation] >= mostTries {
			continue
		}
		if next == nil || newest == 0 && young(s) == 0 {
			next = s
		}
	}
	if next != nil {
		wait = young(next)
	}
	return next, wait
}

// compute computes the digest of a snapshot.
func (b *Background) compute(ctx context.Context, s *admin.Snapshot) (err error) {
	content, err := b.Open(*s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, content.Close()) }()
	began := time.Now()
	defer b.say(admin.Digesting{})
	b.say(admin.Digesting{Snapshot: &s.Tag})
	res, err := Run(ctx, b.Manager, admin.Ref{Tag: s.Tag}, content, Options{
		Rate: cmp.Or(b.Rate, DefaultRate), generation: s.Generation,
		Progress: func(done, total uint64) { b.say(admin.Digesting{Snapshot: &s.Tag, Done: done, Leaves: total}) },
	})
	if err != nil {
		return fmt.Errorf("computing the digest of snapshot %d: %w", s.Tag, err)
	}
	b.Logger.Info("digest computed", "snapshot", s.Tag, "digest", res.Sum, "read", res.Read, "took", time.Since(began).Round(time.Millisecond))
	return nil
}

// trouble says that something does not go on, until a digest is begun.
func (b *Background) trouble(err error) {
	if b.Status().Trouble != err.Error() {
		b.Logger.Warn("a digest is not computed", "error", err)
	}
	b.say(admin.Digesting{Trouble: err.Error()})
}
