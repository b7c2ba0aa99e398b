// SPDX-License-Identifier: Apache-2.0

// Package wire holds what a client on the data path and the metadata server say
// to each other.
//
// It owns the interface between them, as plain values that can be sent, and no
// behaviour. Package volume is the client; package server is the server in the
// client's own process. See the methods for who may call when.
package wire

import (
	"errors"

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

// ErrAway is wrapped when the server cannot be asked now: it has ended or stopped,
// or it waits for the origin's client. It may come back.
var ErrAway = errors.New("metadata server is away")

// Progress is how far an origin client has come that goes on with another server.
type Progress struct {
	UUID       layout.UUID
	Epoch      uint64
	Generation block.Generation // that it knows to be the origin's
	Position   layout.Position  // of the batch after its last durable one
	// Failed says that this batch was written and could not be made durable: the log may
	// have it. Otherwise it was not written.
	Failed bool
}

// Failure is a batch that an origin client could not make durable. It may be found in
// the log all the same, or not.
type Failure struct {
	Progress                  // Failed, and Position is the batch's own: it is the first one that is not durable
	Slots    []layout.SlotRun // that it was to be written to, its descriptor's first
	Reason   string           // for the user
}

// JournalRegion is where the journal of batches lies, in bytes: on the metadata
// device for placement disk, on its own medium for nvram and pmem.
type JournalRegion struct {
	Start, Size int64
}

// State is what the origin's client must know of the store to decide what a write
// needs.
type State struct {
	Generation block.Generation // the origin's current one
	Newest     block.Generation // of the newest live snapshot of the origin; zero when there is none
	Size       int64            // of the origin, in bytes
	// Largest is the size of the largest live snapshot of the origin, in bytes: what
	// begins there or beyond needs no copy-out. Zero: that is not known.
	Largest int64
	// Revoked says that all leases were taken back, the slot of the next descriptor
	// too. Only what the change of a Quiesce returns says so.
	Revoked bool
	// Restoring is the generation of the snapshot whose content the origin is
	// taking, or zero. Meanwhile the origin is read as MapRestoring says, and what
	// would change it waits. It is set, and cleared, only in the change of a Quiesce.
	Restoring block.Generation
	// Failed says that nothing can be copied out any more.
	Failed bool
}

// Batch is the report of a durable batch.
type Batch struct {
	*layout.Batch
	Head     block.Slot      // the descriptor's slot
	HasHead  bool            // of placement inline
	Position layout.Position // of the batch after it
}

// RestoreProgress is how far the origin's client has restored the origin.
type RestoreProgress struct {
	Generation block.Generation // State.Restoring
	Next       block.Chunk      // all chunks before it are restored, and durable
	Done       bool             // all chunks are
	Trouble    string           // why it does not go on, for the user; it will be tried again
	// Lost asks to leave the chunk Next as it is in the origin, since it cannot be read:
	// the answer is the chunk after it if the user allows that, else Next.
	Lost bool
}

// MappingKind says where the chunks of a mapping are.
type MappingKind uint8

// The kinds of mapping.
const (
	Stored MappingKind = iota // in slots
	Shared                    // with the origin, which is to be read
	Lost                      // nowhere: they cannot be read
)

// Mapping says where a snapshot's chunks are: Len chunks from Chunk on are all of
// one kind, and those that are stored in as many slots from Slot on.
type Mapping struct {
	Chunk block.Chunk
	Len   uint64
	Kind  MappingKind
	Owned bool       // stored chunks that the snapshot's client may overwrite in place
	Slot  block.Slot // only of stored ones
}

// Handle names an open snapshot in calls of its client.
type Handle uint64

// SnapshotState is what a snapshot's client must know to use it.
type SnapshotState struct {
	Generation block.Generation // that what is written now belongs to
	Size       int64            // in bytes
	Revoked    bool             // all leases were taken back; only what the change of a Quiesce returns says so
	Writable   bool             // it was opened for writing, and may be written to now
	Squashed   bool             // it was given up for space: it cannot be read
	// Remember says that mappings of stored and lost chunks hold until the next
	// Quiesce, or until the client itself writes there.
	Remember bool
}

// SnapshotSession is a snapshot that is open.
type SnapshotSession struct {
	Handle   Handle
	Snapshot layout.Snapshot
	State    SnapshotState
}

// SnapshotRef names a snapshot by its tag, or by its name if that is not empty.
type SnapshotRef struct {
	Tag  block.Tag
	Name string
}

// Server is the metadata server of one store. Its methods are safe for concurrent
// use, but reports must be made one after another, in the order of the batches.
type Server interface {
	// Attach makes c the store's origin client. A store has one at a time.
	Attach(c Client) (*Session, error)
	// Detach ends the client's session and takes its leases back.
	Detach() error
	// Lease gives the client up to want more slots. It returns an error that wraps
	// alloc.ErrNoSpace when there is none: see AwaitSpace. One that wraps
	// alloc.ErrLeases says that there can be more only after a Report.
	Lease(want uint64) ([]layout.SlotRun, error)
	// AwaitSpace returns when a client that was refused slots for want of space may
	// ask again, or with an error that wraps alloc.ErrNoSpace, as the store's policy
	// says. It may take long: the client must let the writes go that it could not do,
	// so that a Quiesce is not kept waiting, and do them anew after it. H is the
	// snapshot's that is written to, or zero for the origin.
	AwaitSpace(h Handle) error
	// Report says that a batch is durable. When it returns, snapshot reads find
	// the batch's chunks in their slots, and the batch's origin writes may go.
	// Records of the log before the position that it returns may be overwritten.
	Report(b Batch) (released layout.Position, err error)
	// Renew has the client go on after a batch that it could not make durable: in the
	// session that it returns, which has the same state and other leases, the batch's
	// chunks are to be read and written anew. As the store's policy says, it may take
	// long, and return an error; the client keeps nobody waiting meanwhile, and commits
	// nothing. After an error it may be called again.
	Renew(f Failure) (*Session, error)
	// Checkpoint waits for a checkpoint of all that was reported, so that the log
	// has room again.
	Checkpoint() (released layout.Position, err error)
	// Unsettled appends to dst the chunks of [first, end) that need a copy-out
	// before they may be overwritten.
	Unsettled(first, end block.Chunk, dst []block.Chunk) ([]block.Chunk, error)

	// MapRestoring appends to dst where the chunks [first, end) of the origin are to
	// be read while it is being restored: shared ones, which are as they are to be, from
	// the origin device. The answer holds until the next Quiesce. The generation is
	// State.Restoring, and the call an error when that has changed.
	MapRestoring(g block.Generation, first, end block.Chunk, dst []Mapping) ([]Mapping, error)
	// Restored takes in how far the origin was restored, and returns where to go on,
	// which is where to begin if p.Next is zero. An error says that nothing may be
	// restored now. When all is done it ends the restore, by a Quiesce that comes
	// before it returns.
	Restored(p RestoreProgress) (next block.Chunk, err error)

	// OpenSnapshot opens a snapshot for c, and keeps it from being deleted until
	// CloseSnapshot. At most one client at a time may write to it.
	OpenSnapshot(ref SnapshotRef, write bool, c SnapshotClient) (*SnapshotSession, error)
	CloseSnapshot(h Handle) error
	// Map appends to dst where the chunks [first, end) of the snapshot are. A shared
	// chunk is to be read from the origin, and its Map asked again after the read:
	// only what is still shared then was read in time.
	Map(h Handle, first, end block.Chunk, dst []Mapping) ([]Mapping, error)
	// LeaseBranch gives the snapshot's client up to want slots to write chunks to. It
	// returns an error that wraps alloc.ErrNoSpace when there is none.
	LeaseBranch(h Handle, want uint64) ([]layout.SlotRun, error)
	// ReportBranch says that chunks of the snapshot were written to leased slots,
	// in the generation g. When it returns, reads find them there.
	ReportBranch(h Handle, g block.Generation, copies []layout.Copy) error
	// SyncBranch makes durable all that was written to the snapshot: it flushes the
	// store device, and records where the chunks are that were reported.
	SyncBranch(h Handle) error
}

// Client is an origin client, as the server calls it.
type Client interface {
	// Quiesce waits until no origin write is under way, keeps new ones waiting,
	// runs change, and takes the state that it returns, with an error too: a
	// snapshot that could not be made for sure may exist all the same. The state may
	// have another size; requests beyond it fail from then on.
	Quiesce(change func() (State, error)) error
	// Update takes a new state. It does not wait for writes.
	Update(s State)
	// Settle copies out those of the chunks [first, end) that are not settled.
	Settle(first, end block.Chunk) error
}

// Resumer is an origin client that can outlive its server: while a call returns an
// error that wraps [ErrAway], it holds what needs that call.
type Resumer interface {
	Client
	// Resume waits for the batch under way, keeps the next one waiting, has again
	// tell the new server how far the client is, and goes on in the session that it
	// returns.
	Resume(again func(Progress) (*Session, error)) error
}

// Fitter is an origin client that knows its device.
type Fitter interface {
	Client
	// Fit returns an error that wraps block.ErrGeometry unless the device has as many
	// bytes as the origin is to have.
	Fit(size int64) error
}

// Restorer is an origin client that says whether it carries out restores; any other does.
type Restorer interface {
	Client
	Restores() bool
}

// SnapshotClient is the client of an open snapshot, as the server calls it.
type SnapshotClient interface {
	// Quiesce waits until no request is under way, keeps new ones waiting, runs
	// change, forgets all mappings, and takes the state that change returns.
	Quiesce(change func() (SnapshotState, error)) error
}
