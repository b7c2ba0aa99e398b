// SPDX-License-Identifier: Apache-2.0

package device

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/engine/block"
)

// alignment is what O_DIRECT wants of a request.
type alignment struct {
	block  int // of offset and length; zero without O_DIRECT
	memory int // of the buffer's address
	reason string
}

// learn asks the kernel for the alignment. Where it does not say (before Linux
// 6.1) a block device's logical block size holds, and 4 KiB for files.
func (a *alignment) learn(fd int, blockDev bool, size int64) error {
	var st unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &st)
	switch {
	case err == nil && st.Mask&unix.STATX_DIOALIGN != 0:
		a.block, a.memory = int(st.Dio_offset_align), int(st.Dio_mem_align)
		if a.block == 0 {
			a.reason = "the file system has no O_DIRECT for this file"
			return nil
		}
	case blockDev:
		if a.block, err = unix.IoctlGetInt(fd, unix.BLKSSZGET); err != nil {
			return fmt.Errorf("asking for the logical block size: %w", err)
		}
		a.memory = a.block
	default:
		a.block, a.memory = bufferAlign, bufferAlign
	}
	if a.block > bufferAlign || a.memory > bufferAlign {
		a.reason = fmt.Sprintf("O_DIRECT wants an alignment of %d bytes, at most %d are supported", max(a.block, a.memory), bufferAlign)
	} else if size%int64(a.block) != 0 {
		a.reason = fmt.Sprintf("the size %d is not a multiple of the block size %d", size, a.block)
	}
	if a.reason != "" {
		a.block = 0
	}
	return nil
}

// fits reports whether a request needs no buffer.
func (a *alignment) fits(p []byte, off int64) bool {
	return a.block == 0 || len(p) == 0 || (off|int64(len(p)))&int64(a.block-1) == 0 && Aligned(p, a.memory)
}

// floor and ceil round to the block size.
func (a *alignment) floor(off int64) int64 { return off &^ int64(a.block-1) }
func (a *alignment) ceil(off int64) int64  { return a.floor(off + int64(a.block) - 1) }

const (
	stripeCount = 64
	stripeSize  = 1 << 20
)

// stripes are locks of regions of the device. A write of whole blocks holds
// those of its regions for reading, a write of part of a block holds its
// region's alone. They are taken in ascending order of index.
type stripes [stripeCount]sync.RWMutex

// touched returns the set of stripes of a range, as bits.
func touched(off, n int64) uint64 {
	first, last := off/stripeSize, (off+max(n, 1)-1)/stripeSize
	if last-first >= stripeCount {
		return ^uint64(0)
	}
	var set uint64
	for i := first; i <= last; i++ {
		set |= 1 << (i % stripeCount)
	}
	return set
}

func (s *stripes) share(set uint64) {
	for i := range s {
		if set>>i&1 != 0 {
			s[i].RLock()
		}
	}
}

func (s *stripes) unshare(set uint64) {
	for i := range s {
		if set>>i&1 != 0 {
			s[i].RUnlock()
		}
	}
}

// bounceSize is the largest piece in which unaligned requests move.
const bounceSize = 1 << 20

type bounce struct{ data []byte }

// bounces recycles aligned buffers of bounceSize.
var bounces = sync.Pool{New: func() any { return &bounce{Buffer(bounceSize)} }}

// ReadAt implements [Device].
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	n := int64(len(p))
	if err := CheckIO(off, n, f.Size()); err != nil {
		return 0, f.wrap("read", off, n, err)
	}
	var err error
	if f.direct.fits(p, off) {
		_, err = f.file.ReadAt(p, off)
	} else {
		err = f.readBounced(p, off)
	}
	if err != nil {
		return 0, f.wrap("read", off, n, err)
	}
	return len(p), nil
}

func (f *File) readBounced(p []byte, off int64) error {
	b := bounces.Get().(*bounce)
	defer bounces.Put(b)
	for len(p) > 0 {
		start := f.direct.floor(off)
		end := min(f.direct.ceil(off+int64(len(p))), start+bounceSize)
		if _, err := f.file.ReadAt(b.data[:end-start], start); err != nil {
			return err
		}
		n := copy(p, b.data[off-start:end-start])
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// WriteAt implements [Device].
func (f *File) WriteAt(p []byte, off int64) (int, error) {
	n := int64(len(p))
	if err := CheckIO(off, n, f.Size()); err != nil {
		return 0, f.wrap("write", off, n, err)
	}
	var err error
	if f.direct.fits(p, off) {
		err = f.writeWhole(p, off)
	} else {
		err = f.writeBounced(p, off)
	}
	if err != nil {
		return 0, f.wrap("write", off, n, err)
	}
	return len(p), nil
}

// writeWhole writes whole blocks from aligned memory, or anything without
// O_DIRECT.
func (f *File) writeWhole(p []byte, off int64) error {
	if f.direct.block > block.SectorSize {
		set := touched(off, int64(len(p)))
		f.stripes.share(set)
		defer f.stripes.unshare(set)
	}
	_, err := f.file.WriteAt(p, off)
	return err
}

func (f *File) writeBounced(p []byte, off int64) error {
	b := bounces.Get().(*bounce)
	defer bounces.Put(b)
	for len(p) > 0 {
		n := min(len(p), bounceSize)
		start := f.direct.floor(off)
		var err error
		switch {
		case off != start || n < f.direct.block:
			n = min(n, int(start+int64(f.direct.block)-off))
			err = f.writePart(b.data[:f.direct.block], p[:n], start, int(off-start))
		default:
			n &^= f.direct.block - 1
			copy(b.data, p[:n])
			err = f.writeWhole(b.data[:n], off)
		}
		if err != nil {
			return err
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// writePart writes part at byte at of the block at start, of which it reads the
// rest into whole.
func (f *File) writePart(whole, part []byte, start int64, at int) error {
	lock := &f.stripes[start/stripeSize%stripeCount]
	lock.Lock()
	defer lock.Unlock()
	if _, err := f.file.ReadAt(whole, start); err != nil {
		return err
	}
	copy(whole[at:], part)
	_, err := f.file.WriteAt(whole, start)
	return err
}
