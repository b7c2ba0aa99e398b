// SPDX-License-Identifier: Apache-2.0

package device

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/engine/block"
)

// ErrInUse is wrapped when a file or device is open, mounted or held elsewhere.
var ErrInUse = errors.New("is in use by another process")

// ErrKind is wrapped when a path names something else than a device can be on.
var ErrKind = errors.New("is neither a regular file nor a block device")

// FileOptions says how [OpenFile] opens.
type FileOptions struct {
	// Create, if positive, makes a new sparse file of that many bytes; one that
	// exists already is an error.
	Create int64
	// ReadOnly opens without the right to write, and beside other readers. Only a file
	// of role Alone can be read-only.
	ReadOnly bool
	// Role says whom the file is shared with.
	Role Role
	// Unclaimed opens a block device without the kernel's own claim, which role Server
	// has otherwise: device-mapper is to have it.
	Unclaimed bool
	// Unlocked takes no lock: to read a file that another process has, which knows of it.
	// It is for read-only ones.
	Unlocked bool
	// Direct asks for O_DIRECT; see [File.Direct] for whether it was had.
	Direct bool
	// Patience is how long to wait for processes that only read the file, such as one
	// that looks at a store's status, to close it. Whoever writes is not waited for.
	Patience time.Duration
}

// File is a regular file or a block device as a [Device]. It holds advisory locks on
// the file until Close: all of it, exclusively unless it is read-only, or the byte of
// its [Role].
//
// With O_DIRECT, requests whose range or memory is not aligned as the device
// wants go through a buffer; a write of a part of a block reads the rest first,
// and excludes other writes to that block meanwhile. Aligned requests allocate
// nothing. Once a Flush has failed all later ones fail: the kernel forgets what
// it could not write.
type File struct {
	path     string
	file     *os.File
	raw      syscall.RawConn
	size     atomic.Int64
	blockDev bool
	readOnly bool
	role     Role
	held     uint32 // a byte that is locked, of role Snapshots
	direct   alignment
	stripes  stripes
	flushErr atomic.Pointer[error]
}

// OpenFile opens the regular file or block device at path. Its size, a positive
// multiple of 512, is fixed from then on but for [File.Refresh]. Errors wrap [ErrInUse] when another
// process holds the lock or, for a block device, mounts or claims it. It blocks for the
// Patience of o at most.
func OpenFile(path string, o FileOptions) (*File, error) {
	if o.Create > 0 {
		if err := create(path, o.Create); err != nil {
			return nil, fmt.Errorf("creating %s: %w", path, err)
		}
	}
	f := &File{path: path, readOnly: o.ReadOnly, role: o.Role}
	switch {
	case o.ReadOnly && o.Role != Alone:
		return nil, fmt.Errorf("opening %s: a file that is shared cannot be read-only", path)
	case o.Unlocked && !o.ReadOnly:
		return nil, fmt.Errorf("opening %s: a file without a lock must be read-only", path)
	}
	if err := f.open(o.Direct, !o.ReadOnly && o.Role <= Server && !o.Unclaimed); err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	if err := f.prepare(o); err != nil {
		f.file.Close()
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	return f, nil
}

// create makes a sparse file, durable as a name once it returns.
func create(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = f.Truncate(size)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// open opens the path, with O_DIRECT if that is wanted and the file system lets
// it be opened so.
func (f *File) open(direct, claim bool) error {
	info, err := os.Stat(f.path)
	if err != nil {
		return err
	}
	flags := os.O_RDWR
	if f.readOnly {
		flags = os.O_RDONLY
	}
	switch mode := info.Mode(); {
	case mode.IsRegular():
	case mode&os.ModeDevice != 0 && mode&os.ModeCharDevice == 0:
		f.blockDev = true
		if claim {
			flags |= unix.O_EXCL // the kernel's own claim: fails while mounted or held
		}
	default:
		return ErrKind
	}
	f.direct.reason = "not asked for"
	if direct {
		f.direct.reason = ""
		f.file, err = os.OpenFile(f.path, flags|unix.O_DIRECT, 0)
		if !errors.Is(err, unix.EINVAL) {
			return claimed(err)
		}
		f.direct.reason = "the file system refuses O_DIRECT"
	}
	f.file, err = os.OpenFile(f.path, flags, 0)
	return claimed(err)
}

func claimed(err error) error {
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%w: unmount it or release what holds it: %w", ErrInUse, err)
	}
	return err
}

// prepare locks the open file and learns its shape.
func (f *File) prepare(o FileOptions) (err error) {
	if f.raw, err = f.file.SyscallConn(); err != nil {
		return err
	}
	if !o.Unlocked {
		if err := f.lock(o.Patience); err != nil {
			return err
		}
	}
	if err := f.Refresh(); err != nil {
		return err
	}
	if !o.Direct || f.direct.reason != "" {
		return nil
	}
	if err := f.control(func(fd int) error { return f.direct.learn(fd, f.blockDev, f.Size()) }); err != nil {
		return err
	}
	if f.direct.reason != "" { // opened so, but can't do it: go on without
		return f.control(func(fd int) error {
			flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
			if err == nil {
				_, err = unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags&^unix.O_DIRECT)
			}
			return err
		})
	}
	return nil
}

