// SPDX-License-Identifier: Apache-2.0

// Package exception is the index of what snapshots preserve: which slot holds a
// chunk as it was in a generation, and which chunks were copied out in one.
//
// It owns the two trees that answer these questions and keeps them each other's
// mirror. It does not own slots, snapshots or the rule of when an exception is
// needed; the store does, and is its only caller. The store's lock serialises
// all calls. Every call may return a *btree.Miss instead of reading a page and
// is then to be made again, whole: a call that was cut short so has changed
// nothing that making it again would not.
package exception

import (
	"math"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/btree"
	"zumastor.org/zumastor/engine/layout"
)

// Index is the exceptions of a store, by chunk and by generation.
type Index struct {
	Exceptions *btree.Tree[layout.Exception]
	Changes    *btree.Tree[layout.Change]
}

// Insert adds e. Inserting the same chunk and generation again replaces it.
func (x *Index) Insert(e layout.Exception) error {
	if _, err := x.Changes.Insert(change(e)); err != nil {
		return err
	}
	_, err := x.Exceptions.Insert(e)
	return err
}

func change(e layout.Exception) layout.Change {
	return layout.Change{Branch: e.Branch, Generation: e.Generation, Chunk: e.Chunk}
}

// At returns the exception that serves a snapshot of generation g for chunk c:
// the first whose generation is not below g. There is none where the snapshot
// still shares the chunk with its origin.
func (x *Index) At(b block.Branch, c block.Chunk, g block.Generation) (layout.Exception, bool, error) {
	e, ok, err := x.Exceptions.Ceiling(layout.Exception{Branch: b, Chunk: c, Generation: g})
	return e, ok && e.Branch == b && e.Chunk == c, err
}

// Newest returns c's newest exception.
func (x *Index) Newest(b block.Branch, c block.Chunk) (layout.Exception, bool, error) {
	e, ok, err := x.Exceptions.Floor(layout.Exception{Branch: b, Chunk: c, Generation: math.MaxUint64})
	return e, ok && e.Branch == b && e.Chunk == c, err
}

// Before returns the generation of the newest exception of c that is older than
// g, or zero: with g an exception's generation, the exclusive lower end of the
// generations that it serves.
func (x *Index) Before(b block.Branch, c block.Chunk, g block.Generation) (block.Generation, error) {
	if g == 0 {
		return 0, nil
	}
	e, ok, err := x.Exceptions.Floor(layout.Exception{Branch: b, Chunk: c, Generation: g - 1})
	if !ok || e.Branch != b || e.Chunk != c {
		return 0, err
	}
	return e.Generation, err
}
