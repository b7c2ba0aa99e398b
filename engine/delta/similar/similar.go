// SPDX-License-Identifier: Apache-2.0

// Package similar codes an extent as copies from anywhere in the base, and the
// rest as a zstd frame whose dictionary is what stands in the base where the
// copies end.
//
// It owns the [Index], which finds content in the base, the coders, and the
// payload. It does not decide what of the base is indexed: callers add what
// changed first, since what is rewritten resembles what it replaces, and as much
// more as they like. An Index is shared; coders are for one goroutine each. A
// decoder needs no index: a payload names each place of the base that it takes
// from, and each is checked against the base's size. Memory is bounded on both
// sides whatever the base's size or the payload.
//
// The payload, which is part of the format, must not change:
//
//	byte     flags: 1 the instructions are a zstd frame, 2 the rest is one
//	uvarint  number of copies
//	uvarint  bytes of the instructions as stored
//	uvarint  bytes of them when unpacked, with flag 1 only
//	...      instructions: for all copies the gap since the end of the copy before,
//	         then for all the length less 16, then for all the place
//	...      the rest: the content between the copies, to the end of the payload
//
// All three columns are uvarints. A place of 0 goes on where the copy before would
// be, had it gone on over the gap; 1 is the same place in the base as in the
// volume; anything else is 2 and the zigzag-coded distance from the former, in
// bytes. Before the first copy both are the same. The dictionary of the rest is
// described at the function dictionary.
package similar

import (
	"errors"
	"fmt"
	"io"
)

// ErrCorrupt says that a payload is none, or not one for this extent and base.
var ErrCorrupt = errors.New("corrupt payload")

// Base is the older content.
type Base interface {
	io.ReaderAt
	Size() int64 // bytes
}

const (
	flagPackedInstructions = 1
	flagPackedRest         = 2

	minCopy = 16 // bytes of the shortest copy; part of the format
)

// copyOp says that content[at:at+n] stands at from in the base.
type copyOp struct {
	at, n int
	from  int64
}

func (c copyOp) end() int { return c.at + c.n }

// span is bytes [from, to) of the base.
type span struct{ from, to int64 }

// readBase fills p with the base at from, which is inside of it.
func readBase(p []byte, from int64, base Base) error {
	if len(p) == 0 {
		return nil
	}
	if n, err := base.ReadAt(p, from); err != nil && !(err == io.EOF && n == len(p)) {
		return fmt.Errorf("reading %d bytes of the base at %d: %w", len(p), from, err)
	}
	return nil
}
