// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"sync"

	"zumastor.org/zumastor/engine/alloc"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/wire"
)

// snapshotLeaseBytes is how much room a snapshot asks for at a time, at least.
const snapshotLeaseBytes = 16 << 20

// WriteAt writes to the snapshot alone: neither the origin nor any other snapshot
// changes. It is durable after the next Flush.
func (v *Snapshot) WriteAt(p []byte, off int64) (int, error) {
	for {
		err := patiently(func() error { return v.tryWrite(p, off) })
		switch {
		case err == nil:
			return len(p), nil
		case !isNoSlots(err):
			return 0, err
		}
		if err := v.server.AwaitSpace(v.handle); err != nil && !errors.Is(err, wire.ErrAway) {
			return 0, fmt.Errorf("snapshot %d: waiting for space: %w", v.info.Tag, err)
		}
	}
}

// tryWrite writes p at off. If there is no space it may have written a part of it.
func (v *Snapshot) tryWrite(p []byte, off int64) error {
	v.gate.RLock()
	defer v.gate.RUnlock()
	if err := v.check(off, int64(len(p))); err != nil {
		return err
	}
	if !v.Writable() {
		return fmt.Errorf("snapshot %d: %w", v.info.Tag, ErrReadOnly)
	}
	if err := v.write(p, off); err != nil {
		return fmt.Errorf("snapshot %d: %w", v.info.Tag, err)
	}
	return nil
}

// write writes p at off: at once where it is known that all chunks have slots of
// their own. The gate is held.
func (v *Snapshot) write(p []byte, off int64) error {
	first, end := v.geo.Span(off, int64(len(p)))
	var few [maxMappings]wire.Mapping
	list, ok := v.known.get(first, end, few[:0])
	if !ok || slices.ContainsFunc(list, func(m wire.Mapping) bool { return !m.Owned }) {
		return v.give(p, off)
	}
	return v.overwrite(p, off, list)
}

// overwrite writes to chunks that have slots of their own.
func (v *Snapshot) overwrite(p []byte, off int64, list []wire.Mapping) error {
	for _, m := range list {
		from := max(off, v.geo.Offset(m.Chunk))
		to := min(off+int64(len(p)), v.geo.Offset(m.Chunk+block.Chunk(m.Len)))
		if _, err := v.store.WriteAt(p[from-off:to-off], v.slotOffset(m.Slot)+from-v.geo.Offset(m.Chunk)); err != nil {
			return err
		}
	}
	return nil
}

// stripes lock chunks: chunk c with stripe c modulo their number.
type stripes [64]sync.Mutex

// lock locks the chunks [first, end), and returns what unlocks them.
func (s *stripes) lock(first, end block.Chunk) (unlock func()) {
	var set uint64
	for c := first; c < end && set != math.MaxUint64; c++ {
		set |= 1 << (c % 64)
	}
	for left := set; left != 0; left &= left - 1 {
		s[bits.TrailingZeros64(left)].Lock()
	}
	return func() {
		for left := set; left != 0; left &= left - 1 {
			s[bits.TrailingZeros64(left)].Unlock()
		}
	}
}

// give writes p at off to chunks of which some have no slots of their own, and
// gives them such. It locks the chunks and asks again where they are, so that no two
// writes give a chunk two slots.
func (v *Snapshot) give(p []byte, off int64) error {
	first, end := v.geo.Span(off, int64(len(p)))
	defer v.giving.lock(first, end)()
	version := v.known.now()
	var few [maxMappings]wire.Mapping
	list, err := v.server.Map(v.handle, first, end, few[:0])
	if err != nil {
		return err
	}
	v.known.put(list, version)
	var copies []layout.Copy
	for _, m := range list {
		if m.Owned {
			if err := v.overwrite(p, off, []wire.Mapping{m}); err != nil {
				return err
			}
			continue
		}
		for c := m.Chunk; c < m.Chunk+block.Chunk(m.Len); c++ {
			slot, err := v.take(end - c)
			if isNoSlots(err) && len(copies) > 0 { // there are more runs once these are used; and none lies idle
				if err := v.place(p, off, copies); err != nil {
					return err
				}
				copies = copies[:0]
				slot, err = v.take(end - c)
			}
			if err != nil {
				v.putBack(copies)
				return err
			}
			copies = append(copies, layout.Copy{Chunk: c, Slot: slot})
		}
	}
	return v.place(p, off, copies)
}

