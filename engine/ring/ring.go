// SPDX-License-Identifier: Apache-2.0

// Package ring carries the messages of package wire between a metadata server and the
// kernel's targets of its store: in two rings of bytes that both sides have in memory,
// as kernel/include/ddsnap_dev.h lays them out.
//
// It owns the rings, how the sides wake each other, and the device /dev/ddsnap: which
// store a connection is of, and what the kernel has of a store. It does not own the
// messages, which are bytes to it; package server is its caller. [Pair] has both ends
// in one process, for tests without the kernel's module.
//
// One goroutine at a time may read a [Conn], and one write; all else may be called at
// any time. Who waits is parked by Go's poller, and holds no thread. What the other
// side says of the rings is checked: an impossible position ends the connection with
// an error that wraps [ErrCorrupt].
package ring

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrCorrupt is wrapped by errors about rings whose positions make no sense.
var ErrCorrupt = errors.New("the ring is corrupt")

// indices is struct ddsnap_ring. Part of the kernel's interface, must not change.
// Head and tail count bytes and wrap; the writer moves the one, the reader the other.
type indices struct {
	head        atomic.Uint32
	readerWaits atomic.Uint32
	_           [14]uint32
	tail        atomic.Uint32
	writerWaits atomic.Uint32
	_           [14]uint32
}

// shared is struct ddsnap_rings, with which the memory begins. Part of the kernel's
// interface, must not change.
type shared struct {
	toServer, toKernel indices
	closed             atomic.Uint32
	_                  [63]uint32
}

// headerBytes is the size of what comes before the rings' bytes. Part of the kernel's
// interface, must not change.
const headerBytes = 4096

// direction is one ring, of a size that is a power of two.
type direction struct {
	*indices
	bytes []byte
}

// queued returns how many bytes are between two positions.
func (d direction) queued(head, tail uint32) (uint32, error) {
	n := head - tail
	if n > uint32(len(d.bytes)) {
		return 0, fmt.Errorf("%w: %d bytes in a ring of %d", ErrCorrupt, n, len(d.bytes))
	}
	return n, nil
}

// copyOut copies n bytes from the position at to p.
func (d direction) copyOut(p []byte, at uint32) {
	n := copy(p, d.bytes[at&uint32(len(d.bytes)-1):])
	copy(p[n:], d.bytes)
}

// copyIn copies p to the position at.
func (d direction) copyIn(at uint32, p []byte) {
	n := copy(d.bytes[at&uint32(len(d.bytes)-1):], p)
	copy(d.bytes, p[n:])
}

// Conn is one end of a connection: the server's, but for [Pair].
type Conn struct {
	file   *os.File // that becomes readable and writable when the other side wakes this one
	raw    syscall.RawConn
	memory []byte
	shared *shared
	wake   func(fd uintptr) error // wakes the other side; fd is the file's
	ending func()                 // is called by Close first; may be nil

	in       direction
	tail     uint32     // of in; the one in memory is for the other side
	reading  sync.Mutex // held while taken and tail change
	taken    uint64     // bytes that were read
	dst      []byte     // to read into
	readN    int        // what the last read has returned
	readErr  error
	readOnce func(fd uintptr) bool

	out       direction
	head      uint32 // of out
	src       []byte // to be written
	writeErr  error
	writeOnce func(fd uintptr) bool

	close    sync.Once
	closeErr error
}

// newConn returns an end of the rings in memory, of whose directions it reads in. It
// owns the file and the memory from then on, and closes them if it fails.
func newConn(file *os.File, memory []byte, wake func(fd uintptr) error) (*Conn, error) {
	c := &Conn{file: file, memory: memory, wake: wake, shared: (*shared)(unsafe.Pointer(&memory[0]))}
	c.readOnce, c.writeOnce = c.tryRead, c.tryWrite // bound once: a message allocates nothing
	err := file.SetDeadline(time.Time{})
	if err == nil {
		c.raw, err = file.SyscallConn()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s cannot be waited for: %w", file.Name(), err), c.Close())
	}
	return c, nil
}

// Read takes what is queued, or waits for something. It returns [io.EOF] when the other
// side has ended the connection and nothing is left, and an error that wraps
// [os.ErrClosed] after Close.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c.dst, c.readN, c.readErr = p, 0, nil
	if err := c.raw.Read(c.readOnce); err != nil {
		return 0, ended(err)
	}
	return c.readN, c.readErr
}

