// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"errors"
	"fmt"
)

// ErrCorrupt is wrapped by every error about bytes that encoding could not have
// made, or that are not where they belong.
var ErrCorrupt = errors.New("corrupt")

// ErrVersion is wrapped when a structure is of a format that this program does
// not know.
var ErrVersion = errors.New("unknown format version")

// CorruptError says which structure is damaged and how. It wraps [ErrCorrupt].
type CorruptError struct {
	What   string // the structure, such as "page"
	Offset int64  // its byte offset on its device
	Reason string
	Got    any // nil when there is nothing to show
	Want   any
}

// Error names the structure, its place and what is wrong with it.
func (e *CorruptError) Error() string {
	s := fmt.Sprintf("%v: %s at byte %d: %s", ErrCorrupt, e.What, e.Offset, e.Reason)
	if e.Want != nil {
		s += fmt.Sprintf(": got %v, want %v", e.Got, e.Want)
	}
	return s
}

// Unwrap returns [ErrCorrupt].
func (e *CorruptError) Unwrap() error { return ErrCorrupt }
