// SPDX-License-Identifier: Apache-2.0

// Package layout codes every structure that the engine keeps on a device; their
// pictures are in FORMAT.md.
//
// It owns byte order, offsets, magic numbers, versions and checksums. It does
// not own any meaning beyond one structure, and does no I/O. The store and the
// independent checker both call it: a structure is written and read by the same
// few lines. Everything here is a pure function, safe for concurrent use.
// Decoding judges bytes that may come from anywhere: it never panics, bounds
// what it allocates by what it was given, and returns an error wrapping
// [ErrCorrupt] on anything that encoding could not have made.
package layout
