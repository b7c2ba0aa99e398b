// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/engine/attach/uring"
)

// ublkMaxIO is the largest request, and the size of the buffer that each of those
// in flight has.
const ublkMaxIO = 256 << 10

// ublkQueue takes the requests of one hardware queue. The driver wants all of a
// queue's commands from one thread: that is run's. Each request is served by a
// goroutine, that hands the result back and wakes the thread.
type ublkQueue struct {
	target *target
	id     int
	depth  int
	device int // descriptor of /dev/ublkcN
	legacy bool

	ring        *uring.Ring
	wake        int    // eventfd
	descriptors []byte // of the requests, by tag; the driver writes them
	buffers     []byte // of the data, by tag

	mu       sync.Mutex
	finished []ublkResult
	asleep   bool // the thread must be woken
}

type ublkResult struct {
	tag    int
	result int32
}

// ublkWake is the Data of the poll of the eventfd; others are tags.
const ublkWake = 1 << 32

func newUblkQueue(t *target, device, id, depth int, legacy bool) (q *ublkQueue, err error) {
	q = &ublkQueue{target: t, id: id, depth: depth, device: device, legacy: legacy, wake: -1}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("ublk queue %d: %w", id, err), q.close())
			q = nil
		}
	}()
	if q.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return q, err
	}
	at := int64(id) * int64(pages(ublkMaxDepth*ublkIODescSize))
	q.descriptors, err = unix.Mmap(device, at, pages(depth*ublkIODescSize), unix.PROT_READ, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return q, fmt.Errorf("mapping the requests: %w", err)
	}
	q.buffers, err = unix.Mmap(-1, 0, depth*ublkMaxIO, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return q, fmt.Errorf("mapping %d bytes of buffers: %w", depth*ublkMaxIO, err)
	}
	q.ring, err = uring.New(2*depth, false)
	return q, err
}

// close frees the queue's memory; run must have returned.
func (q *ublkQueue) close() error {
	var errs []error
	if q.ring != nil {
		errs = append(errs, q.ring.Close())
	}
	for _, m := range [][]byte{q.descriptors, q.buffers} {
		if m != nil {
			errs = append(errs, unix.Munmap(m))
		}
	}
	if q.wake >= 0 {
		errs = append(errs, unix.Close(q.wake))
	}
	return errors.Join(errs...)
}

func (q *ublkQueue) buffer(tag int) []byte {
	return q.buffers[tag*ublkMaxIO : (tag+1)*ublkMaxIO]
}

// run serves the queue until the driver has taken all its commands back. It must
// be a goroutine of its own: its thread ends with it.
func (q *ublkQueue) run() error {
	runtime.LockOSThread()
	for tag := range q.depth {
		if err := q.command(ublkFetch, tag, 0); err != nil {
			return err
		}
	}
	if err := q.pollWake(); err != nil {
		return err
	}
	var serving sync.WaitGroup
	defer serving.Wait()
	for left := q.depth; left > 0; {
		if err := q.ring.Submit(1); err != nil {
			return err
		}
		for {
			c, ok := q.ring.Take()
			if !ok {
				break
			}
			switch {
			case c.Data == ublkWake:
				if err := q.woken(); err != nil {
					return err
				}
			case c.Result == 0:
				serving.Go(func() { q.serve(int(c.Data)) })
			default: // the driver gives no more requests under this tag
				left--
			}
		}
		if err := q.commit(); err != nil {
			return err
		}
	}
	return nil
}

// command fills in a command about a tag.
func (q *ublkQueue) command(nr uint32, tag int, result int32) error {
	e, err := q.ring.Next(uring.OpURingCmd, q.device, uint64(tag))
	if err != nil {
		return err
	}
	buffer := uintptr(unsafe.Pointer(unsafe.SliceData(q.buffer(tag))))
	e.SetCommand(ublkCode(nr, q.legacy), encodeUblkIO(q.id, tag, result, buffer))
	return nil
}

func (q *ublkQueue) pollWake() error {
	e, err := q.ring.Next(uring.OpPollAdd, q.wake, ublkWake)
	if err != nil {
		return err
	}
	e.SetPoll(unix.POLLIN)
	return nil
}

// woken empties the eventfd and waits for it again.
func (q *ublkQueue) woken() error {
	var b [8]byte
	if _, err := unix.Read(q.wake, b[:]); err != nil && !errors.Is(err, unix.EAGAIN) {
		return fmt.Errorf("reading an eventfd: %w", err)
	}
	return q.pollWake()
}

// commit gives back the requests that are finished, each with its tag's next
// fetch, until none is: then the thread may sleep.
func (q *ublkQueue) commit() error {
	for {
		q.mu.Lock()
		done := q.finished
		q.finished = nil
		q.asleep = len(done) == 0
		q.mu.Unlock()
		if len(done) == 0 {
			return nil
		}
		for _, r := range done {
			if err := q.command(ublkCommitAndFetch, r.tag, r.result); err != nil {
				return err
			}
		}
		if err := q.ring.Submit(0); err != nil {
			return err
		}
	}
}

// finish hands a result to the thread, and wakes it if it sleeps.
func (q *ublkQueue) finish(tag int, result int32) {
	q.mu.Lock()
	q.finished = append(q.finished, ublkResult{tag, result})
	wake := q.asleep
	q.asleep = false
	q.mu.Unlock()
	if wake {
		_, _ = unix.Write(q.wake, binary.NativeEndian.AppendUint64(nil, 1)) // can't fail: it is not full
	}
}

// serve performs the request of a tag.
func (q *ublkQueue) serve(tag int) {
	r := parseUblkRequest(q.descriptors[tag*ublkIODescSize:])
	if (r.op == ublkOpRead || r.op == ublkOpWrite) && r.n > ublkMaxIO {
		q.finish(tag, -int32(unix.EINVAL))
		return
	}
	result, e := int32(0), unix.Errno(0)
	switch r.op {
	case ublkOpRead:
		e, result = q.target.read(q.buffer(tag)[:r.n], r.off), int32(r.n)
	case ublkOpWrite:
		e, result = q.target.write(q.buffer(tag)[:r.n], r.off, r.fua), int32(r.n)
	case ublkOpFlush:
		e = q.target.flush()
	case ublkOpDiscard:
		e = q.target.discard(r.off, r.n)
	case ublkOpWriteZeroes:
		e = q.target.zero(r.off, r.n, r.fua)
	default:
		e = unix.EOPNOTSUPP
	}
	if e != 0 {
		result = -int32(e)
	}
	q.finish(tag, result)
}
