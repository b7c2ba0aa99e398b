// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/wire"
)

// restorer is an origin's part in reverts and merges.
//
// The origin holds the snapshot's content from the moment on that a state says so:
// it is read where the server says, and nothing else may change it until all that
// differs is copied. Copying repeats itself after a crash, since neither the
// snapshot nor what it shares with the origin changes meanwhile.
type restorer struct {
	begun atomic.Uint64 // how many restores have begun, as far as states told

	mu    sync.Mutex
	ended chan struct{} // closed when no restore is under way any more
	back  chan struct{} // closed when the server is there again

	copying sync.Mutex // held by who copies
	workers sync.WaitGroup
	stop    context.CancelFunc
	ctx     context.Context
}

// retryInterval is how long a restore that does not go on waits to try again.
const retryInterval = 2 * time.Second

// change takes in that states have changed from one to the other, and reports
// whether a restore has begun.
func (r *restorer) change(from, to wire.State) (begun bool) {
	if from.Restoring == to.Restoring {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended != nil {
		close(r.ended)
		r.ended = nil
	}
	if to.Restoring != 0 {
		r.ended = make(chan struct{})
		r.begun.Add(1)
	}
	return to.Restoring != 0
}

// end is closed when the restore under way has ended.
func (r *restorer) end() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ended
}

// comeBack lets those who wait for the server ask it again.
func (r *restorer) comeBack() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.back != nil {
		close(r.back)
		r.back = nil
	}
}

// whenBack is closed when the server is there again after this call.
func (r *restorer) whenBack() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.back == nil {
		r.back = make(chan struct{})
	}
	return r.back
}

// enter takes the gate for reading once no restore is under way, or the origin is
// closed.
func (v *Origin) enter() {
	for {
		v.gate.RLock()
		if v.state.Load().Restoring == 0 || v.closed.Load() {
			return
		}
		end := v.restorer.end()
		v.gate.RUnlock()
		select {
		case <-end:
		case <-v.restorer.ctx.Done(): // closed
		}
	}
}

// readHeld is readRestoring, and waits for the server while that is away.
func (v *Origin) readHeld(p []byte, off int64) (restoring bool, err error) {
	for {
		back := v.restorer.whenBack()
		restoring, err = v.readRestoring(p, off)
		if !errors.Is(err, wire.ErrAway) {
			return restoring, err
		}
		select {
		case <-back:
		case <-v.restorer.ctx.Done(): // closed
			return true, fmt.Errorf("origin: %w: %w", device.ErrClosed, err)
		}
	}
}

// readRestoring reads the bytes at off while a restore is under way, and reports
// whether one was. What is read there does not change meanwhile: the gate keeps the
// end of the restore away, after which a slot may be used again.
func (v *Origin) readRestoring(p []byte, off int64) (restoring bool, err error) {
	v.gate.RLock()
	defer v.gate.RUnlock()
	if err := v.check(off, int64(len(p))); err != nil {
		return true, err
	}
	g := v.state.Load().Restoring
	if g == 0 {
		return false, nil
	}
	first, end := v.geometry().Span(off, int64(len(p)))
	var few [maxMappings]wire.Mapping
	list, err := v.server.MapRestoring(g, first, end, few[:0])
	if err != nil {
		return true, err
	}
	for _, m := range list {
		if err := v.readMapped(p, off, m); err != nil {
			return true, err
		}
	}
	return true, nil
}

// readMapped reads the part of p, which is to hold the bytes at off, that lies in a
// mapping.
func (v *Origin) readMapped(p []byte, off int64, m wire.Mapping) error {
	from := max(off, v.geometry().Offset(m.Chunk))
	to := min(off+int64(len(p)), v.geometry().Offset(m.Chunk+block.Chunk(m.Len)))
	part := p[from-off : to-off]
	switch m.Kind {
	case wire.Lost:
		return fmt.Errorf("origin: chunk %d, which is being restored: %w", m.Chunk, ErrLost)
	case wire.Shared:
		_, err := v.dev.ReadAt(part, from)
		return err
	}
	_, err := v.store.Store.ReadAt(part, v.slotOffset(m.Slot)+from-v.geometry().Offset(m.Chunk))
	return err
}

// slotOffset returns the offset of a slot on the store device, in bytes.
func (v *Origin) slotOffset(slot block.Slot) int64 {
	return v.dataOffset + int64(uint64(slot)<<v.geometry().ChunkShift())
}

// keepRestoring runs Restore until it succeeds, or the origin is closed.
func (v *Origin) keepRestoring() {
	for {
		err := v.Restore(v.restorer.ctx)
		if err == nil || v.restorer.ctx.Err() != nil {
			return
		}
		// If the server cannot even hear that, it knows better why.
		_, _ = v.server.Restored(wire.RestoreProgress{Generation: v.state.Load().Restoring, Trouble: err.Error()})
		select {
		case <-time.After(retryInterval):
		case <-v.restorer.ctx.Done():
			return
		}
	}
}

