// SPDX-License-Identifier: Apache-2.0

// Package wire holds what a client on the data path and the metadata server say
// to each other.
//
// It owns the interface between them, as plain values that can be sent, and no
// behaviour. Package volume is the client, package server the server, in one
// process so far. See the methods for who may call when.
package wire

import (
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
)

// Session is what a client must know to work on a store.
type Session struct {
	UUID       layout.UUID
	Placement  layout.Placement
	Geometry   block.Geometry
	DataOffset int64  // of slot 0 on the store device, in bytes
	Slots      uint64 // of the data area
	Journal    JournalRegion
	Epoch      uint64          // of the batches that the client writes
	Position   layout.Position // of the first one
	Leases     []layout.SlotRun
	State      State
}

// JournalRegion is where the journal of batches lies, in bytes: on the metadata
// device for placement disk, on its own medium for nvram and pmem.
type JournalRegion struct {
	Start, Size int64
}

// State is what a client must know of the snapshots to decide whether a chunk is
// settled.
type State struct {
	Generation block.Generation // the origin's current one
	Newest     block.Generation // of the newest live snapshot; zero when there is none
}

// Mapping says where a snapshot's chunks are: Len chunks from Chunk on are in as
// many slots from Slot on, or still shared with the origin.
type Mapping struct {
	Chunk  block.Chunk
	Len    uint64
	Shared bool
	Slot   block.Slot // not if Shared
}

// Batch is the report of a durable batch.
type Batch struct {
	*layout.Batch
	Head     block.Slot      // the descriptor's slot
	HasHead  bool            // of placement inline
	Position layout.Position // of the batch after it
}

// Server is the metadata server of one store. Its methods are safe for concurrent
// use, but reports must be made one after another, in the order of the batches.
type Server interface {
	// Attach makes c the store's origin client. A store has one at a time.
	Attach(c Client) (*Session, error)
	// Detach ends the client's session and takes its leases back.
	Detach() error
	// Lease gives the client up to want more slots. It returns an error that wraps
	// alloc.ErrNoSpace when there is none, and one that wraps alloc.ErrLeases when
	// there can be more only after a Report.
	Lease(want uint64) ([]layout.SlotRun, error)
	// Report says that a batch is durable. When it returns, snapshot reads find
	// the batch's chunks in their slots, and the batch's origin writes may go.
	// Records of the log before the position that it returns may be overwritten.
	Report(b Batch) (released layout.Position, err error)
	// Checkpoint waits for a checkpoint of all that was reported, so that the log
	// has room again.
	Checkpoint() (released layout.Position, err error)
	// Unsettled appends to dst the chunks of [first, end) that need a copy-out
	// before they may be overwritten.
	Unsettled(first, end block.Chunk, dst []block.Chunk) ([]block.Chunk, error)

	// OpenSnapshot returns a snapshot by its tag and keeps it from being deleted
	// until CloseSnapshot.
	OpenSnapshot(tag block.Tag) (layout.Snapshot, error)
	CloseSnapshot(g block.Generation)
	// Map appends to dst where the chunks [first, end) of the snapshot of
	// generation g are. A shared chunk is to be read from the origin, and its
	// Map asked again after the read: only what is still shared then was read in
	// time.
	Map(g block.Generation, first, end block.Chunk, dst []Mapping) ([]Mapping, error)
}

// Client is an origin client, as the server calls it.
type Client interface {
	// Quiesce waits until no origin write is under way, keeps new ones waiting,
	// runs change, and takes the state that it returns, with an error too: a
	// snapshot that could not be made for sure may exist all the same.
	Quiesce(change func() (State, error)) error
	// Update takes a new state. It does not wait for writes.
	Update(s State)
}
