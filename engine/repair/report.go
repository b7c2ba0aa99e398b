// SPDX-License-Identifier: Apache-2.0

package repair

import "zumastor.org/zumastor/engine/layout"

// Report says what a repair found and what became of it.
type Report struct {
	Old, New     layout.UUID // New is zero in a plan
	Checkpoint   uint64      // that was gone by; zero if no superblock was left
	Guessed      bool        // sizes and regions are not from a superblock
	LostPages    uint64      // tree pages that were to be there
	Orphans      uint64      // tree pages used that no parent was left for
	Batches      uint64      // records of the logs
	Exceptions   uint64      // in the new store, lost ones included
	Lost         uint64      // of them, reading which is an error
	Dropped      uint64      // finds that no snapshot needs, or that were not true any more
	Snapshots    []SnapshotReport
	LostSnapshot []layout.Snapshot // that were found, but cannot be read without what they are snapshots of
	Problems     []string          // at most 1000
}

// SnapshotReport says what became of a snapshot.
type SnapshotReport struct {
	layout.Snapshot
	Exceptions uint64 // of its own branch or its origin's, that it reads
	Lost       uint64 // of them, reading which is an error
}

// Whole reports whether the new store has all that the old one had.
func (r *Report) Whole() bool {
	damaged := false
	for _, s := range r.Snapshots {
		damaged = damaged || s.Damaged
	}
	return !damaged && r.Lost == 0 && len(r.LostSnapshot) == 0
}