// tryRead reads, and reports whether there was anything. If not, the other side will
// wake this one.
func (c *Conn) tryRead(fd uintptr) bool {
	head := c.in.head.Load()
	if head == c.tail {
		c.in.readerWaits.Swap(1)
		ended := c.shared.closed.Load() != 0 // before the last look: nothing follows it
		if head = c.in.head.Load(); head == c.tail {
			if ended {
				c.readErr = io.EOF
			}
			return ended
		}
	}
	c.in.readerWaits.Store(0) // the kernel leaves it set: it does not know that it has woken this side
	n, err := c.in.queued(head, c.tail)
	if err != nil {
		c.readErr = err
		return true
	}
	n = min(n, uint32(min(len(c.dst), len(c.in.bytes))))
	c.in.copyOut(c.dst[:n], c.tail)
	c.reading.Lock()
	c.tail += n
	c.taken += uint64(n)
	c.in.tail.Swap(c.tail)
	c.reading.Unlock()
	c.readN = int(n)
	c.readErr = c.wakeIf(&c.in.writerWaits, fd)
	return true
}

// wakeIf wakes the other side if it waits. It has been given something to see before.
//
// What is given and who waits are written by Swap, and not by Store, wherever the other of
// the two is looked at next: the look must not come first. Store would do, but for the race
// detector, which takes it for no more than a release.
func (c *Conn) wakeIf(waits *atomic.Uint32, fd uintptr) error {
	if waits.Load() == 0 || waits.Swap(0) == 0 {
		return nil
	}
	return c.wake(fd)
}

// Sent returns how many bytes the other side has sent in all: those that were read, and
// those that are queued.
func (c *Conn) Sent() (sent uint64, err error) {
	cerr := c.raw.Control(func(uintptr) { // the memory stays meanwhile
		c.reading.Lock()
		defer c.reading.Unlock()
		var n uint32
		if n, err = c.in.queued(c.in.head.Load(), c.tail); err == nil {
			sent = c.taken + uint64(n)
		}
	})
	if cerr != nil {
		err = ended(cerr)
	}
	return sent, err
}

// ended returns the error of a file that was closed, or waited for too long.
func ended(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return os.ErrClosed // there is no other cause
}

// Write sends all of p, which must fit into the ring, or nothing of it. It waits for
// room until the deadline for writing. When it returns, all is queued.
func (c *Conn) Write(p []byte) (int, error) {
	if len(p) > len(c.out.bytes) {
		return 0, fmt.Errorf("a message of %d bytes does not fit into a ring of %d", len(p), len(c.out.bytes))
	}
	c.src, c.writeErr = p, nil
	if err := c.raw.Write(c.writeOnce); err != nil {
		return 0, ended(err)
	}
	if c.writeErr != nil {
		return 0, c.writeErr
	}
	return len(p), nil
}

// tryWrite writes, and reports whether there was room. If not, the other side will wake
// this one.
func (c *Conn) tryWrite(fd uintptr) bool {
	if ok, err := c.hasRoom(); err != nil || !ok {
		c.writeErr = err
		return err != nil
	}
	c.out.copyIn(c.head, c.src)
	c.head += uint32(len(c.src))
	c.out.head.Swap(c.head)
	c.writeErr = c.wakeIf(&c.out.readerWaits, fd)
	return true
}

// hasRoom reports whether there is room for what is to be written, or asks to be woken
// when there is more.
func (c *Conn) hasRoom() (bool, error) {
	for last := false; ; last = true {
		if c.shared.closed.Load() != 0 {
			return false, unix.EPIPE
		}
		n, err := c.out.queued(c.head, c.out.tail.Load())
		switch {
		case err != nil:
			return false, err
		case len(c.out.bytes)-int(n) >= len(c.src):
			c.out.writerWaits.Store(0)
			return true, nil
		case last:
			return false, nil
		}
		c.out.writerWaits.Swap(1)
	}
}

// SetReadDeadline bounds how long Read waits; zero is for ever.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.file.SetReadDeadline(t) }

// SetWriteDeadline bounds how long Write waits; zero is for ever.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.file.SetWriteDeadline(t) }

// Close ends the connection. What waits returns an error that wraps [os.ErrClosed].
func (c *Conn) Close() error {
	c.close.Do(func() {
		if c.ending != nil {
			c.ending()
		}
		// Nobody looks at the memory once the file is closed: all do so while they hold it.
		c.closeErr = errors.Join(c.file.Close(), unix.Munmap(c.memory))
	})
	return c.closeErr
}
