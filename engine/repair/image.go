// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"errors"
	"fmt"
	"io"
	"math"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
)

// source is one of the old devices.
type source struct {
	name string
	r    io.ReaderAt
	size int64 // in bytes
}

func newSource(name string, r io.ReaderAt) *source {
	if r == nil {
		return nil
	}
	s := &source{name: name, r: r, size: math.MaxInt64}
	if d, ok := r.(interface{ Size() int64 }); ok {
		s.size = d.Size()
	}
	return s
}

// read returns the n bytes at off, both multiples of a sector.
func (s *source) read(off int64, n int) ([]byte, error) {
	if err := device.CheckRange(off, int64(n), s.size); err != nil {
		return nil, fmt.Errorf("the %s device: %w", s.name, err)
	}
	buf := device.Buffer(n)
	if got, err := s.r.ReadAt(buf, off); err != nil && !(errors.Is(err, io.EOF) && got == n) {
		return nil, fmt.Errorf("reading %d bytes at %d of the %s device: %w", n, off, s.name, err)
	}
	return buf, nil
}

// image is the old store.
type image struct {
	store, meta, journal *source
	sb                   *layout.Superblock
	// sure says that sb is the newest superblock, so that its roots and log positions
	// are the store's. If not, roots are what the survey found.
	sure  bool
	known bool // sb's number of snapshots and newest generation are the store's
}

// openImage finds out what store it is, and where its parts are.
func (r *repair) openImage(d Devices) (*image, error) {
	img := &image{store: newSource("store", d.Store), meta: newSource("metadata", d.Meta), journal: newSource("journal", d.Journal)}
	if img.meta == nil {
		img.meta = img.store
	}
	if img.store == nil {
		return nil, fmt.Errorf("%w: no store device was named", ErrNothing)
	}
	sb, sure := r.readSuperblocks(img)
	img.sb, img.sure, img.known = sb, sure, sure
	if sure {
		r.report.Old, r.report.Checkpoint = sb.UUID, sb.Checkpoint
		return img, nil
	}
	s := r.survey(img)
	switch {
	case sb != nil && s.newest <= sb.Checkpoint: // the lost one was the older
		img.sure, img.known = true, true
	case sb != nil:
		r.problem("the newest superblock, of checkpoint %d or later, is lost: the trees are looked for", s.newest)
		img.sb = s.superblock(sb)
	default:
		guessed, err := r.guess(img, s)
		if err != nil {
			return nil, err
		}
		img.sb, r.report.Guessed = s.superblock(guessed), true
	}
	r.report.Old, r.report.Checkpoint = img.sb.UUID, img.sb.Checkpoint
	if !img.sure {
		r.distrustRoots(img, s)
	}
	return img, nil
}

// readSuperblocks returns the newer of the superblocks that are whole, and whether it
// is the newest for sure.
func (r *repair) readSuperblocks(img *image) (newest *layout.Superblock, sure bool) {
	bad, never := 0, false
	for i := range int64(layout.Superblocks) {
		page, err := img.meta.read(i*block.PageSize, block.PageSize)
		var sb *layout.Superblock
		if err == nil {
			never = never || layout.NeverWritten(page[:layout.SuperblockSize])
			sb, err = layout.DecodeSuperblock(page[:layout.SuperblockSize])
		}
		if err != nil {
			bad++
			if !never {
				r.problem("superblock %d: %v", i, err)
			}
		} else if newest == nil || sb.Checkpoint > newest.Checkpoint {
			newest = sb
		}
	}
	return newest, newest != nil && (bad == 0 || never && newest.Checkpoint == 0)
}

// slotOffset returns the byte offset of a slot on the store device.
func (img *image) slotOffset(s block.Slot) int64 {
	return img.sb.DataOffset + int64(uint64(s)<<img.sb.ChunkShift)
}

// extents returns where tree pages are.
func (img *image) extents() []layout.Extent {
	return append([]layout.Extent{img.sb.TreePages}, img.sb.Grown...)
}

// scanStep is how much is read at once of what is looked through, in bytes.
const scanStep = 1 << 20

// scan calls fn for every unit of a range that can be read, in order.
func (r *repair) scan(s *source, start, length int64, unit int, fn func(off int64, p []byte) error) error {
	length = max(0, min(length, s.size-start))
	for from := int64(0); from < length; from += scanStep {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		n := int(min(scanStep, length-from)) / unit * unit
		all, err := s.read(start+from, n)
		for at := 0; at < n; at += unit {
			var p []byte
			if err == nil {
				p = all[at : at+unit]
			} else if one, oerr := s.read(start+from+int64(at), unit); oerr == nil {
				p = one
			} else {
				continue
			}
			if err := fn(start+from+int64(at), p); err != nil {
				return err
			}
		}
	}
	return nil
}
