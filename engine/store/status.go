// SPDX-License-Identifier: Apache-2.0

package store

import (
	"math"
	"math/bits"
	"slices"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/wire"
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
	Digests        uint64 // sums that are kept of snapshots' content
	MetadataPages  uint64 // in all
	MetadataUsed   uint64 // pages
	MetadataBytes  uint64 // bytes of tree pages in use
	CacheBytes     int64  // of metadata in memory
	Checkpoint     uint64 // number of the last one
	UnsavedBytes   int64  // copied since
	SnapshotsLive  int
	SnapshotsGoing int // deleted or squashed, but not yet freed
	// SnapshotsDigested are those that the store has a digest of.
	SnapshotsDigested int

	Restore *RestoreStatus // of the origin; nil: none is under way

	Policy       layout.Policy // of a full store
	Trouble      string        // why the devices take no writes; empty: they do
	SlotsAside   uint64        // that could not be written
	AsideSince   int64         // when the first of them was found, nanoseconds since 1970 UTC; 0: there are none
	LostCount    uint64        // chunks that were lost since the store was opened
	LostChunks   []LostChunk   // the last of them, at most MaxLostChunks
	Full         bool          // a client has found no space
	Fill         Fill          // of the data area
	MetadataFill Fill          // full when no more snapshots are made
	Counters
}

// Counters count what clients have done since the store was opened.
type Counters struct {
	Batches uint64 // reported
	Copies  uint64 // chunks of the origin copied out in them
	Written uint64 // chunks of snapshots given slots of their own
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
		UUID: s.sb.UUID, Placement: s.sb.Placement, ChunkSize: s.geo.ChunkSize(), OriginSize: s.sb.OriginSize,
		Created: s.sb.Created, Generation: s.sb.Generation,
		Slots: s.slots.Total(), SlotsUsed: s.slots.Used(), SlotsLeased: leased, SlotsWaiting: s.slots.Waiting(),
		Exceptions:    s.index.Exceptions.Len(),
		Digests:       s.digests.tree.Len(),
		MetadataPages: s.pages.Total(), MetadataUsed: s.pages.Used(), MetadataBytes: s.pages.Used() * block.PageSize,
		CacheBytes: s.cache.Bytes(), Checkpoint: s.sb.Checkpoint, UnsavedBytes: s.copied,
		SnapshotsDigested: s.digested(),
		SnapshotsLive:     s.snaps.readable(), SnapshotsGoing: s.snaps.reclaiming, Restore: s.restoreStatus(),
		Policy: s.sb.Policy, Full: s.full, Fill: s.fill(), MetadataFill: s.metadataFill(),
		Counters: s.count, SlotsAside: length(s.aside.runs),
		LostCount: s.lost.count, LostChunks: slices.Clone(s.lost.chunks),
	}
	if st.SlotsAside > 0 {
		st.AsideSince = s.aside.since
	}
	if why := s.distress.Load(); s.aside.lack {
		st.Trouble = s.lackReason().Error()
	} else if why != nil {
		st.Trouble = (*why).Error()
	}
	switch {
	case s.failed.Load() != nil:
		st.Mode = Failed
	case s.opts.ReadOnly:
		st.Mode = ReadOnly
	}
	return st
}

// SnapshotInfo is a snapshot and who uses it.
type SnapshotInfo struct {
	layout.Snapshot
	Users   int  // clients that have it open
	Writer  bool // one of them may write to it
	Written bool // it was written to, as far as the store has had to look
	Digest  bool // the store has its digest
}

// Snapshots returns the snapshots that were not deleted, oldest first.
func (s *Store) Snapshots() []SnapshotInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []SnapshotInfo
	for _, snap := range s.snaps.all {
		if snap.listed() {
			list = append(list, s.info(snap))
		}
	}
	return list
}

// Find returns a snapshot that was not deleted. The error wraps [ErrNoSnapshot].
func (s *Store) Find(ref wire.SnapshotRef) (SnapshotInfo, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	snap, err := s.listed(ref)
	if err != nil {
		return SnapshotInfo{}, err
	}
	return s.info(snap), nil
}

