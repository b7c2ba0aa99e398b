// SPDX-License-Identifier: Apache-2.0

// Package volume is the user-space data plane: an origin and its snapshots as
// block devices.
//
// It owns the path of a request: what may go straight to the origin, what must
// be copied out before, how copy-outs become batches, and where a snapshot's
// bytes are read. It does not own any state that must survive: the metadata
// server does (package wire says what they say to each other), and the kernel
// target follows the same steps. Origins and snapshots are device.Devices, and
// safe for concurrent use. Where the origin cannot be read, a first write loses what was there
// to the snapshots, or fails: see [UnreadablePolicy]. When the store fails, writes that would need a copy-out
// fail and change nothing; when it is full, they wait for what its policy says, and
// may fail. Reads and all other writes go on.
package volume

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/mark"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/wire"
)

// Options tune an origin; the zero value of each field means its default.
type Options struct {
	BatchBytes   int64 // largest batch of copy-outs; default 32 MiB
	AheadBytes   int64 // most that is copied ahead of a sequential writer; default 8 MiB; negative: nothing
	LeaseBytes   int64 // slots to ask for at a time; default 64 MiB
	SettledBytes int64 // bound of the settled map in memory; default 64 MiB
	Serial       bool  // read a batch only when the one before is durable: for a single spindle, which each change of place costs a seek
	RestoreRate  int64 // most bytes a second that a revert or merge copies; zero: no limit
	Manual       bool  // reverts and merges wait for calls of Restore
	Unreadable   UnreadablePolicy
}

// Defaults of Options.
const (
	DefaultBatchBytes   = 32 << 20
	DefaultAheadBytes   = 8 << 20
	DefaultLeaseBytes   = 64 << 20
	DefaultSettledBytes = 64 << 20
)

// Origin is the live volume.
type Origin struct {
	dev     device.Device
	server  wire.Server
	store   placement.Devices
	opts    Options
	geo     atomic.Pointer[block.Geometry] // changes when no write is under way
	settled *settledMap
	copier  *copier

	dataOffset int64 // of slot 0 on the store device
	restorer   restorer

	// gate is held for reading by every write from the decision whether it needs
	// a copy-out until it has returned, and for writing by the change of
	// generation: each write belongs wholly to one side.
	gate   sync.RWMutex
	state  atomic.Pointer[wire.State]
	closed atomic.Bool
	opened chan struct{} // closed when OpenOrigin has ended
	// quiescing says that no write is under way, and that the state changes.
	quiescing atomic.Bool
}

var (
	_ device.Device = (*Origin)(nil)
	_ device.Zeroer = (*Origin)(nil)
	_ device.Doer   = (*Origin)(nil)
	_ wire.Resumer  = (*Origin)(nil)
)

// OpenOrigin makes the origin device a volume of the server's store. The device
// must be as large as the store says, and must be written to only through the
// volume for as long as the store has snapshots. Close detaches it again.
func OpenOrigin(server wire.Server, dev device.Device, store placement.Devices, o Options) (*Origin, error) {
	v := &Origin{dev: dev, server: server, store: store, opts: o, opened: make(chan struct{})}
	v.restorer.ctx, v.restorer.stop = context.WithCancel(context.Background())
	before := &wire.State{}
	v.state.Store(before)
	defer close(v.opened)
	// A snapshot that is made as soon as the server knows the volume waits until
	// the volume knows the session.
	v.gate.Lock()
	defer v.gate.Unlock()
	session, err := server.Attach(v)
	if err != nil {
		return nil, err
	}
	if err := v.open(session, before, o); err != nil {
		return nil, fmt.Errorf("opening the origin: %w", errors.Join(err, server.Detach()))
	}
	return v, nil
}

func (v *Origin) open(session *wire.Session, before *wire.State, o Options) error {
	geo := session.Geometry
	v.geo.Store(&geo)
	v.dataOffset = session.DataOffset
	if v.dev.Size() < geo.Size() {
		return fmt.Errorf("%w: origin device has %d bytes, the store is for %d", block.ErrGeometry, v.dev.Size(), geo.Size())
	}
	log, err := placement.OpenLog(v.store, session)
	if err != nil {
		return err
	}
	v.settled = newSettledMap(geo.Chunks(), orDefault(o.SettledBytes, DefaultSettledBytes))
	v.copier = newCopier(v, log, session, o)
	v.updateFrom(before, session.State)
	return nil
}

// geometry returns the origin's shape as it is now.
func (v *Origin) geometry() block.Geometry { return *v.geo.Load() }

func orDefault(v, byDefault int64) int64 {
	if v == 0 {
		return byDefault
	}
	return v
}

// Close detaches the origin from its server, once no write is under way; requests
// after it wrap device.ErrClosed, and so do writes that wait for a server that is
// away. The device stays open. A second Close does
// nothing.
func (v *Origin) Close() error {
	v.copier.giveUp()
	v.gate.Lock()
	closed := v.closed.Swap(true)
	v.gate.Unlock()
	if closed {
		return nil
	}
	v.restorer.stop()
	err := v.server.Detach() // which wakes who waits for space
	v.restorer.workers.Wait()
	return err
}