// place writes chunks to the slots that they were given, and reports them.
func (v *Snapshot) place(p []byte, off int64, copies []layout.Copy) error {
	if len(copies) == 0 {
		return nil
	}
	if err := v.fill(p, off, copies); err != nil {
		v.putBack(copies)
		return err
	}
	err := v.server.ReportBranch(v.handle, v.state.Load().Generation, copies)
	v.given.Store(true) // after an error too: the server may have taken it in
	if err != nil {
		return err
	}
	moved := make([]wire.Mapping, len(copies))
	for i, c := range copies {
		moved[i] = wire.Mapping{Chunk: c.Chunk, Len: 1, Slot: c.Slot, Owned: true}
	}
	v.known.move(moved)
	return nil
}

// fill writes chunks to their new slots: their parts of p, which lies at off, and
// what they hold outside of it.
func (v *Snapshot) fill(p []byte, off int64, copies []layout.Copy) error {
	ops := make([]device.Op, 0, len(copies))
	for _, c := range copies {
		from, size := v.geo.Offset(c.Chunk), int64(v.geo.Len(c.Chunk))
		var data []byte
		if from >= off && from+size <= off+int64(len(p)) {
			data = p[from-off : from-off+size]
		} else {
			data = device.Buffer(int(size))
			if err := v.read(data, from); err != nil {
				return fmt.Errorf("reading the rest of chunk %d: %w", c.Chunk, err)
			}
			at := max(off, from)
			copy(data[at-from:], p[at-off:])
		}
		ops = append(ops, device.Op{Kind: device.Write, Off: v.slotOffset(c.Slot), Data: data})
	}
	return device.Do(v.store, ops)
}

// take returns a leased slot, of at least want that it asks for if it has none.
func (v *Snapshot) take(want block.Chunk) (block.Slot, error) {
	v.leasing.Lock()
	defer v.leasing.Unlock()
	if len(v.leases) == 0 {
		runs, err := v.server.LeaseBranch(v.handle, max(uint64(want), snapshotLeaseBytes>>v.geo.ChunkShift()))
		switch {
		case errors.Is(err, alloc.ErrNoSpace), errors.Is(err, alloc.ErrLeases):
			return 0, noSlots{err}
		case err != nil:
			return 0, fmt.Errorf("leasing slots: %w", err)
		}
		v.leases = runs
	}
	slot := v.leases[0].First
	v.leases = alloc.Subtract(v.leases, layout.SlotRun{First: slot, Len: 1})
	return slot, nil
}

// putBack takes slots that were not used back.
func (v *Snapshot) putBack(copies []layout.Copy) {
	v.leasing.Lock()
	defer v.leasing.Unlock()
	for _, c := range copies {
		v.leases = append(v.leases, layout.SlotRun{First: c.Slot, Len: 1})
	}
}

// Discard does nothing: what was discarded may be read as before.
func (v *Snapshot) Discard(off, n int64) error {
	v.gate.RLock()
	defer v.gate.RUnlock()
	if err := v.check(off, n); err != nil {
		return err
	}
	if !v.Writable() {
		return fmt.Errorf("snapshot %d: %w", v.info.Tag, ErrReadOnly)
	}
	return nil
}

// Flush makes all writes that have returned durable.
func (v *Snapshot) Flush() error {
	return patiently(func() error {
		v.gate.RLock()
		defer v.gate.RUnlock()
		if v.closed.Load() {
			return v.told(device.ErrClosed)
		}
		return v.flush()
	})
}

// flush flushes the store, by way of the server if chunks were given slots since:
// then where they are must become durable too.
func (v *Snapshot) flush() error {
	if !v.state.Load().Writable {
		return nil
	}
	v.flushing.Lock()
	defer v.flushing.Unlock()
	sync := v.store.Flush
	given := v.given.Swap(false)
	if given {
		sync = func() error { return v.server.SyncBranch(v.handle) }
	}
	if err := sync(); err != nil {
		v.given.CompareAndSwap(false, given)
		return fmt.Errorf("snapshot %d: %w", v.info.Tag, err)
	}
	return nil
}
