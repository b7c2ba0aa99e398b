// SPDX-License-Identifier: Apache-2.0

// Package admin is what can be asked of a store beside its data: to make, change
// and delete its snapshots, and to describe it; in this process, or through the
// control socket of the one that has it open.
//
// It owns [Request] and [Response], whose values are also what commands print as
// JSON, and the socket on which each is a line. It does not own the data path, nor
// stores: a [Local] works on one that is open, and whoever opened it closes it,
// when no [Server] serves it any more. Command ddsnap calls it, on both ends.
// Managers and Servers are safe for concurrent use. An error keeps its [Kind], and
// what errors.Is says of it, across the socket; a client that breaks the protocol
// loses its connection and nothing else.
package admin

import (
	"context"
	"time"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/store"
)

// Manager carries out requests on one store.
type Manager interface {
	// Do does what r asks for. What it has changed is durable when it returns.
	Do(ctx context.Context, r Request) (Response, error)
}

// Snapshot describes a snapshot that was not deleted.
type Snapshot struct {
	Tag        block.Tag        `json:"tag"`
	Name       string           `json:"name,omitempty"`
	Generation block.Generation `json:"generation"`
	Parent     block.Generation `json:"parent_generation,omitempty"` // of the snapshot that it is one of; zero: the origin
	State      string           `json:"state"`                       // live, squashed or prepared
	Held       bool             `json:"held,omitempty"`
	Damaged    bool             `json:"damaged,omitempty"`
	Lossy      bool             `json:"lossy,omitempty"` // chunks of it are known to be lost
	Priority   int8             `json:"priority"`
	UseCount   uint32           `json:"use_count"`
	Group      string           `json:"group,omitempty"` // its UUID
	GroupSize  int              `json:"group_size,omitempty"`
	Created    time.Time        `json:"created"`
	Size       int64            `json:"size_bytes"`
	Source     *Source          `json:"source,omitempty"`        // that it is a copy of
	Applying   string           `json:"applying,omitempty"`      // the delta by which the origin is being made a newer state
	Applied    int64            `json:"applied_bytes,omitempty"` // offset up to which the origin durably holds what that makes
	Readers    int              `json:"readers"`                 // clients that have it open
	Writer     bool             `json:"writer,omitempty"`        // one of them may write
	Digest     bool             `json:"digest,omitempty"`        // the store has its digest
}

// Status describes a store. What needs no unit in its name counts things.
type Status struct {
	UUID          string           `json:"uuid"`
	Created       time.Time        `json:"created"`
	Mode          string           `json:"mode"`
	Placement     string           `json:"placement"`
	Policy        string           `json:"policy"`
	OriginSize    int64            `json:"origin_size_bytes"`
	ChunkSize     int              `json:"chunk_size_bytes"`
	Generation    block.Generation `json:"generation"`
	Snapshots     int              `json:"snapshots"`
	BeingFreed    int              `json:"snapshots_being_freed"`
	Digested      int              `json:"snapshots_with_digest"`
	Digesting     *Digesting       `json:"digesting,omitempty"` // of a server that computes digests in the background
	Exceptions    uint64           `json:"exceptions"`
	Slots         uint64           `json:"slots"`
	SlotsUsed     uint64           `json:"slots_used"`
	SlotsLeased   uint64           `json:"slots_leased"`
	SlotsWaiting  uint64           `json:"slots_waiting"` // freed, and free after the next checkpoint
	MetadataPages uint64           `json:"metadata_pages"`
	MetadataUsed  uint64           `json:"metadata_pages_used"`
	CacheBytes    int64            `json:"cache_bytes"`
	Checkpoint    uint64           `json:"checkpoint"`
	UnsavedBytes  int64            `json:"copied_since_checkpoint_bytes"`
	FormatVersion int              `json:"format_version"`
	Batches       uint64           `json:"batches"`                     // since the store was opened
	Copied        uint64           `json:"copied_chunks"`               // in them
	Written       uint64           `json:"written_chunks"`              // of snapshots
	Trouble       string           `json:"trouble,omitempty"`           // why the store's devices take no writes
	SlotsAside    uint64           `json:"slots_aside,omitempty"`       // that could not be written
	AsideSince    *time.Time       `json:"slots_aside_since,omitempty"` // when the first of them was found
	LostCount     uint64           `json:"lost_chunks,omitempty"`       // of the origin, that could not be copied out since the store was opened
	Lost          []LostChunk      `json:"lost,omitempty"`              // the last of them
	Full          bool             `json:"full"`                        // a client has found no space
	FullIn        *float64         `json:"full_in_seconds,omitempty"`   // as it has been filling lately
	Restore       *Restore         `json:"restore,omitempty"`           // of the origin, that is under way
	Devices       []Device         `json:"devices,omitempty"`           // that volumes are attached as
	Volume        *Volume          `json:"volume,omitempty"`            // what the volume served, if it is known
	DataOffset    int64            `json:"data_offset_bytes,omitempty"` // of slot 0 on the store device
	Kernel        *Kernel          `json:"kernel,omitempty"`            // of a server that serves the kernel's targets
}