// check returns an error unless the origin is open and has the range.
func (v *Origin) check(off, n int64) error {
	if v.closed.Load() {
		return fmt.Errorf("origin: %w", device.ErrClosed)
	}
	if err := device.CheckIO(off, n, v.geometry().Size()); err != nil {
		return fmt.Errorf("origin: %w", err)
	}
	return nil
}

// Size returns the origin's size in bytes.
func (v *Origin) Size() int64 { return v.geometry().Size() }

// ReadAt reads straight from the origin device, unless the origin is being restored:
// then from where its content is. If a restore has begun during the read, what was
// read may be older and newer than that, and is read again.
func (v *Origin) ReadAt(p []byte, off int64) (int, error) {
	if mark.Sampled() {
		mark.ReadBegin(uint64(len(p)))
		defer mark.ReadEnd()
	}
	for {
		begun := v.restorer.begun.Load()
		if v.state.Load().Restoring != 0 {
			if restoring, err := v.readHeld(p, off); err != nil {
				return 0, err
			} else if restoring {
				return len(p), nil
			}
			continue
		}
		if err := v.check(off, int64(len(p))); err != nil {
			return 0, err
		}
		n, err := v.dev.ReadAt(p, off)
		if v.restorer.begun.Load() == begun {
			return n, err
		}
	}
}

// WriteAt writes to the origin device, once the chunks that it touches are
// settled and no restore is under way.
func (v *Origin) WriteAt(p []byte, off int64) (int, error) {
	if mark.Sampled() {
		mark.WriteBegin(uint64(len(p)))
		defer mark.WriteEnd()
	}
	v.enter()
	defer v.gate.RUnlock()
	if err := v.settle(off, int64(len(p))); err != nil {
		return 0, err
	}
	return v.dev.WriteAt(p, off)
}

// WriteZeroes zeroes a range, once the chunks that it touches are settled and no
// restore is under way.
func (v *Origin) WriteZeroes(off, n int64) error {
	v.enter()
	defer v.gate.RUnlock()
	if err := v.settle(off, n); err != nil {
		return err
	}
	return device.WriteZeroes(v.dev, off, n)
}

// Discard discards a range, once the chunks that it touches are settled and no
// restore is under way.
func (v *Origin) Discard(off, n int64) error {
	v.enter()
	defer v.gate.RUnlock()
	if err := v.settle(off, n); err != nil {
		return err
	}
	return v.dev.Discard(off, n)
}

// Flush makes all writes that have returned durable. What they displaced became
// durable before they were let through.
func (v *Origin) Flush() error {
	if err := v.check(0, 0); err != nil {
		return err
	}
	return v.dev.Flush()
}

// Do copies out what all ops together displace in as few batches as possible, then
// gives the ops to the origin device in one submission. With one caller and a
// server that works by hand, the sequence of I/O is the same in every run. While a
// restore is under way, all ops wait if one of them is a write.
func (v *Origin) Do(ops []device.Op) error {
	if v.state.Load().Restoring != 0 && !slices.ContainsFunc(ops, func(op device.Op) bool { return op.Kind != device.Read }) {
		return v.readAll(ops)
	}
	v.enter()
	defer v.gate.RUnlock()
	var bad error
	for all := ops; ; {
		ops, bad = v.valid(all)
		err := v.settleAll(ops)
		if err == nil {
			break
		}
		if err := v.awaitStore(err); err != nil {
			return err
		}
	}
	if err := device.Do(v.dev, ops); bad == nil {
		return err
	}
	return bad
}

// settleAll returns when every chunk that the ops write to is settled. The gate is
// held.
func (v *Origin) settleAll(ops []device.Op) error {
	var need []*request
	for _, op := range ops {
		first, end := v.geometry().Span(op.Off, int64(len(op.Data)))
		if op.Kind == device.Write && !v.isSettled(first, end) {
			need = append(need, v.copier.newRequest(first, end))
		}
	}
	if len(need) == 0 {
		return nil
	}
	return v.copier.copyOut(need...)
}

