// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/wire"
)

// Errors that callers decide on.
var (
	// ErrReadOnly is wrapped by changes of a snapshot that was not opened for
	// writing.
	ErrReadOnly = errors.New("snapshot is read-only")
	// ErrSquashed is wrapped by reads of a snapshot that was given up for space.
	ErrSquashed = fmt.Errorf("snapshot was squashed: its content was given up for space: %w", unix.EIO)
	// ErrLost is wrapped by reads of a chunk whose content is lost.
	ErrLost = fmt.Errorf("chunk is lost: %w", unix.EIO)
)

// Snapshot is a snapshot as a block device. What is written to it goes to slots of
// its own: a whole chunk at once without reading, a part of one after reading the
// rest, and what is there already in place.
type Snapshot struct {
	origin device.Device
	store  device.Device
	server wire.Server
	offset int64 // of slot 0 on the store
	info   layout.Snapshot
	handle wire.Handle

	// gate is held for reading by every request until it has returned, and for
	// writing by changes of the state.
	gate   sync.RWMutex
	state  atomic.Pointer[wire.SnapshotState]
	geo    block.Geometry // of the snapshot's size
	known  mappings
	closed atomic.Bool

	giving stripes // held by writes that give chunks slots of their own

	given atomic.Bool // chunks were given slots that no flush knows of

	flushing sync.Mutex // held through a flush: the next one relies on it
	leasing  sync.Mutex // guards leases
	leases   []layout.SlotRun
}

var (
	_ device.Device       = (*Snapshot)(nil)
	_ wire.SnapshotClient = (*Snapshot)(nil)
)

// SnapshotSource says where a store's snapshots are read.
type SnapshotSource struct {
	Server     wire.Server
	Origin     device.Device // the origin's device itself, not its volume
	Store      placement.Devices
	ChunkSize  int
	DataOffset int64 // of slot 0 on the store device, in bytes
}

// OpenSnapshot opens a snapshot by its tag for reading, and keeps it from being
// deleted until Close.
func OpenSnapshot(src SnapshotSource, tag block.Tag) (*Snapshot, error) {
	return OpenSnapshotRef(src, wire.SnapshotRef{Tag: tag}, false)
}

// OpenSnapshotRef opens a snapshot, for writing too if write is set, and keeps it
// from being deleted until Close. Only one may write to it at a time.
func OpenSnapshotRef(src SnapshotSource, ref wire.SnapshotRef, write bool) (*Snapshot, error) {
	v := &Snapshot{origin: src.Origin, store: src.Store.Store, server: src.Server, offset: src.DataOffset}
	// A change that comes as soon as the server knows the client waits until the
	// client knows its session.
	v.gate.Lock()
	defer v.gate.Unlock()
	session, err := src.Server.OpenSnapshot(ref, write, v)
	if err != nil {
		return nil, err
	}
	v.info, v.handle = session.Snapshot, session.Handle
	if v.geo, err = block.NewGeometry(session.State.Size, src.ChunkSize); err != nil {
		return nil, errors.Join(err, src.Server.CloseSnapshot(v.handle))
	}
	v.known.limit(v.geo.Chunks())
	v.state.Store(&session.State)
	if err := v.refresh(); err != nil {
		return nil, errors.Join(err, src.Server.CloseSnapshot(v.handle))
	}
	return v, nil
}

// Info returns the snapshot's entry in the snapshot table, as it was when the
// snapshot was opened.
func (v *Snapshot) Info() layout.Snapshot { return v.info }

// Size returns the snapshot's size in bytes.
func (v *Snapshot) Size() int64 { return v.info.Size }

// Writable reports whether the snapshot was opened for writing, and may be written
// to now.
func (v *Snapshot) Writable() bool { return v.state.Load().Writable }

// Close flushes what was written and lets the snapshot be deleted again; requests
// after it wrap device.ErrClosed, and none may be under way.
func (v *Snapshot) Close() error {
	if v.closed.Swap(true) {
		return nil
	}
	return errors.Join(patiently(v.flush), v.server.CloseSnapshot(v.handle))
}

// Quiesce runs change while no request is under way; see [wire.SnapshotClient].
func (v *Snapshot) Quiesce(change func() (wire.SnapshotState, error)) error {
	v.gate.Lock()
	defer v.gate.Unlock()
	if v.state.Load().Writable { // a snapshot of this one is durable once it is made, and so must be what it shares
		if err := v.store.Flush(); err != nil {
			return fmt.Errorf("flushing snapshot %d: %w", v.info.Tag, err)
		}
	}
	state, err := change()
	v.known.forget()
	if state.Revoked {
		v.leases = nil
	}
	v.state.Store(&state)
	return errors.Join(err, v.refresh())
}

