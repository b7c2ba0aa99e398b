// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"time"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/store"
)

// EventQuery asks for the events after the one numbered Since, zero for all that the
// server remembers. With Wait, the answer comes when there is one, or is empty after
// some time.
type EventQuery struct {
	Since uint64 `json:"since"`
	Wait  bool   `json:"wait,omitempty"`
}

// Event is something that has happened to a store.
type Event struct {
	Number uint64     `json:"number"` // from 1 on, since the store was opened
	Time   time.Time  `json:"time"`
	Kind   string     `json:"kind"`
	Tag    *block.Tag `json:"tag,omitempty"` // of the snapshot, where it is about one
	Name   string     `json:"name,omitempty"`
	Group  string     `json:"group,omitempty"`
	Text   string     `json:"text,omitempty"`   // for people
	Missed uint64     `json:"missed,omitempty"` // events before this one that are forgotten
	Line   string     `json:"line"`             // all of it for people
}

// longestWait bounds how long a query for events waits.
const longestWait = 20 * time.Second

// events answers a query.
func (l Local) events(ctx context.Context, q *EventQuery) []Event {
	happened, end := l.Store.Subscribe(1)
	defer end()
	list := l.Store.Events(q.Since)
	if len(list) == 0 && q.Wait {
		patience := time.NewTimer(longestWait)
		defer patience.Stop()
		select {
		case <-happened:
		case <-ctx.Done():
		case <-patience.C:
		}
		list = l.Store.Events(q.Since)
	}
	events := make([]Event, len(list))
	for i, e := range list {
		events[i] = describeEvent(e)
	}
	return events
}

func describeEvent(e store.Event) Event {
	d := Event{Number: e.Number, Time: time.Unix(0, e.Time).UTC(), Kind: string(e.Kind), Name: e.Name, Text: e.Text, Missed: e.Missed, Line: e.String()}
	if e.Kind.OfSnapshot() {
		d.Tag = &e.Tag
	}
	if e.Group != (layout.UUID{}) {
		d.Group = e.Group.String()
	}
	return d
}
