// SPDX-License-Identifier: Apache-2.0

package device

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Mapping is a [Region] on a mapped file or device: persistent memory where a
// DAX file system or device gives it, else a plain file whose pages msync
// writes. It holds an exclusive advisory lock until Close. The file must not be
// made shorter meanwhile: touching what is gone kills the process.
type Mapping struct {
	path   string
	file   *os.File
	reason string // why persisting takes msync; empty if it doesn't

	mu  sync.RWMutex // for Close
	mem []byte       // nil after Close
}

// OpenRegion maps the whole file or device at path, which must not be empty.
func OpenRegion(path string) (*Mapping, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	m := &Mapping{path: path, file: f}
	if err := m.open(); err != nil {
		f.Close()
		return nil, fmt.Errorf("mapping %s: %w", path, err)
	}
	return m, nil
}

func (m *Mapping) open() error {
	fd := int(m.file.Fd())
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("%w: %s", ErrInUse, lockHolder(m.file))
	} else if err != nil {
		return err
	}
	size, err := m.file.Seek(0, 2)
	if err != nil {
		return err
	}
	if size == 0 {
		return errors.New("is empty: give it the size that the region is to have")
	}
	const prot = unix.PROT_READ | unix.PROT_WRITE
	m.mem, err = unix.Mmap(fd, 0, int(size), prot, unix.MAP_SHARED_VALIDATE|unix.MAP_SYNC)
	switch {
	case err == nil && writeBack == nil:
		m.reason = "the processor has no instruction to write back cache lines, or none that is known here"
		return nil
	case err == nil:
		return nil
	case !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EINVAL):
		return err
	}
	m.reason = "the file system has no DAX here (MAP_SYNC is refused)"
	m.mem, err = unix.Mmap(fd, 0, int(size), prot, unix.MAP_SHARED)
	return err
}

// Direct reports whether Persist works without a system call, by writing back
// cache lines; if it does not, the reason says why.
func (m *Mapping) Direct() (ok bool, reason string) { return m.reason == "", m.reason }

// Size implements [Region].
func (m *Mapping) Size() int64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return int64(len(m.mem))
}

// enter checks a range and locks out Close, until mu is released.
func (m *Mapping) enter(what string, off, n int64) error {
	m.mu.RLock()
	err := CheckRange(off, n, int64(len(m.mem)))
	if m.mem == nil {
		err = ErrClosed
	}
	if err == nil {
		return nil
	}
	m.mu.RUnlock()
	return fmt.Errorf("%s: %s of %d bytes at %d: %w", m.path, what, n, off, err)
}

// ReadAt implements [Region].
func (m *Mapping) ReadAt(p []byte, off int64) (int, error) {
	if err := m.enter("load", off, int64(len(p))); err != nil {
		return 0, err
	}
	defer m.mu.RUnlock()
	return copy(p, m.mem[off:]), nil
}

// WriteAt implements [Region].
func (m *Mapping) WriteAt(p []byte, off int64) (int, error) {
	if err := m.enter("store", off, int64(len(p))); err != nil {
		return 0, err
	}
	defer m.mu.RUnlock()
	return copy(m.mem[off:], p), nil
}

// Persist implements [Region].
func (m *Mapping) Persist(off, n int64) error {
	if err := m.enter("persist", off, n); err != nil {
		return err
	}
	defer m.mu.RUnlock()
	if n == 0 {
		return nil
	}
	if m.reason == "" {
		writeBack(m.mem[off : off+n])
		return nil
	}
	page := int64(os.Getpagesize())
	start := off / page * page
	if err := unix.Msync(m.mem[start:off+n], unix.MS_SYNC); err != nil {
		return fmt.Errorf("%s: persist of %d bytes at %d: %w", m.path, n, off, err)
	}
	return nil
}

// Close unmaps the file and releases the lock. It persists nothing.
func (m *Mapping) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mem == nil {
		return fmt.Errorf("%s: close: %w", m.path, ErrClosed)
	}
	err := unix.Munmap(m.mem)
	m.mem = nil
	return errors.Join(err, m.file.Close())
}