// refresh looks for the present sizes of the devices, which may have changed.
func (v *Snapshot) refresh() error {
	if err := errors.Join(device.Refresh(v.origin), device.Refresh(v.store)); err != nil {
		return fmt.Errorf("snapshot %d: looking for the sizes of devices: %w", v.info.Tag, err)
	}
	return nil
}

// check returns an error for a request that cannot be, or nil.
func (v *Snapshot) check(off, n int64) error {
	switch state := v.state.Load(); {
	case v.closed.Load():
		return fmt.Errorf("snapshot %d: %w", v.info.Tag, device.ErrClosed)
	case state.Squashed:
		return fmt.Errorf("snapshot %d: %w", v.info.Tag, ErrSquashed)
	}
	if err := device.CheckIO(off, n, v.info.Size); err != nil {
		return fmt.Errorf("snapshot %d: %w", v.info.Tag, err)
	}
	return nil
}

// maxMappings bounds the mappings of one request that are kept on the stack.
const maxMappings = 8

// ReadAt reads the snapshot's bytes: those that are stored from their slots, the
// others from the origin.
//
// A chunk may be copied out and overwritten in the origin while it is read there.
// The index has the copy before the origin is written, so it is enough to ask
// again after the read: what is still shared then was read in time.
func (v *Snapshot) ReadAt(p []byte, off int64) (int, error) {
	err := patiently(func() error {
		v.gate.RLock()
		defer v.gate.RUnlock()
		if err := v.check(off, int64(len(p))); err != nil {
			return err
		}
		return v.told(v.read(p, off))
	})
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// told returns err with the snapshot's name.
func (v *Snapshot) told(err error) error {
	if err != nil {
		return fmt.Errorf("snapshot %d: %w", v.info.Tag, err)
	}
	return nil
}

// How long a request of a snapshot waits, at least and at most, before it asks a
// server again that is away.
const (
	leastPatience = time.Millisecond
	mostPatience  = 50 * time.Millisecond
)

// patiently carries out a request, again for as long as its server is away. In
// between, it does not hold the gate, so that the snapshot can be opened again.
func patiently(do func() error) error {
	err := do()
	for pause := leastPatience; errors.Is(err, wire.ErrAway); pause = min(2*pause, mostPatience) {
		time.Sleep(pause)
		err = do()
	}
	return err
}

// read fills p with the bytes at off. The gate is held.
func (v *Snapshot) read(p []byte, off int64) error {
	first, end := v.geo.Span(off, int64(len(p)))
	var few [maxMappings]wire.Mapping
	list, err := v.mapping(first, end, few[:0])
	if err != nil {
		return err
	}
	for _, m := range list {
		if err := v.readMapped(p, off, m); err != nil {
			return err
		}
	}
	return nil
}

// mapping appends where the chunks [first, end) are, from memory if it knows all of
// them.
func (v *Snapshot) mapping(first, end block.Chunk, dst []wire.Mapping) ([]wire.Mapping, error) {
	remember := v.state.Load().Remember
	if !remember {
		return v.server.Map(v.handle, first, end, dst)
	}
	if known, ok := v.known.get(first, end, dst); ok {
		return known, nil
	}
	version := v.known.now()
	list, err := v.server.Map(v.handle, first, end, dst)
	if err == nil {
		v.known.put(list, version)
	}
	return list, err
}

// readMapped reads the part of p, which is to hold the bytes at off, that lies in
// a mapping.
func (v *Snapshot) readMapped(p []byte, off int64, m wire.Mapping) error {
	from := max(off, v.geo.Offset(m.Chunk))
	to := min(off+int64(len(p)), v.geo.Offset(m.Chunk+block.Chunk(m.Len)))
	part := p[from-off : to-off]
	switch m.Kind {
	case wire.Lost:
		return fmt.Errorf("chunk %d: %w", m.Chunk, ErrLost)
	case wire.Stored:
		_, err := v.store.ReadAt(part, v.slotOffset(m.Slot)+from-v.geo.Offset(m.Chunk))
		return err
	}
	if _, err := v.origin.ReadAt(part, from); err != nil {
		return err
	}
	var few [maxMappings]wire.Mapping
	again, err := v.server.Map(v.handle, m.Chunk, m.Chunk+block.Chunk(m.Len), few[:0])
	if err != nil {
		return err
	}
	for _, now := range again {
		if now.Kind != wire.Shared {
			if err := v.readMapped(p, off, now); err != nil {
				return err
			}
		}
	}
	return nil
}

// slotOffset returns the offset of a slot on the store device, in bytes.
func (v *Snapshot) slotOffset(slot block.Slot) int64 {
	return v.offset + int64(uint64(slot)<<v.geo.ChunkShift())
}