// info describes a snapshot. The lock is held.
func (s *Store) info(snap *snapshot) SnapshotInfo {
	return SnapshotInfo{
		Snapshot: snap.Snapshot, Users: len(snap.opened), Writer: snap.writer() != nil, Written: snap.written == some,
		Digest: snap.Parent == 0 && snap.written != some && s.digests.has(snap.Generation),
	}
}

// SharingClasses is the number of columns of the sharing table.
const SharingClasses = 8

// Sharing says how the exceptions that a snapshot reads are shared: Chunks[0] is
// those that it reads alone, Chunks[1] those it shares with one other snapshot,
// Chunks[k] those that 2^(k-1)+1 to 2^k snapshots read, and the last column all
// that more read. Of a snapshot of a snapshot, only what was written to it since is
// counted, and not what it shares with its parent.
type Sharing struct {
	layout.Snapshot
	Chunks [SharingClasses]uint64
	Total  uint64
}

// Sharing returns the sharing table, a row for each snapshot that can be read,
// oldest first. It scans all exceptions in steps, while changes go on: the rows are
// of slightly different times.
func (s *Store) Sharing() ([]Sharing, error) {
	c := s.newSharingCount()
	var prev layout.Exception
	err := s.scanExceptions(func(e layout.Exception) {
		same := prev.Branch == e.Branch && prev.Chunk == e.Chunk
		switch {
		case e.Branch == 0 && same:
			c.add(0, prev.Generation, e.Generation, false)
		case e.Branch == 0:
			c.add(0, 0, e.Generation, false)
		case same:
			c.add(e.Branch, prev.Generation, e.Generation, false)
		}
		if prev.Branch != 0 && !same {
			c.add(prev.Branch, prev.Generation, math.MaxUint64, true)
		}
		prev = e
	})
	if prev.Branch != 0 {
		c.add(prev.Branch, prev.Generation, math.MaxUint64, true)
	}
	return c.table(), err
}

// sharingCount counts who reads each exception.
type sharingCount struct {
	rows []Sharing
	row  map[block.Generation]int
	live map[block.Branch][]block.Generation
	// ends counts the origin's exceptions, each of which serves neighbouring
	// snapshots of the origin: up at the first, down after the last.
	ends [][SharingClasses]int64
}

func (s *Store) newSharingCount() *sharingCount {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &sharingCount{row: make(map[block.Generation]int), live: make(map[block.Branch][]block.Generation)}
	for b, live := range s.snaps.live {
		c.live[b] = slices.Clone(live)
	}
	for _, snap := range s.snaps.all {
		if snap.readable() {
			c.row[snap.Generation] = len(c.rows)
			c.rows = append(c.rows, Sharing{Snapshot: snap.Snapshot})
		}
	}
	c.ends = make([][SharingClasses]int64, len(c.live[0])+1)
	return c
}

// add counts an exception that serves the snapshots of a branch in (after, upTo],
// and, if head, the branch itself.
func (c *sharingCount) add(b block.Branch, after, upTo block.Generation, head bool) {
	live := c.live[b]
	first, _ := slices.BinarySearch(live, after+1)
	end := len(live)
	if upTo != math.MaxUint64 {
		end, _ = slices.BinarySearch(live, upTo+1)
	}
	readers := max(end-first, 0)
	if head {
		readers++
	}
	if readers == 0 {
		return
	}
	class := min(bits.Len(uint(readers-1)), SharingClasses-1)
	if b == 0 {
		c.ends[first][class]++
		c.ends[end][class]--
		return
	}
	for _, g := range live[first:max(first, end)] {
		c.rows[c.row[g]].count(class, 1)
	}
	if i, ok := c.row[block.Generation(b)]; ok && head {
		c.rows[i].count(class, 1)
	}
}

func (r *Sharing) count(class int, n uint64) {
	r.Chunks[class] += n
	r.Total += n
}

// table returns the rows, those of the origin's snapshots summed up.
func (c *sharingCount) table() []Sharing {
	var sum [SharingClasses]int64
	for i, g := range c.live[0] {
		for k := range sum {
			sum[k] += c.ends[i][k]
			c.rows[c.row[g]].count(k, uint64(sum[k]))
		}
	}
	return c.rows
}

// scanStep is how many entries a scan reads under one holding of the lock.
const scanStep = 512

// scanExceptions calls fn for all exceptions in order.
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