// Digesting is what the computation of digests in the background does.
type Digesting struct {
	Snapshot *block.Tag `json:"snapshot,omitempty"` // whose digest is being computed; nil: of none
	Done     uint64     `json:"leaves_done,omitempty"`
	Leaves   uint64     `json:"leaves,omitempty"`
	Trouble  string     `json:"trouble,omitempty"` // why the last one was not computed
}

// LostChunk is a chunk of the origin that could not be read when it was to be
// preserved. The snapshots return an error where they need it.
type LostChunk struct {
	Chunk     block.Chunk `json:"chunk"`
	Snapshots []block.Tag `json:"snapshots"`
	More      int         `json:"more_snapshots,omitempty"`
}

// Restore is a revert or merge that is under way: the origin reads as the snapshot,
// and what differs is being copied.
type Restore struct {
	Snapshot block.Tag `json:"snapshot"`
	Merge    bool      `json:"merge"` // the snapshot is deleted in the end
	Done     uint64    `json:"chunks_done"`
	Chunks   uint64    `json:"chunks"`
	Trouble  string    `json:"trouble,omitempty"` // why it does not go on
	SkipLost bool      `json:"skip_lost,omitempty"`
	Skipped  uint64    `json:"chunks_skipped,omitempty"` // that stay as they were
}

// Volume counts what a volume has served since it was opened.
type Volume struct {
	Reads        uint64 `json:"reads"`
	Writes       uint64 `json:"writes"`
	ReadBytes    uint64 `json:"read_bytes"`
	WrittenBytes uint64 `json:"written_bytes"`
	// Origin is the device of a volume in another process than the store's server; nil
	// where they are one.
	Origin *OriginFile `json:"origin,omitempty"`
}

// OriginFile says on which file or block device a volume's origin is.
type OriginFile struct {
	Path string `json:"path"` // absolute, of the volume's process
	device.Identity
}

// Sharing says with how many others a snapshot shares the chunks that were copied
// for it: Chunks[0] with none, Chunks[1] with one, Chunks[k] with 2^(k-1) to
// 2^k-1, and the last column with more than that.
type Sharing struct {
	Tag    block.Tag `json:"tag"`
	Chunks []uint64  `json:"chunks_by_class"`
	Total  uint64    `json:"chunks"`
}

func describe(s store.SnapshotInfo) Snapshot {
	d := Snapshot{
		Tag: s.Tag, Name: s.Name, Generation: s.Generation, Parent: block.Generation(s.Parent), State: s.State.String(),
		Held: s.Held, Damaged: s.Damaged, Lossy: s.Lossy, Priority: s.Priority, UseCount: s.UseCount,
		Created: time.Unix(0, s.Created).UTC(), Size: s.Size, Readers: s.Users, Writer: s.Writer, Digest: s.Digest,
	}
	if s.GroupSize > 0 {
		d.Group, d.GroupSize = s.Group.String(), int(s.GroupSize)
	}
	if s.Source.Generation != 0 {
		d.Source = &Source{s.Source.Store.String(), s.Source.Generation}
	}
	if s.Applying != (layout.UUID{}) {
		d.Applying, d.Applied = s.Applying.String(), s.Applied
	}
	return d
}

func describeStatus(s store.Status) Status {
	d := Status{
		UUID: s.UUID.String(), Created: time.Unix(0, s.Created).UTC(), Mode: s.Mode.String(), Placement: s.Placement.String(), Policy: s.Policy.String(),
		OriginSize: s.OriginSize, ChunkSize: s.ChunkSize, Generation: s.Generation,
		Snapshots: s.SnapshotsLive, BeingFreed: s.SnapshotsGoing, Digested: s.SnapshotsDigested, Exceptions: s.Exceptions,
		Slots: s.Slots, SlotsUsed: s.SlotsUsed, SlotsLeased: s.SlotsLeased, SlotsWaiting: s.SlotsWaiting,
		MetadataPages: s.MetadataPages, MetadataUsed: s.MetadataUsed, CacheBytes: s.CacheBytes,
		Checkpoint: s.Checkpoint, UnsavedBytes: s.UnsavedBytes, FormatVersion: layout.Version,
		Batches: s.Batches, Copied: s.Copies, Written: s.Written,
	}
	d.Full, d.Trouble, d.SlotsAside, d.LostCount = s.Full, s.Trouble, s.SlotsAside, s.LostCount
	if s.AsideSince != 0 {
		since := time.Unix(0, s.AsideSince).UTC()
		d.AsideSince = &since
	}
	for _, l := range s.LostChunks {
		d.Lost = append(d.Lost, LostChunk{Chunk: l.Chunk, Snapshots: l.Snapshots, More: l.More})
	}
	if s.Fill.UntilFull != store.Never {
		in := s.Fill.UntilFull.Seconds()
		d.FullIn = &in
	}
	if r := s.Restore; r != nil {
		d.Restore = describeRestore(r)
	}
	return d
}

func describeRestore(r *store.RestoreStatus) *Restore {
	return &Restore{
		Snapshot: r.Snapshot.Tag, Merge: r.Merge, Done: uint64(r.Next), Chunks: r.Chunks, Trouble: r.Trouble,
		SkipLost: r.SkipLost, Skipped: r.Skipped,
	}
}
