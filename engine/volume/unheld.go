// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"fmt"
	"slices"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/wire"
)

// UnheldMapper is a server in the same process that says where the chunks of a snapshot
// are which nobody need have open; *server.Server is one.
type UnheldMapper interface {
	MapUnheld(g block.Generation, first, end block.Chunk, dst []wire.Mapping) ([]wire.Mapping, error)
}

// Unheld is the content of a snapshot that is read without opening it: so it is not in
// use, and may be deleted or squashed at any time, after which reads are errors. It is for
// what the server does in the background. It is safe for concurrent use, and needs no end.
type Unheld struct {
	src  SnapshotSource
	maps UnheldMapper
	snap layout.Snapshot
	geo  block.Geometry
}

// NewUnheld returns the content of a snapshot.
func NewUnheld(src SnapshotSource, maps UnheldMapper, snap layout.Snapshot) (*Unheld, error) {
	geo, err := block.NewGeometry(snap.Size, src.ChunkSize)
	return &Unheld{src, maps, snap, geo}, err
}

// Size returns the snapshot's size in bytes.
func (u *Unheld) Size() int64 { return u.snap.Size }

// unheldStep bounds what is read between two looks at where it is: where first writes
// move it meanwhile, so much is read again.
const unheldStep = 128 << 10

// ReadAt reads the snapshot's bytes. It returns none that are not the snapshot's: what a
// first write, a move or a deletion may have changed while it was read is read again, or
// an error.
func (u *Unheld) ReadAt(p []byte, off int64) (int, error) {
	if err := device.CheckIO(off, int64(len(p)), u.snap.Size); err != nil {
		return 0, fmt.Errorf("snapshot %d: %w", u.snap.Tag, err)
	}
	for done := 0; done < len(p); {
		n := min(len(p)-done, unheldStep)
		if err := u.read(p[done:done+n], off+int64(done)); err != nil {
			return done, fmt.Errorf("snapshot %d: %w", u.snap.Tag, err)
		}
		done += n
	}
	return len(p), nil
}

// read reads until all was where it was said to be. A chunk is copied out once, and moved
// towards the begin of the store only, so this ends.
func (u *Unheld) read(p []byte, off int64) error {
	first, end := u.geo.Span(off, int64(len(p)))
	before, err := u.maps.MapUnheld(u.snap.Generation, first, end, nil)
	for err == nil {
		wrong := u.readWhere(p, off, before)
		var after []wire.Mapping
		if after, err = u.maps.MapUnheld(u.snap.Generation, first, end, nil); err != nil {
			return err
		}
		if slices.Equal(before, after) {
			return wrong
		}
		before = after
	}
	return err
}

// readWhere fills p with the bytes at off, from where they are said to be.
func (u *Unheld) readWhere(p []byte, off int64, list []wire.Mapping) error {
	for _, m := range list {
		begin := u.geo.Offset(m.Chunk)
		from := max(off, begin)
		to := min(off+int64(len(p)), u.geo.Offset(m.Chunk+block.Chunk(m.Len)))
		dev, at := u.src.Origin, from
		switch m.Kind {
		case wire.Lost:
			return fmt.Errorf("chunk %d: %w", m.Chunk, ErrLost)
		case wire.Stored:
			dev, at = u.src.Store.Store, u.src.DataOffset+int64(uint64(m.Slot)<<u.geo.ChunkShift())+from-begin
		}
		if _, err := dev.ReadAt(p[from-off:to-off], at); err != nil {
			return err
		}
	}
	return nil
}