// readAll reads what the ops say, one after another.
func (v *Origin) readAll(ops []device.Op) error {
	var first error
	for _, op := range ops {
		if _, err := v.ReadAt(op.Data, op.Off); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// valid returns the ops whose ranges are good, and the first error of the others.
func (v *Origin) valid(ops []device.Op) (valid []device.Op, bad error) {
	valid = ops
	for i, op := range ops {
		switch err := v.check(op.Off, int64(len(op.Data))); {
		case err != nil && bad == nil:
			valid, bad = slices.Clone(ops[:i]), err
		case err == nil && bad != nil:
			valid = append(valid, op)
		}
	}
	return valid, bad
}

// settle returns when every chunk of the range is settled. The gate is held, but let
// go of for as long as the store has no space.
func (v *Origin) settle(off, n int64) error {
	for {
		if err := v.check(off, n); err != nil {
			return err
		}
		first, end := v.geometry().Span(off, n)
		if v.isSettled(first, end) {
			return nil
		}
		err := v.copier.settle(first, end, false)
		if err == nil {
			return nil
		}
		if err := v.awaitStore(err); err != nil {
			return err
		}
	}
}

// awaitStore lets go of the gate until the store may have space, or take batches again,
// if the lack of that is what err is about, so that snapshots are made and deleted meanwhile. After it, a
// write is to be looked at anew.
func (v *Origin) awaitStore(err error) error {
	await := func() error { return v.server.AwaitSpace(0) }
	switch {
	case isBroken(err):
		await = v.copier.mend
	case !isNoSlots(err):
		return err
	}
	v.gate.RUnlock()
	err = await()
	v.enter()
	switch {
	case v.closed.Load():
		return fmt.Errorf("origin: %w", device.ErrClosed)
	case errors.Is(err, wire.ErrAway): // the copier holds
	case err != nil:
		return fmt.Errorf("origin: waiting for the store: %w", err)
	}
	return nil
}

// isSettled reports whether the chunks [first, end) are known to be settled. The
// gate is held.
func (v *Origin) isSettled(first, end block.Chunk) bool {
	state := v.state.Load()
	return state.Newest == 0 || v.settled.all(state.Generation, first, v.preserved(state, end))
}

// preserved returns end, or the end of what any snapshot has if that is before.
func (v *Origin) preserved(s *wire.State, end block.Chunk) block.Chunk {
	if s.Largest > 0 {
		end = min(end, v.geometry().ChunkOf(s.Largest-1)+1)
	}
	return end
}

// Quiesce runs change while no write is under way; see [wire.Client].
func (v *Origin) Quiesce(change func() (wire.State, error)) error {
	v.gate.Lock()
	defer v.gate.Unlock()
	v.quiescing.Store(true)
	defer v.quiescing.Store(false)
	if err := v.refresh(); err != nil {
		return fmt.Errorf("looking for the sizes of devices: %w", err)
	}
	// A snapshot is durable once it is made, and so must be what it shares.
	if err := v.dev.Flush(); err != nil {
		return fmt.Errorf("flushing the origin: %w", err)
	}
	old := v.state.Load().Generation
	state, err := change()
	if rerr := v.adopt(state); rerr != nil && err == nil {
		err = rerr
	}
	if err == nil && state.Generation > old && state.Newest == state.Generation {
		v.settled.begin(state.Generation)
	}
	v.Update(state)
	return err
}

// refresh looks for the present sizes of the devices, for which change may be.
func (v *Origin) refresh() error {
	devices := []device.Device{v.dev, v.store.Store, v.store.MetaDevice()}
	for _, d := range devices {
		if err := device.Refresh(d); err != nil {
			return err
		}
	}
	return nil
}

// adopt takes over what only changes when no write is under way: the size, and
// leases that were taken back. The gate is held for writing.
func (v *Origin) adopt(s wire.State) error {
	if s.Revoked {
		v.copier.revoke()
	}
	if s.Size == 0 || s.Size == v.Size() {
		return nil
	}
	geo, err := block.NewGeometry(s.Size, v.geometry().ChunkSize())
	if err != nil {
		return fmt.Errorf("taking over the origin's new size: %w", err)
	}
	v.settled.resize(geo.Chunks())
	v.copier.ahead.chunks = geo.Chunks()
	v.geo.Store(&geo)
	return nil
}

// Fit implements [wire.Fitter].
func (v *Origin) Fit(size int64) error {
	if err := device.Refresh(v.dev); err != nil {
		return fmt.Errorf("looking for the size of the origin's device: %w", err)
	}
	if have := v.dev.Size(); have < size {
		return fmt.Errorf("%w: the origin's device has %d bytes, and not %d: make it larger first", block.ErrGeometry, have, size)
	}
	return nil
}

// settleChunks bounds how many chunks Settle copies out between changes of
// generation that wait.
const settleChunks = 1 << 10

// Settle copies out those of the chunks [first, end) that are not settled; see
// [wire.Client]. Where the store has no space, it does not wait for any. What cannot
// be read is an error: only a write loses a chunk.
func (v *Origin) Settle(first, end block.Chunk) error {
	for ; first < end; first += settleChunks {
		if err := v.settleSome(first, min(end, first+settleChunks)); err != nil {
			return err
		}
	}
	return nil
}

func (v *Origin) settleSome(first, end block.Chunk) error {
	v.gate.RLock()
	defer v.gate.RUnlock()
	if v.isSettled(first, end) {
		return nil
	}
	return v.copier.settle(first, end, true)
}

// Update takes a new state; see [wire.Client].
func (v *Origin) Update(s wire.State) { v.changed(*v.state.Swap(&s), s) }

// updateFrom is Update, unless the server has said something newer than old meanwhile.
func (v *Origin) updateFrom(old *wire.State, s wire.State) {
	if v.state.CompareAndSwap(old, &s) {
		v.changed(*old, s)
	}
}

// changed begins what a new state asks for.
func (v *Origin) changed(old, s wire.State) {
	if v.restorer.change(old, s) && !v.opts.Manual && !v.closed.Load() {
		v.restorer.workers.Go(v.keepRestoring)
	}
}
