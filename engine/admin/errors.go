// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"errors"

	"zumastor.org/zumastor/engine/alloc"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/store"
)

// Kind is what an error keeps across the socket. Part of the protocol.
type Kind string

// The kinds of error.
const (
	KindExists   Kind = "exists"      // store.ErrExists
	KindAbsent   Kind = "absent"      // store.ErrNoSnapshot
	KindInUse    Kind = "in-use"      // store.ErrInUse
	KindReadOnly Kind = "read-only"   // store.ErrReadOnly
	KindFailed   Kind = "failed"      // store.ErrFailed
	KindNoSpace  Kind = "no-space"    // alloc.ErrNoSpace
	KindCorrupt  Kind = "corrupt"     // layout.ErrCorrupt
	KindRequest  Kind = "bad-request" // ErrRequest
	KindOther    Kind = "other"
)

// ErrRequest is wrapped when a server does not understand a request.
var ErrRequest = errors.New("bad request")

// sentinel returns what errors.Is finds in an error of the kind, or nil.
func (k Kind) sentinel() error {
	switch k {
	case KindExists:
		return store.ErrExists
	case KindAbsent:
		return store.ErrNoSnapshot
	case KindInUse:
		return store.ErrInUse
	case KindReadOnly:
		return store.ErrReadOnly
	case KindFailed:
		return store.ErrFailed
	case KindNoSpace:
		return alloc.ErrNoSpace
	case KindCorrupt:
		return layout.ErrCorrupt
	case KindRequest:
		return ErrRequest
	}
	return nil
}

// KindOf returns the first kind, in the order of their declaration, that err is
// of.
func KindOf(err error) Kind {
	for _, k := range []Kind{
		KindExists, KindAbsent, KindInUse, KindReadOnly, KindFailed, KindNoSpace, KindCorrupt, KindRequest,
	} {
		if errors.Is(err, k.sentinel()) {
			return k
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
