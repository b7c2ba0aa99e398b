// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"time"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/wire"
)

// restore copies what a revert or merge of the origin has left to copy, for a client
// that holds its writes meanwhile and reads as MapRestoring says. Like the restores of
// package volume it repeats itself after a crash, and has each chunk copied out before
// it overwrites it. It must have ended before the session does: another client may then
// end the restore, and write.
type restore struct {
	c       *conn
	session *wire.Session
	g       block.Generation
	stop    context.CancelFunc
	ended   chan struct{}
	buf     []byte
}

// Bounds of a restore's steps.
const (
	restoreChunks = 1 << 12 // of which it asks at once where they are
	restoreBytes  = 8 << 20 // that it copies before it notes how far it is
	restoreBuffer = 1 << 20
	restoreRetry  = 2 * time.Second // until it is tried again
)

// beginRestore begins the restore that the client has heard of with a state, if the
// server is to carry it out.
func (c *conn) beginRestore(state wire.State) {
	if state.Restoring == 0 || c.features&wire.FeatureHold == 0 || c.l.opts.Origin == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.done:
		return // the client begins it again on its next connection
	default:
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &restore{c: c, session: c.session, g: state.Restoring, stop: stop, ended: make(chan struct{})}
	c.restore = r
	go func() {
		defer close(r.ended)
		r.keep(ctx)
	}()
}

// endRestore returns when no restore of this connection writes to the origin any more.
func (c *conn) endRestore() {
	c.mu.Lock()
	r := c.restore
	c.mu.Unlock()
	if r != nil {
		r.stop()
		<-r.ended
	}
}

// keep runs the restore until it has succeeded, the connection is closed, or ctx ends.
func (r *restore) keep(ctx context.Context) {
	for {
		err := r.run(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		// If the store cannot even take that in, it has said why.
		_, _ = r.c.l.server.Restored(wire.RestoreProgress{Generation: r.g, Trouble: err.Error()})
		select {
		case <-time.After(restoreRetry):
		case <-ctx.Done():
			return
		case <-r.c.done:
			return
		}
	}
}

// run copies all that is left, and ends the restore.
func (r *restore) run(ctx context.Context) (err error) {
	origin, err := r.c.l.opts.Origin()
	if err != nil {
		return fmt.Errorf("restoring the origin: %w", err)
	}
	defer func() {
		if cerr := origin.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("restoring the origin: %w", cerr)
		}
	}()
	s := r.c.l.server
	next, err := s.Restored(wire.RestoreProgress{Generation: r.g})
	for end := block.Chunk(r.session.Geometry.Chunks()); err == nil && next < end; {
		if err := ctx.Err(); err != nil {
			return err
		}
		var list []wire.Mapping
		if list, err = s.MapRestoring(r.g, next, min(next+restoreChunks, end), nil); err != nil {
			break
		}
		if next, err = r.step(ctx, origin, next, list); err != nil {
			return fmt.Errorf("restoring the origin: %w", err)
		}
		next, err = s.Restored(wire.RestoreProgress{Generation: r.g, Next: next})
	}
	if err != nil {
		return err
	}
	_, err = s.Restored(wire.RestoreProgress{Generation: r.g, Next: next, Done: true})
	return err
}

// step restores chunks of the mappings, and returns up to which all are, durably.
func (r *restore) step(ctx context.Context, origin device.Device, next block.Chunk, list []wire.Mapping) (block.Chunk, error) {
	geo, copied := r.session.Geometry, 0
	piece := max(1, restoreBuffer>>geo.ChunkShift())
	for _, m := range list {
		switch m.Kind {
		case wire.Lost:
			return next, fmt.Errorf("chunk %d: %w", m.Chunk, store.ErrDamaged)
		case wire.Shared:
			next = m.Chunk + block.Chunk(m.Len)
			continue
		}
		for m.Len > 0 && copied < restoreBytes {
			n := min(uint64(piece), m.Len)
			if err := r.copy(ctx, origin, m.Chunk, m.Chunk+block.Chunk(n), m.Slot); err != nil {
				return next, err
			}
			m.Chunk, m.Slot, m.Len = m.Chunk+block.Chunk(n), m.Slot+block.Slot(n), m.Len-n
			next = m.Chunk
			copied += int(n << geo.ChunkShift())
		}
		if m.Len > 0 {
			break
		}
	}
	if copied == 0 {
		return next, nil
	}
	if err := origin.Flush(); err != nil {
		return next, fmt.Errorf("flushing the origin: %w", err)
	}
	return next, nil
}

// copy overwrites chunks of the origin, which other snapshots may share, with what is in
// slots from slot on.
func (r *restore) copy(ctx context.Context, origin device.Device, first, end block.Chunk, slot block.Slot) error {
	geo := r.session.Geometry
	_, err := r.c.askFor(ctx, wire.TypeSettle, func(dst []byte) []byte { return wire.AppendNumbers(dst, uint64(first), uint64(end)) })
	if err != nil {
		return fmt.Errorf("copying out chunks %d to %d: %w", first, end-1, err)
	}
	off := geo.Offset(first)
	n := min(geo.Offset(end), geo.Size()) - off
	if int64(len(r.buf)) < n {
		r.buf = device.Buffer(int(n))
	}
	if _, err := r.c.l.opts.Store.ReadAt(r.buf[:n], r.session.DataOffset+int64(uint64(slot)<<geo.ChunkShift())); err != nil {
		return fmt.Errorf("reading the snapshot: %w", err)
	}
	if _, err := origin.WriteAt(r.buf[:n], off); err != nil {
		return fmt.Errorf("writing to the origin: %w", err)
	}
	return nil
}
