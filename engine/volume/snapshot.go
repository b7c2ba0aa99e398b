// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"errors"
	"fmt"
	"sync/atomic"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/wire"
)

// ErrReadOnly is wrapped by every change of a snapshot.
var ErrReadOnly = errors.New("snapshot is read-only")

// Snapshot is a snapshot as a read-only block device.
type Snapshot struct {
	origin device.Device
	store  device.Device
	server wire.Server
	geo    block.Geometry
	snap   layout.Snapshot
	offset int64 // of slot 0 on the store
	closed atomic.Bool
}

var _ device.Device = (*Snapshot)(nil)

// SnapshotSource says where a store's snapshots are read.
type SnapshotSource struct {
	Server     wire.Server
	Origin     device.Device // the origin's device itself, not its volume
	Store      placement.Devices
	Geometry   block.Geometry
	DataOffset int64 // of slot 0 on the store device, in bytes
}

// OpenSnapshot opens a snapshot by its tag and keeps it from being deleted until
// Close.
func OpenSnapshot(src SnapshotSource, tag block.Tag) (*Snapshot, error) {
	snap, err := src.Server.OpenSnapshot(tag)
	if err != nil {
		return nil, err
	}
	return &Snapshot{
		origin: src.Origin, store: src.Store.Store, server: src.Server, geo: src.Geometry,
		snap: snap, offset: src.DataOffset,
	}, nil
}

// Info returns the snapshot's entry in the snapshot table.
func (s *Snapshot) Info() layout.Snapshot { return s.snap }

// Size returns the size of the origin when the snapshot was made, in bytes.
func (s *Snapshot) Size() int64 { return s.snap.Size }

// Close lets the snapshot be deleted again; reads after it wrap device.ErrClosed,
// and none may be under way.
func (s *Snapshot) Close() error {
	if !s.closed.Swap(true) {
		s.server.CloseSnapshot(s.snap.Generation)
	}
	return nil
}

// maxMappings bounds the mappings of one read that are kept on the stack.
const maxMappings = 8

// ReadAt reads the snapshot's bytes: copied chunks from their slots, the others
// from the origin.
//
// A chunk may be copied out and overwritten in the origin while it is read there.
// The index has the copy before the origin is written, so it is enough to ask
// again after the read: what is still shared then was read in time.
func (s *Snapshot) ReadAt(p []byte, off int64) (int, error) {
	if s.closed.Load() {
		return 0, fmt.Errorf("snapshot %d: %w", s.snap.Tag, device.ErrClosed)
	}
	if err := device.CheckIO(off, int64(len(p)), s.snap.Size); err != nil {
		return 0, fmt.Errorf("snapshot %d: %w", s.snap.Tag, err)
	}
	first, end := s.geo.Span(off, int64(len(p)))
	var few [maxMappings]wire.Mapping
	mappings, err := s.server.Map(s.snap.Generation, first, end, few[:0])
	if err != nil {
		return 0, err
	}
	for _, m := range mappings {
		if err := s.readMapped(p, off, m); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// readMapped reads the part of p, which is to hold the bytes at off, that lies in
// a mapping.
func (s *Snapshot) readMapped(p []byte, off int64, m wire.Mapping) error {
	from := max(off, s.geo.Offset(m.Chunk))
	to := min(off+int64(len(p)), s.geo.Offset(m.Chunk+block.Chunk(m.Len)))
	part := p[from-off : to-off]
	if !m.Shared {
		at := s.offset + int64(uint64(m.Slot)<<s.geo.ChunkShift()) + from - s.geo.Offset(m.Chunk)
		if _, err := s.store.ReadAt(part, at); err != nil {
			return fmt.Errorf("snapshot %d: %w", s.snap.Tag, err)
		}
		return nil
	}
	if _, err := s.origin.ReadAt(part, from); err != nil {
		return fmt.Errorf("snapshot %d: %w", s.snap.Tag, err)
	}
	var few [maxMappings]wire.Mapping
	again, err := s.server.Map(s.snap.Generation, m.Chunk, m.Chunk+block.Chunk(m.Len), few[:0])
	if err != nil {
		return err
	}
	for _, now := range again {
		if !now.Shared {
			if err := s.readMapped(p, off, now); err != nil {
				return err
			}
		}
	}
	return nil
}

// WriteAt returns an error: the snapshot is read-only.
func (s *Snapshot) WriteAt(_ []byte, _ int64) (int, error) { return 0, ErrReadOnly }

// Discard returns an error: the snapshot is read-only.
func (s *Snapshot) Discard(_, _ int64) error { return ErrReadOnly }

// Flush does nothing: there is nothing to be made durable.
func (s *Snapshot) Flush() error { return nil }
