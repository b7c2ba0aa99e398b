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
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/store"
)

// Manager carries out requests on one store.
type Manager interface {
	// Do does what r asks for. What it has changed is durable when it returns.
	Do(ctx context.Context, r Request) (Response, error)
}

// Snapshot describes a live snapshot.
type Snapshot struct {
	Tag        block.Tag        `json:"tag"`
	Generation block.Generation `json:"generation"`
	Created    time.Time        `json:"created"`
	Size       int64            `json:"size_bytes"` // of the origin when it was made
	Readers    int              `json:"readers"`
}

// Status describes a store. What needs no unit in its name counts things.
type Status struct {
	UUID          string           `json:"uuid"`
	Created       time.Time        `json:"created"`
	Mode          string           `json:"mode"`
	Placement     string           `json:"placement"`
	OriginSize    int64            `json:"origin_size_bytes"`
	ChunkSize     int              `json:"chunk_size_bytes"`
	Generation    block.Generation `json:"generation"`
	Snapshots     int              `json:"snapshots"`
	BeingFreed    int              `json:"snapshots_being_freed"`
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
	return Snapshot{
		Tag: s.Tag, Generation: s.Generation, Created: time.Unix(0, s.Created).UTC(), Size: s.Size, Readers: s.Users,
	}
}

func describeStatus(s store.Status) Status {
	return Status{
		UUID: s.UUID.String(), Created: time.Unix(0, s.Created).UTC(), Mode: s.Mode.String(), Placement: s.Placement.String(),
		OriginSize: s.OriginSize, ChunkSize: s.ChunkSize, Generation: s.Generation,
		Snapshots: s.SnapshotsLive, BeingFreed: s.SnapshotsGoing, Exceptions: s.Exceptions,
		Slots: s.Slots, SlotsUsed: s.SlotsUsed, SlotsLeased: s.SlotsLeased, SlotsWaiting: s.SlotsWaiting,
		MetadataPages: s.MetadataPages, MetadataUsed: s.MetadataUsed, CacheBytes: s.CacheBytes,
		Checkpoint: s.Checkpoint, UnsavedBytes: s.UnsavedBytes, FormatVersion: layout.Version,
	}
}
