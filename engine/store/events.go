// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

// EventKind says what has happened. Managers see it: the values must not change.
type EventKind string

// The kinds of event.
const (
	EventCreated   EventKind = "created"    // a snapshot
	EventDeleted   EventKind = "deleted"    // a snapshot, as a user wished
	EventDropped   EventKind = "dropped"    // a snapshot, for space
	EventSquashed  EventKind = "squashed"   // a snapshot that was in use or held, for space
	EventFill      EventKind = "fill"       // the store has become as full as Text says
	EventFull      EventKind = "full"       // a write of the origin found no space
	EventSpace     EventKind = "space"      // there is space again
	EventFailed    EventKind = "failed"     // the store takes no more changes
	EventTrouble   EventKind = "trouble"    // the devices take no writes; Text says what becomes of those that need a copy
	EventHealed    EventKind = "healed"     // they take writes again
	EventAside     EventKind = "aside"      // slots that could not be written are not used while others are free
	EventUsable    EventKind = "usable"     // slots that were set aside can be written again
	EventPolicy    EventKind = "policy"     // of a full store, was changed
	EventResized   EventKind = "resized"    // the origin or the store
	EventReverted  EventKind = "reverted"   // the origin, to a snapshot
	EventSkipped   EventKind = "skipped"    // a chunk of the snapshot that a restore is of: it cannot be read
	EventAbandoned EventKind = "abandoned"  // a restore, with the origin partly restored
	EventMerged    EventKind = "merged"     // a snapshot, into the origin
	EventScrub     EventKind = "scrub"      // a copied chunk is damaged
	EventAttached  EventKind = "attached"   // a client
	EventDetached  EventKind = "detached"   // a client
	EventLost      EventKind = "lost"       // a client, that is gone without a word
	EventLostChunk EventKind = "lost-chunk" // one that snapshots need could not be read
)

// Event is something that has happened to a store and that a manager of it should
// know of.
type Event struct {
	Number uint64 // counts the events since the store was opened, from 1
	Time   int64  // nanoseconds since 1970 UTC
	Kind   EventKind
	Tag    block.Tag   // of the snapshot, where it is about one
	Name   string      // likewise
	Group  layout.UUID // that the snapshot belongs to, or zero
	Text   string      // for people: why, how much
	// Missed counts the events before this one that whom it was sent to was too slow
	// to take.
	Missed uint64
}

// String returns the event in one line.
func (e Event) String() string {
	about := string(e.Kind)
	if e.Kind.OfSnapshot() {
		about += fmt.Sprintf(" snapshot %d", e.Tag)
	}
	if e.Name != "" {
		about += fmt.Sprintf(" %q", e.Name)
	}
	if e.Group != (layout.UUID{}) {
		about += fmt.Sprintf(" of group %v", e.Group)
	}
	if e.Text != "" {
		about += ": " + e.Text
	}
	return about
}

// OfSnapshot reports whether events of the kind are about one snapshot.
func (k EventKind) OfSnapshot() bool {
	switch k {
	case EventCreated, EventDeleted, EventDropped, EventSquashed, EventReverted, EventMerged, EventSkipped, EventAbandoned:
		return true
	}
	return false
}

// level returns how loud the event is logged.
func (k EventKind) level() slog.Level {
	switch k {
	case EventDropped, EventSquashed, EventFull, EventScrub, EventLostChunk, EventSkipped, EventAbandoned, EventLost, EventAside:
		return slog.LevelWarn
	case EventFailed, EventTrouble:
		return slog.LevelError
	}
	return slog.LevelInfo
}

// about returns an event about a snapshot.
func about(k EventKind, s layout.Snapshot, text string) Event {
	return Event{Kind: k, Tag: s.Tag, Name: s.Name, Group: s.Group, Text: text}
}

// keptEvents is how many events a store remembers.
const keptEvents = 256

// feed is a store's events and who is told of them. Its lock is the last that is
// taken, and held for no I/O.
type feed struct {
	mu     sync.Mutex
	last   uint64  // number of the last event
	kept   []Event // the last keptEvents of them, ascending
	subs   map[*subscription]struct{}
	closed bool
}

// subscription is one who is told of events.
type subscription struct {
	to     chan Event
	missed uint64
}

// emit tells everyone of an event, logs it and keeps it. It waits for nobody.
func (s *Store) emit(e Event) {
	e.Time = s.opts.Now()
	s.feed.send(&e)
	if log := s.opts.Logger; log != nil {
		log.LogAttrs(context.Background(), e.Kind.level(), e.String(), slog.Any("store", s.sb.UUID), slog.Uint64("event", e.Number))
	}
}

// send numbers an event, keeps it and hands it to who takes it at once.
func (f *feed) send(e *Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last++
	e.Number = f.last
	if len(f.kept) == keptEvents {
		f.kept = append(f.kept[:0], f.kept[1:]...)
	}
	f.kept = append(f.kept, *e)
	for sub := range f.subs {
		told := *e
		told.Missed = sub.missed
		select {
		case sub.to <- told:
			sub.missed = 0
		default:
			sub.missed++
		}
	}
}

// Subscribe returns a channel on which the store's events arrive from now on, and
// the end of the subscription, which may be called more than once. The channel is
// closed when the subscription or the store ends. The store does not wait for a
// subscriber: what finds buffer events waiting already is lost to it, and the next
// one that it gets says how many those were.
func (s *Store) Subscribe(buffer int) (events <-chan Event, cancel func()) {
	f := &s.feed
	sub := &subscription{to: make(chan Event, max(buffer, 1))}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		close(sub.to)
		return sub.to, func() {}
	}
	if f.subs == nil {
		f.subs = make(map[*subscription]struct{})
	}
	f.subs[sub] = struct{}{}
	return sub.to, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.end(sub)
	}
}

// end ends a subscription. The feed's lock is held.
func (f *feed) end(sub *subscription) {
	if _, ok := f.subs[sub]; ok {
		delete(f.subs, sub)
		close(sub.to)
	}
}

// close ends all subscriptions.
func (f *feed) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for sub := range f.subs {
		f.end(sub)
	}
}

// Events returns the events after the one numbered since, oldest first, as far as
// the store remembers them: Missed of the first says how many it has forgotten.
func (s *Store) Events(since uint64) []Event {
	f := &s.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	n := min(f.last-min(since, f.last), uint64(len(f.kept)))
	list := append([]Event(nil), f.kept[uint64(len(f.kept))-n:]...)
	if n > 0 {
		list[0].Missed = list[0].Number - since - 1
	}
	return list
}
