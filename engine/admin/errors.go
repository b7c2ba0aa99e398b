// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"errors"

	"zumastor.org/zumastor/engine/alloc"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/store"
)

// Kind is what an error keeps across the socket. Part of the protocol.
type Kind string

// The kinds of error.
const (
	KindExists   Kind = "exists"        // store.ErrExists
	KindAbsent   Kind = "absent"        // store.ErrNoSnapshot
	KindInUse    Kind = "in-use"        // store.ErrInUse
	KindHeld     Kind = "held"          // store.ErrHeld
	KindParent   Kind = "parent"        // store.ErrHasSnapshots
	KindSquashed Kind = "squashed"      // store.ErrSquashed
	KindNoGroup  Kind = "no-group"      // store.ErrNoGroup
	KindName     Kind = "bad-name"      // store.ErrName
	KindRestore  Kind = "restoring"     // store.ErrRestoring
	KindApplying Kind = "applying"      // store.ErrApplying
	KindResizing Kind = "resizing"      // store.ErrResizing
	KindSmall    Kind = "too-small"     // store.ErrTooSmall
	KindGeometry Kind = "geometry"      // block.ErrGeometry
	KindSize     Kind = "size"          // store.ErrSize
	KindDamaged  Kind = "damaged"       // store.ErrDamaged
	KindReadOnly Kind = "read-only"     // store.ErrReadOnly
	KindFailed   Kind = "failed"        // store.ErrFailed
	KindNoSpace  Kind = "no-space"      // alloc.ErrNoSpace
	KindCorrupt  Kind = "corrupt"       // layout.ErrCorrupt
	KindRequest  Kind = "bad-request"   // ErrRequest
	KindIdle     Kind = "not-restoring" // store.ErrNotRestoring
	KindNoDigest Kind = "no-digest"     // store.ErrNoDigest
	KindWritten  Kind = "written"       // store.ErrWritten
	KindOther    Kind = "other"
)

// ErrRequest is wrapped when a server does not understand a request.
var ErrRequest = errors.New("bad request")

// kinds are the kinds with what errors.Is finds in an error of each, in the order
// in which an error is looked at.
var kinds = []struct {
	kind Kind
	err  error
}{
	{KindExists, store.ErrExists}, {KindAbsent, store.ErrNoSnapshot}, {KindInUse, store.ErrInUse}, {KindHeld, store.ErrHeld},
	{KindParent, store.ErrHasSnapshots}, {KindSquashed, store.ErrSquashed}, {KindName, store.ErrName}, {KindNoGroup, store.ErrNoGroup},
	{KindRestore, store.ErrRestoring}, {KindIdle, store.ErrNotRestoring}, {KindApplying, store.ErrApplying}, {KindSize, store.ErrSize}, {KindDamaged, store.ErrDamaged},
	{KindResizing, store.ErrResizing}, {KindSmall, store.ErrTooSmall}, {KindGeometry, block.ErrGeometry},
	{KindReadOnly, store.ErrReadOnly}, {KindFailed, store.ErrFailed}, {KindNoSpace, alloc.ErrNoSpace},
	{KindCorrupt, layout.ErrCorrupt}, {KindRequest, ErrRequest},
	{KindNoDigest, store.ErrNoDigest}, {KindWritten, store.ErrWritten},
}

// sentinel returns what errors.Is finds in an error of the kind, or nil.
func (k Kind) sentinel() error {
	for _, c := range kinds {
		if c.kind == k {
			return c.err
		}
	}
	return nil
}

// KindOf returns the first kind that err is of.
func KindOf(err error) Kind {
	for _, c := range kinds {
		if errors.Is(err, c.err) {
			return c.kind
		}
	}
	return KindOther
}

// Error is an error that a server answered with.
type Error struct {
	Kind Kind   `json:"kind"`
	Text string `json:"text"`
}

// Error returns the text that the error had in the server.
func (e *Error) Error() string { return e.Text }

// Unwrap returns the sentinel error of e's kind.
func (e *Error) Unwrap() error { return e.Kind.sentinel() }
