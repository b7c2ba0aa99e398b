// SPDX-License-Identifier: Apache-2.0

// Package uring is a minimal io_uring, for commands to device drivers that take
// them in no other way (IORING_OP_URING_CMD, Linux 5.19 and newer).
//
// It owns the ring's memory and the two queues. It does not own what the entries
// mean or the memory that they point at, which must not be the Go heap's: the
// kernel keeps addresses across calls. Package attach is its only caller. A Ring
// belongs to one goroutine, that should be locked to its thread where the driver
// ties commands to the thread that gave them. An error of a system call leaves the
// ring unusable; errors of commands are in their completions.
package uring

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Numbers of include/uapi/linux/io_uring.h.
const (
	OpPollAdd  = 6
	OpURingCmd = 46

	setupSQE128      = 1 << 10
	featSingleMmap   = 1 << 0
	enterGetEvents   = 1 << 0
	offsetRings      = 0
	offsetEntries    = 0x10000000
	paramsSize       = 120
	entrySize        = 64
	completionSize   = 16
	entryCommandAt   = 48
	paramsSQOffsets  = 40
	paramsCQOffsets  = 80
	commandSize      = entrySize - entryCommandAt
	largeCommandSize = 2*entrySize - entryCommandAt
)

// Ring is an io_uring.
type Ring struct {
	fd      int
	rings   []byte // both queues
	entries []byte
	size    int // of an entry

	sqTail, sqHead, cqHead, cqTail *atomic.Uint32
	sqMask, cqMask                 uint32
	cqes                           []byte
	tail                           uint32 // of the submission queue, as far as filled
	pending                        uint32 // filled and not submitted
}

// Entry is a submission queue entry.
type Entry struct{ b []byte }

// Completion is the end of a command: the Data that its Entry had, and a result,
// negative error numbers included.
type Completion struct {
	Data   uint64
	Result int32
}

// New makes a ring for that many commands at a time. A large one takes commands of
// 80 bytes, the other of 16.
func New(commands int, large bool) (*Ring, error) {
	var p [paramsSize]byte
	r := &Ring{size: entrySize}
	if large {
		binary.NativeEndian.PutUint32(p[8:], setupSQE128)
		r.size = 2 * entrySize
	}
	fd, _, e := unix.Syscall(unix.SYS_IO_URING_SETUP, uintptr(commands), uintptr(unsafe.Pointer(&p)), 0)
	if e != 0 {
		return nil, fmt.Errorf("io_uring_setup: %w", e)
	}
	r.fd = int(fd)
	unix.CloseOnExec(r.fd)
	if err := r.mapRings(p[:]); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// mapRings maps what the kernel made, by the parameters that it returned.
func (r *Ring) mapRings(p []byte) (err error) {
	u32 := func(at int) uint32 { return binary.NativeEndian.Uint32(p[at:]) }
	if u32(20)&featSingleMmap == 0 {
		return errors.New("io_uring without IORING_FEAT_SINGLE_MMAP: the kernel is too old")
	}
	sqEntries, cqEntries := u32(0), u32(4)
	sqArray, cqes := u32(paramsSQOffsets+24), u32(paramsCQOffsets+20)
	length := max(int(sqArray+4*sqEntries), int(cqes+completionSize*cqEntries))
	if r.rings, err = unix.Mmap(r.fd, offsetRings, length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
		return fmt.Errorf("mapping the queues of an io_uring: %w", err)
	}
	if r.entries, err = unix.Mmap(r.fd, offsetEntries, int(sqEntries)*r.size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
		return fmt.Errorf("mapping the entries of an io_uring: %w", err)
	}
	word := func(at uint32) *atomic.Uint32 { return (*atomic.Uint32)(unsafe.Pointer(&r.rings[at])) }
	r.sqHead, r.sqTail = word(u32(paramsSQOffsets)), word(u32(paramsSQOffsets+4))
	r.cqHead, r.cqTail = word(u32(paramsCQOffsets)), word(u32(paramsCQOffsets+4))
	r.sqMask, r.cqMask = sqEntries-1, cqEntries-1
	r.cqes = r.rings[cqes:][:completionSize*cqEntries]
	r.tail = r.sqTail.Load()
	for i := range sqEntries { // place i of the queue is always entry i
		binary.NativeEndian.PutUint32(r.rings[sqArray+4*i:], i)
	}
	return nil
}

// Close releases the ring; the kernel cancels what is under way. Nothing of it may
// be used after.
func (r *Ring) Close() error {
	var errs []error
	for _, m := range [][]byte{r.entries, r.rings} {
		if m != nil {
			errs = append(errs, unix.Munmap(m))
		}
	}
	return errors.Join(append(errs, unix.Close(r.fd))...)
}

// Next returns the next entry, all zeroes but for what is given, or an error when
// the queue is full. It goes to the kernel with the next Submit.
func (r *Ring) Next(op uint8, fd int, data uint64) (Entry, error) {
	if r.tail-r.sqHead.Load() > r.sqMask {
		return Entry{}, errors.New("the submission queue of the io_uring is full")
	}
	at := int(r.tail&r.sqMask) * r.size
	e := Entry{r.entries[at : at+r.size]}
	clear(e.b)
	e.b[0] = op
	binary.NativeEndian.PutUint32(e.b[4:], uint32(fd))
	binary.NativeEndian.PutUint64(e.b[32:], data)
	r.tail++
	r.pending++
	return e, nil
}

// SetCommand makes an entry of OpURingCmd carry a driver's command.
func (e Entry) SetCommand(number uint32, command []byte) {
	binary.NativeEndian.PutUint32(e.b[8:], number)
	copy(e.b[entryCommandAt:], command)
}

// SetPoll makes an entry of OpPollAdd wait for events.
func (e Entry) SetPoll(events uint32) { binary.NativeEndian.PutUint32(e.b[28:], events) }

// Submit gives the kernel all new entries, and waits until there are that many
// completions at least.
func (r *Ring) Submit(wait int) error {
	r.sqTail.Store(r.tail)
	flags := uintptr(0)
	if wait > 0 {
		flags = enterGetEvents
	}
	for {
		n, _, e := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), uintptr(r.pending), uintptr(wait), flags, 0, 0)
		if e == unix.EINTR {
			if r.Ready() >= wait {
				return nil
			}
			continue
		}
		if e != 0 {
			return fmt.Errorf("io_uring_enter: %w", e)
		}
		if r.pending -= uint32(n); r.pending == 0 {
			return nil
		}
	}
}

// Ready returns how many completions can be taken.
func (r *Ring) Ready() int { return int(r.cqTail.Load() - r.cqHead.Load()) }

// Take removes the oldest completion; ok is false when there is none.
func (r *Ring) Take() (c Completion, ok bool) {
	head := r.cqHead.Load()
	if head == r.cqTail.Load() {
		return c, false
	}
	b := r.cqes[completionSize*(head&r.cqMask):]
	c = Completion{Data: binary.NativeEndian.Uint64(b), Result: int32(binary.NativeEndian.Uint32(b[8:]))}
	r.cqHead.Store(head + 1)
	return c, true
}