// lookEvery is how often a file that others read is tried again.
const lookEvery = 10 * time.Millisecond

// lock takes the locks, and waits up to patience for those who only read.
func (f *File) lock(patience time.Duration) error {
	for began := time.Now(); ; time.Sleep(lookEvery) {
		err := f.tryLock()
		if !errors.Is(err, ErrInUse) || time.Since(began) >= patience || f.written() {
			return err
		}
	}
}

// tryLock takes the lock of the role before the whole file's, so that what is in its
// way says whether it is a writer's.
func (f *File) tryLock() error {
	if err := f.lockRole(); err != nil {
		return err
	}
	how := unix.LOCK_EX
	if f.readOnly || f.role != Alone {
		how = unix.LOCK_SH
	}
	err := f.control(func(fd int) error { return unix.Flock(fd, how|unix.LOCK_NB) })
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		return fmt.Errorf("%w: %s", ErrInUse, lockHolder(f.file))
	default:
		return err
	}
}

// control runs do with the descriptor, which stays open meanwhile, again when a
// signal interrupts it.
func (f *File) control(do func(fd int) error) error {
	var err error
	outer := f.raw.Control(func(fd uintptr) {
		for {
			if err = do(int(fd)); err != unix.EINTR {
				return
			}
		}
	})
	if outer != nil { // there is no other cause
		return os.ErrClosed
	}
	return err
}

// wrap names the file, the operation and the range.
func (f *File) wrap(what string, off, n int64, err error) error {
	if err == nil {
		return nil
	}
	switch {
	case errors.Is(err, os.ErrClosed):
		err = ErrClosed
	case f.readOnly && errors.Is(err, unix.EBADF):
		err = fmt.Errorf("it was opened read-only: %w", unix.EBADF)
	case errors.Is(err, io.EOF):
		err = fmt.Errorf("the file is shorter than when it was opened: %w", io.ErrUnexpectedEOF)
	}
	var inner *os.PathError
	if errors.As(err, &inner) {
		err = inner.Err
	}
	return fmt.Errorf("%s: %s of %d bytes at %d: %w", f.path, what, n, off, err)
}

// Path returns the path that was opened.
func (f *File) Path() string { return f.path }

// Size implements [Device].
func (f *File) Size() int64 { return f.size.Load() }

// Refresh implements [Refresher]. An error leaves the size as it was.
func (f *File) Refresh() error {
	size, err := f.file.Seek(0, io.SeekEnd)
	switch {
	case err != nil:
		return f.wrap("looking for the size", 0, 0, err)
	case size <= 0 || size%block.SectorSize != 0:
		return fmt.Errorf("%w: its size %d is not a positive multiple of %d", ErrAlign, size, block.SectorSize)
	}
	f.size.Store(size)
	return nil
}

// Identity is what a file is known by, by whatever path, while this machine runs.
type Identity struct {
	Device uint64 `json:"device"` // of the file system that it is on
	Inode  uint64 `json:"inode"`
	Number uint64 `json:"number,omitempty"` // of a block device
}

// Identity returns which file was opened.
func (f *File) Identity() (id Identity, err error) {
	var st unix.Stat_t
	err = f.control(func(fd int) error { return unix.Fstat(fd, &st) })
	return Identity{st.Dev, st.Ino, st.Rdev}, f.wrap("asking which it is", 0, 0, err)
}

// Direct reports whether I/O goes past the page cache; if it does not, the
// reason says why.
func (f *File) Direct() (ok bool, reason string) {
	return f.direct.block != 0, f.direct.reason
}

// BlockSize returns the unit in which O_DIRECT addresses the device, in bytes,
// or 512 without O_DIRECT. Requests aligned to it are fastest.
func (f *File) BlockSize() int { return max(f.direct.block, block.SectorSize) }

// Close releases the lock and closes the file. It flushes nothing.
func (f *File) Close() error { return f.wrap("close", 0, 0, f.file.Close()) }

// Flush implements [Device] by fdatasync, which on a block device empties its
// cache too.
func (f *File) Flush() error {
	if err := f.flushErr.Load(); err != nil {
		return f.wrap("flush after a failed flush", 0, 0, *err)
	}
	err := f.control(unix.Fdatasync)
	if err != nil && !errors.Is(err, os.ErrClosed) {
		f.flushErr.CompareAndSwap(nil, &err)
	}
	return f.wrap("flush", 0, 0, err)
}
