// SPDX-License-Identifier: Apache-2.0

// Package btree keeps sorted entries in copy-on-write B+trees of 4 KiB pages,
// with a bounded cache that several trees share.
//
// It owns the shape of the trees, which pages are in memory, and which are dirty:
// changed since the last checkpoint. It does not own the addresses of pages (the
// caller's allocator hands them out), their durability (the caller writes what
// [Tree.Checkpoint] hands over, and records the [Root]), nor the meaning of
// entries (a [Codec] does). The exception index, the slot map and the snapshot
// table are such trees. The coding of a page is package layout's.
//
// The caller serialises mutations of a tree, against each other and against
// lookups, with a lock of its own; lookups may run side by side. No operation
// does I/O under that lock: one that needs a page which is not in memory changes
// nothing and returns a [*Miss]. [Resolve] runs a function under the lock and, on
// a miss, reads the page without the lock and runs the function again. The two
// exceptions, which read by themselves, are [Tree.Ascend] and [Tree.Pages].
//
// A page that cannot be read or that is damaged fails the operation that needs
// it, with an error that wraps the device's error or layout.ErrCorrupt; the tree
// is unchanged. A failed checkpoint leaves all that was dirty dirty.
package btree
