// SPDX-License-Identifier: Apache-2.0

package device

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// zeroUnit is the grain in which files and devices can zero or drop ranges
// cheaply: a block of the common file systems.
const zeroUnit = 4096

// Discard implements [Device] by punching a hole or discarding the blocks wholly
// within the range. Where the file system or device can't, it does nothing, as
// the contract allows.
func (f *File) Discard(off, n int64) error {
	if err := f.checkWritable(off, n); err != nil {
		return f.wrap("discard", off, n, err)
	}
	lo, hi := inner(off, n)
	if lo >= hi {
		return f.wrap("discard", off, n, f.control(nothing))
	}
	err := f.control(func(fd int) error {
		if f.blockDev {
			return ioctlRange(fd, unix.BLKDISCARD, lo, hi-lo)
		}
		return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, lo, hi-lo)
	})
	if unsupported(err) {
		return nil
	}
	return f.wrap("discard", off, n, err)
}

// nothing lets control find out whether the file is closed.
func nothing(int) error { return nil }

// WriteZeroes implements [Zeroer]: blocks wholly within the range are zeroed by
// the file system or device, where it can, the rest by writing.
func (f *File) WriteZeroes(off, n int64) error {
	if err := f.checkWritable(off, n); err != nil {
		return f.wrap("write zeroes", off, n, err)
	}
	lo, hi := inner(off, n)
	if lo >= hi {
		return f.writeZeroes(off, n)
	}
	if err := f.writeZeroes(off, lo-off); err != nil {
		return err
	}
	err := f.zeroBlocks(lo, hi-lo)
	if unsupported(err) {
		err = f.writeZeroes(lo, hi-lo)
	}
	if err != nil {
		return f.wrap("write zeroes", off, n, err)
	}
	return f.writeZeroes(hi, off+n-hi)
}

func (f *File) zeroBlocks(off, n int64) error {
	set := touched(off, n)
	f.stripes.share(set)
	defer f.stripes.unshare(set)
	return f.control(func(fd int) error {
		if f.blockDev {
			return ioctlRange(fd, unix.BLKZEROOUT, off, n)
		}
		err := unix.Fallocate(fd, unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, off, n)
		if unsupported(err) { // tmpfs, for one, has only holes
			err = unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
		}
		return err
	})
}

// writeZeroes zeroes by writing.
func (f *File) writeZeroes(off, n int64) error {
	for {
		part := zeroes[:min(n, int64(len(zeroes)))]
		if _, err := f.WriteAt(part, off); err != nil {
			return err
		}
		off += int64(len(part))
		if n -= int64(len(part)); n == 0 {
			return nil
		}
	}
}

func (f *File) checkWritable(off, n int64) error {
	if f.readOnly {
		return unix.EBADF
	}
	return CheckIO(off, n, f.Size())
}

// inner returns the whole units within a range, as [lo, hi).
func inner(off, n int64) (lo, hi int64) {
	return (off + zeroUnit - 1) &^ (zeroUnit - 1), (off + n) &^ (zeroUnit - 1)
}

func unsupported(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.ENOTTY)
}

// ioctlRange issues an ioctl whose argument is an offset and a length.
func ioctlRange(fd int, req uint, off, n int64) error {
	arg := [2]uint64{uint64(off), uint64(n)}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(req), uintptr(unsafe.Pointer(&arg)))
	if errno != 0 {
		return errno
	}
	return nil
}