// Restore copies all that the revert or merge under way has left to copy, and
// returns nil when that has ended; at once, if none is under way. After an error it
// is still under way: reads are right, what would change the origin waits, and
// Restore may be called again. Unless [Options].Manual says otherwise, the origin
// itself calls it. A call waits for another one to return.
func (v *Origin) Restore(ctx context.Context) error {
	v.restorer.copying.Lock()
	defer v.restorer.copying.Unlock()
	g := v.state.Load().Restoring
	if g == 0 {
		return nil
	}
	r := restoring{v: v, generation: g, pace: pace{rate: v.opts.RestoreRate}}
	err := r.run(ctx)
	if err != nil {
		err = fmt.Errorf("restoring the origin: %w", err)
	}
	return err
}

// restoring is one run of Restore.
type restoring struct {
	v          *Origin
	generation block.Generation
	pace       pace
	data       []byte // of one step
}

func (r *restoring) run(ctx context.Context) error {
	next, err := r.v.server.Restored(wire.RestoreProgress{Generation: r.generation})
	if err != nil {
		return err
	}
	for next < block.Chunk(r.v.geometry().Chunks()) {
		copied, upTo, err := r.step(next)
		if isNoSlots(err) || isBroken(err) {
			if err := r.awaitStore(err); err != nil {
				return err
			}
			continue
		}
		if bad, is := errors.AsType[lostSource](err); is {
			if next, err = r.skip(bad); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		if next, err = r.v.server.Restored(wire.RestoreProgress{Generation: r.generation, Next: upTo}); err != nil {
			return err
		}
		if err := r.pace.wait(ctx, copied); err != nil {
			return err
		}
	}
	_, err = r.v.server.Restored(wire.RestoreProgress{Generation: r.generation, Next: next, Done: true})
	return err
}

// awaitStore returns when there may be space, or the store may take batches again, for
// the lack of which err is, and lets the user know meanwhile.
func (r *restoring) awaitStore(err error) error {
	if _, err := r.v.server.Restored(wire.RestoreProgress{Generation: r.generation, Trouble: err.Error()}); err != nil {
		return err
	}
	if isBroken(err) {
		return r.v.copier.mend()
	}
	if err := r.v.server.AwaitSpace(0); err != nil {
		return fmt.Errorf("waiting for space: %w", err)
	}
	return nil
}

// Bounds of one step of a restore.
const (
	restoreChunks = 1 << 12 // that are looked at
	restoreBytes  = 8 << 20 // that are copied; no more than a batch's
)

// step restores the chunks from first on, as many as make one step, and returns how
// many bytes it copied and the chunk up to which all is restored and durable. No
// change of the state comes in between: what is not settled when a chunk is copied
// out is so when it is overwritten.
func (r *restoring) step(first block.Chunk) (copied int64, upTo block.Chunk, err error) {
	v := r.v
	v.gate.RLock()
	defer v.gate.RUnlock()
	if err := v.check(0, 0); err != nil {
		return 0, first, err
	}
	list, err := v.server.MapRestoring(r.generation, first, min(first+restoreChunks, block.Chunk(v.geometry().Chunks())), nil)
	if err != nil {
		return 0, first, err
	}
	list, upTo, err = r.differing(list)
	if err != nil || len(list) == 0 {
		return 0, upTo, err
	}
	writes, size, bad := r.read(list)
	if lost, is := errors.AsType[lostSource](bad); is && lost.chunk > list[0].Chunk {
		list, upTo = before(list, lost.chunk), lost.chunk // what precedes it is restored first
		writes, size, bad = r.read(list)
	}
	if bad != nil {
		return 0, first, bad
	}
	if err := v.copyOutAlone(list); err != nil {
		return 0, first, err
	}
	if err := device.Do(v.dev, writes); err != nil {
		return 0, first, fmt.Errorf("writing to the origin: %w", err)
	}
	if err := v.dev.Flush(); err != nil {
		return 0, first, fmt.Errorf("flushing the origin: %w", err)
	}
	return size, upTo, nil
}

// differing returns those mappings that are to be copied, as many as make one step,
// and the chunk after it.
func (r *restoring) differing(list []wire.Mapping) (stored []wire.Mapping, upTo block.Chunk, err error) {
	room := uint64(max(1, min(restoreBytes, r.v.copier.batchBytes)>>r.v.geometry().ChunkShift()))
	for _, m := range list {
		all := m.Len
		switch m.Kind {
		case wire.Lost:
			if m.Chunk == list[0].Chunk {
				return nil, upTo, lostSource{ErrLost, m.Chunk}
			}
			return stored, m.Chunk, nil
		case wire.Stored:
			if m.Len = min(m.Len, room); m.Len > 0 {
				stored = append(stored, m)
			}
			room -= m.Len
		}
		upTo = m.Chunk + block.Chunk(m.Len)
		if m.Len < all {
			break
		}
	}
	return stored, upTo, nil
}

// read reads the mappings' chunks, and returns the writes that restore them, and their
// size in bytes. The error is a lostSource, of the first one, if just some chunks
// cannot be read.
func (r *restoring) read(list []wire.Mapping) (writes []device.Op, size int64, err error) {
	reads, writes, size := r.copies(list)
	if err := device.Do(r.v.store.Store, reads); err == nil {
		return writes, size, nil
	}
	for i, m := range list {
		for j, p := int64(0), reads[i].Data; len(p) > 0; j++ {
			n := min(len(p), r.v.geometry().ChunkSize())
			off := reads[i].Off + j<<r.v.geometry().ChunkShift()
			if err := readChunk(r.v.store.Store, p[:n], off); errors.Is(err, errSilent) {
				return nil, 0, fmt.Errorf("reading the snapshot: %w", err)
			} else if err != nil {
				return nil, 0, lostSource{fmt.Errorf("reading slot %d of the snapshot: %w", m.Slot+block.Slot(j), err), m.Chunk + block.Chunk(j)}
			}
			p = p[n:]
		}
	}
	return writes, size, nil
}

// before returns the mappings of the chunks before end.
func before(list []wire.Mapping, end block.Chunk) []wire.Mapping {
	for i, m := range list {
		if m.Chunk+block.Chunk(m.Len) < end {
			continue
		}
		if list[i].Len = uint64(end - min(end, m.Chunk)); list[i].Len > 0 {
			i++
		}
		return list[:i]
	}
	return list
}

// lostSource is the error of a chunk of the snapshot that cannot be read, where others
// can be.
type lostSource struct {
	error
	chunk block.Chunk
}

// Unwrap returns why.
func (e lostSource) Unwrap() error { return e.error }

// skip asks the server to leave a chunk as it is, and returns where to go on. If the
// user did not allow that, the error says so.
func (r *restoring) skip(bad lostSource) (next block.Chunk, err error) {
	next, err = r.v.server.Restored(wire.RestoreProgress{Generation: r.generation, Next: bad.chunk, Lost: true, Trouble: bad.Error()})
	if err == nil && next <= bad.chunk {
		err = fmt.Errorf("chunk %d: %w", bad.chunk, bad)
	}
	return next, err
}

// copyOutAlone copies out those chunks of the mappings that are not settled, and
// none ahead of them. The gate is held.
func (v *Origin) copyOutAlone(list []wire.Mapping) error {
	var need []*request
	for i := 0; i < len(list); {
		first := list[i].Chunk
		end := first
		for ; i < len(list) && list[i].Chunk == end; i++ {
			end += block.Chunk(list[i].Len)
		}
		if !v.isSettled(first, end) {
			r := v.copier.newRequest(first, end)
			r.alone = true
			need = append(need, r)
		}
	}
	if len(need) == 0 {
		return nil
	}
	return v.copier.copyOut(need...)
}

// copies returns the reads and the writes that copy the mappings' chunks, and their
// size in bytes.
func (r *restoring) copies(list []wire.Mapping) (reads, writes []device.Op, size int64) {
	geo := r.v.geometry()
	length := func(m wire.Mapping) int64 {
		return min(geo.Offset(m.Chunk+block.Chunk(m.Len)), geo.Size()) - geo.Offset(m.Chunk)
	}
	for _, m := range list {
		size += length(m)
	}
	if int64(len(r.data)) < size {
		r.data = device.Buffer(int(size))
	}
	rest, end := r.data, block.Chunk(0)
	for _, m := range list {
		n := length(m)
		reads = append(reads, device.Op{Kind: device.Read, Off: r.v.slotOffset(m.Slot), Data: rest[:n]})
		if last := len(writes) - 1; last >= 0 && end == m.Chunk {
			writes[last].Data = writes[last].Data[:int64(len(writes[last].Data))+n]
		} else {
			writes = append(writes, device.Op{Kind: device.Write, Off: geo.Offset(m.Chunk), Data: rest[:n]})
		}
		rest, end = rest[n:], m.Chunk+block.Chunk(m.Len)
	}
	return reads, writes, size
}

// pace keeps a rate in bytes a second; zero: none.
type pace struct {
	rate int64
	next time.Time
}

// wait returns when n more bytes are due, or ctx has ended.
func (p *pace) wait(ctx context.Context, n int64) error {
	if p.rate <= 0 || n == 0 {
		return ctx.Err()
	}
	if now := time.Now(); p.next.Before(now) {
		p.next = now
	}
	p.next = p.next.Add(time.Duration(float64(n) / float64(p.rate) * float64(time.Second)))
	select {
	case <-time.After(time.Until(p.next)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
