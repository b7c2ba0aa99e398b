// SPDX-License-Identifier: Apache-2.0

package store

import (
	"math/bits"
	"slices"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

// Status describes a store.
type Status struct {
	UUID       layout.UUID
	Placement  layout.Placement
	ChunkSize  int
	OriginSize int64
	Created    int64 // nanoseconds since 1970 UTC
	Generation block.Generation
	Mode       Mode

	Slots          uint64 // in all
	SlotsUsed      uint64 // by exceptions and descriptors
	SlotsLeased    uint64
	SlotsWaiting   uint64 // freed, but not yet free to be leased
	Exceptions     uint64
	MetadataPages  uint64 // in all
	MetadataUsed   uint64 // pages
	MetadataBytes  uint64 // bytes of tree pages in use
	CacheBytes     int64  // of metadata in memory
	Checkpoint     uint64 // number of the last one
	UnsavedBytes   int64  // copied since
	SnapshotsLive  int
	SnapshotsGoing int // deleted, but not yet freed
}

// Mode says which changes a store takes. Modes only ever rise.
type Mode uint8

// The modes.
const (
	ReadWrite Mode = iota
	ReadOnly
	Failed
)

// String returns the mode's name.
func (m Mode) String() string { return [...]string{"read-write", "read-only", "failed"}[m] }

// Status returns the store's status. It reads nothing from the devices.
func (s *Store) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	leased := uint64(0)
	for _, r := range s.slots.Leases() {
		leased += r.Len
	}
	st := Status{
		UUID: s.sb.UUID, Placement: s.sb.Placement, ChunkSize: s.geo.ChunkSize(), OriginSize: s.geo.Size(),
		Created: s.sb.Created, Generation: s.sb.Generation,
		Slots: s.slots.Total(), SlotsUsed: s.slots.Used(), SlotsLeased: leased, SlotsWaiting: s.slots.Waiting(),
		Exceptions:    s.index.Exceptions.Len(),
		MetadataPages: s.sb.TreePages.Len, MetadataUsed: s.pages.Used(), MetadataBytes: s.pages.Used() * block.PageSize,
		CacheBytes: s.cache.Bytes(), Checkpoint: s.sb.Checkpoint, UnsavedBytes: s.copied,
		SnapshotsLive: len(s.snaps.live), SnapshotsGoing: len(s.snaps.all) - len(s.snaps.live),
	}
	switch {
	case s.failed.Load() != nil:
		st.Mode = Failed
	case s.opts.ReadOnly:
		st.Mode = ReadOnly
	}
	return st
}

// SnapshotInfo is a snapshot and how many users it has.
type SnapshotInfo struct {
	layout.Snapshot
	Users int
}

// Snapshots returns the live snapshots, oldest first.
func (s *Store) Snapshots() []SnapshotInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []SnapshotInfo
	for _, snap := range s.snaps.all {
		if snap.State == layout.SnapshotLive {
			list = append(list, SnapshotInfo{snap.Snapshot, snap.users})
		}
	}
	return list
}

// SharingClasses is the number of columns of the sharing table.
const SharingClasses = 8

// Sharing says how the exceptions that a snapshot reads are shared: Chunks[0] is
// those that it reads alone, Chunks[1] those it shares with one other snapshot,
// Chunks[k] those that 2^(k-1)+1 to 2^k snapshots read, and the last column all
// that more read.
type Sharing struct {
	layout.Snapshot
	Chunks [SharingClasses]uint64
	Total  uint64
}

// Sharing returns the sharing table, a row for each live snapshot, oldest first.
// It scans all exceptions in steps, while changes go on: the rows are of
// slightly different times.
func (s *Store) Sharing() ([]Sharing, error) {
	s.mu.Lock()
	live := slices.Clone(s.snaps.live)
	rows := make([]Sharing, len(live))
	for i, g := range live {
		at, _ := s.snaps.find(g)
		rows[i].Snapshot = s.snaps.all[at].Snapshot
	}
	s.mu.Unlock()

	// An exception serves neighbouring rows, so its ends are counted: up at the
	// first row, down after the last.
	ends := make([][SharingClasses]int64, len(live)+1)
	var prev layout.Exception
	err := s.scanExceptions(func(e layout.Exception) {
		after := block.Generation(0)
		if prev.Branch == e.Branch && prev.Chunk == e.Chunk {
			after = prev.Generation
		}
		prev = e
		first, _ := slices.BinarySearch(live, after+1)
		end, _ := slices.BinarySearch(live, e.Generation+1)
		if first >= end {
			return
		}
		class := min(bits.Len(uint(end-first-1)), SharingClasses-1)
		ends[first][class]++
		ends[end][class]--
	})
	var sum [SharingClasses]int64
	for i := range rows {
		for k := range sum {
			sum[k] += ends[i][k]
			rows[i].Chunks[k] = uint64(sum[k])
			rows[i].Total += uint64(sum[k])
		}
	}
	return rows, err
}

// scanStep is how many entries a scan reads under one holding of the lock.
const scanStep = 512

// scanExceptions calls fn for all exceptions of the origin in order.
func (s *Store) scanExceptions(fn func(layout.Exception)) error {
	var from layout.Exception
	batch := make([]layout.Exception, 0, scanStep)
	for {
		err := s.resolve(func() (err error) {
			batch, err = s.index.Exceptions.Scan(from, scanStep, batch[:0])
			return err
		})
		if err != nil {
			return err
		}
		for _, e := range batch {
			fn(e)
		}
		if len(batch) < scanStep {
			return nil
		}
		from = batch[len(batch)-1]
		from.Generation++
	}
}
