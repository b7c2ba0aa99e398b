// SPDX-License-Identifier: Apache-2.0

// Package fault says what an error is to the other side of a connection.
//
// It owns the codes of errors that programs decide on, and nothing else: package wire
// codes them, the server sends them, the client makes errors of them again that wrap
// the same sentinels. All of it may be used concurrently, and nothing fails: an error
// that has no code of its own is sent as [Other], with its text.
package fault

import (
	"context"
	"errors"

	"zumastor.org/zumastor/engine/alloc"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/wire"
)

// ErrDenied is wrapped when a client may not do what it asks for.
var ErrDenied = errors.New("permission denied")

// The codes. Part of the protocol, must not change.
const (
	Other wire.Code = 1 + iota
	Protocol
	Denied
	Away
	Stale
	NoSpace
	Leases
	NoSnapshot
	Exists
	InUse
	ReadOnly
	Failed
	Attached
	Held
	HasSnapshots
	Squashed
	Name
	NoGroup
	Geometry
	Corrupt
	Closed
	Canceled
	Restoring
	Size
	Damaged
	Resizing
	TooSmall
	NoOrigin
)

// sentinels are what errors of a code wrap. Of an error that wraps several, the first
// counts.
var sentinels = []struct {
	code wire.Code
	err  error
}{
	{Protocol, wire.ErrProtocol},
	{Denied, ErrDenied},
	{Away, wire.ErrAway},
	{Stale, store.ErrStale},
	{NoSpace, alloc.ErrNoSpace},
	{Leases, alloc.ErrLeases},
	{NoSnapshot, store.ErrNoSnapshot},
	{Exists, store.ErrExists},
	{InUse, store.ErrInUse},
	{ReadOnly, store.ErrReadOnly},
	{Failed, store.ErrFailed},
	{Attached, store.ErrAttached},
	{Held, store.ErrHeld},
	{HasSnapshots, store.ErrHasSnapshots},
	{Squashed, store.ErrSquashed},
	{Name, store.ErrName},
	{NoGroup, store.ErrNoGroup},
	{Geometry, block.ErrGeometry},
	{Corrupt, layout.ErrCorrupt},
	{Closed, device.ErrClosed},
	{Canceled, context.Canceled},
	{Restoring, store.ErrRestoring},
	{Size, store.ErrSize},
	{Damaged, store.ErrDamaged},
	{Resizing, store.ErrResizing},
	{TooSmall, store.ErrTooSmall},
	{NoOrigin, store.ErrNoOrigin},
}

// From returns what is sent of an error.
func From(err error) wire.Fault {
	f := wire.Fault{Code: Other, Text: err.Error()}
	for _, s := range sentinels {
		if errors.Is(err, s.err) {
			f.Code = s.code
			break
		}
	}
	return f
}

// Error is an error of the other side. It wraps the sentinel of its code.
type Error struct{ wire.Fault }

// Error returns the text as it was sent.
func (e *Error) Error() string { return e.Text }

// Unwrap returns the sentinel, or nil.
func (e *Error) Unwrap() error {
	for _, s := range sentinels {
		if s.code == e.Code {
			return s.err
		}
	}
	return nil
}

// Err returns the error that f was made from, as far as it was sent.
func Err(f wire.Fault) error { return &Error{f} }
