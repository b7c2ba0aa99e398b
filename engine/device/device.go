// SPDX-License-Identifier: Apache-2.0

// Package device defines the block device that the engine reads and writes, and
// its form on files and real block devices.
//
// It owns the [Device] contract, vectored submission ([Do]), aligned buffers, the
// O_DIRECT file device ([OpenFile]), persistent memory ([Region], [OpenRegion])
// and the check that a device is not in use ([CheckUnused]). It does not own any
// meaning of the bytes. Everything that does I/O calls it; tests put memdev,
// errdev or the models of nvramsim in a file's place and must pass devtest, the
// conformance suite. A Device is safe for concurrent use; overlapping concurrent
// writes leave either's bytes, sector by sector. An error means that the range's
// content is unknown.
package device

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"

	"zumastor.org/zumastor/engine/block"
)

// Errors that callers decide on. Each is wrapped with the device, the operation
// and the range.
var (
	// ErrRange is wrapped when a range is not within the device.
	ErrRange = errors.New("range is outside the device")
	// ErrAlign is wrapped when an offset or length is not a multiple of 512.
	ErrAlign = errors.New("range is not aligned to 512 bytes")
	// ErrClosed is wrapped by every operation after Close.
	ErrClosed = errors.New("device is closed")
)

// Device is a block device: an array of bytes of fixed size with explicit
// durability.
//
// ReadAt and WriteAt move exactly len(p) bytes or return an error; they block
// until the device has taken the data. A written range is durable only after a
// Flush that began when the write had returned; until then a crash may keep,
// lose or tear it, sector by sector, and in any order. Flush waits for writes
// that have returned, not for those under way. After Discard the range reads as
// anything that the device likes until it is written again, durable or not.
// Offsets and lengths are multiples of 512 bytes.
type Device interface {
	ReadAt(p []byte, off int64) (int, error)
	WriteAt(p []byte, off int64) (int, error)
	Flush() error
	Discard(off, n int64) error
	Size() int64
}

// Zeroer is a Device that can zero a range without being sent the zeroes. The
// range is durable under the rules of WriteAt.
type Zeroer interface {
	WriteZeroes(off, n int64) error
}

// Refresher is a Device that can be larger or smaller than when it was opened.
type Refresher interface {
	// Refresh makes Size return what the size is now. Requests that are under way
	// go on.
	Refresh() error
}

// Refresh makes d's size what it is now, where d is a [Refresher].
func Refresh(d Device) error {
	if r, ok := d.(Refresher); ok {
		return r.Refresh()
	}
	return nil
}

// Doer is a Device with a vectored submission of its own: all ops are under way
// at once, and Do returns when every one has ended, with the first error by
// index. The order among ops is the device's choice.
type Doer interface {
	Do(ops []Op) error
}

// OpKind says what an [Op] does.
type OpKind uint8

// The kinds of Op.
const (
	Read OpKind = iota
	Write
)

// Op is one read or write of a vectored submission.
type Op struct {
	Kind OpKind
	Off  int64
	Data []byte
}

// Do issues all ops at once and waits for all; it returns the first error by
// index. A device that is not a [Doer] gets one goroutine an op, at most
// maxParallel at a time. Do reorders nothing and merges nothing.
func Do(d Device, ops []Op) error {
	if v, ok := d.(Doer); ok {
		return v.Do(ops)
	}
	return DoParallel(d, ops)
}

// maxParallel bounds the goroutines, and so the threads in system calls, of one
// [DoParallel]. Beyond it devices gain nothing and the scheduler suffers.
const maxParallel = 64

// blockingProcs is how many goroutines may be in the first microseconds of system
// calls at a time.
const blockingProcs = 8

// UseBlockingIO prepares the process for files with O_DIRECT, whose calls block a
// processor of the Go scheduler until it notices: with as many as the machine has
// cores, few calls are under way. It sets GOMAXPROCS to at least 8, unless the
// environment sets it. Programs call it first thing. With two cores, random 4 KiB
// writes at queue depth 32 go from 46,000 to 81,000 a second.
func UseBlockingIO() {
	if os.Getenv("GOMAXPROCS") == "" && runtime.GOMAXPROCS(0) < blockingProcs {
		runtime.GOMAXPROCS(blockingProcs)
	}
}

// DoParallel is [Do] for devices without a vectored submission of their own.
func DoParallel(d Device, ops []Op) error {
	if len(ops) == 1 {
		return do(d, ops[0])
	}
	errs := make([]error, len(ops))
	var wg sync.WaitGroup
	next := make(chan int, len(ops))
	for i := range ops {
		next <- i
	}
	close(next)
	for range min(len(ops), maxParallel) {
		wg.Go(func() {
			for i := range next {
				errs[i] = do(d, ops[i])
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func do(d Device, op Op) error {
	var err error
	if op.Kind == Read {
		_, err = d.ReadAt(op.Data, op.Off)
	} else {
		_, err = d.WriteAt(op.Data, op.Off)
	}
	return err
}

// zeroes is what WriteZeroes writes on devices that cannot zero by themselves.
var zeroes = Buffer(1 << 20)

// WriteZeroes zeroes the n bytes at off, by the device's own means where it is a
// [Zeroer], else by writing.
func WriteZeroes(d Device, off, n int64) error {
	if z, ok := d.(Zeroer); ok {
		return z.WriteZeroes(off, n)
	}
	if err := CheckIO(off, n, d.Size()); err != nil {
		return fmt.Errorf("write zeroes: %w", err)
	}
	for n > 0 {
		part := zeroes[:min(n, int64(len(zeroes)))]
		if _, err := d.WriteAt(part, off); err != nil {
			return err
		}
		off += int64(len(part))
		n -= int64(len(part))
	}
	return nil
}

// CheckRange returns an error wrapping [ErrRange] unless the n bytes at off lie
// within size. It is for implementations of Device.
func CheckRange(off, n, size int64) error {
	if off < 0 || n < 0 || off > size || n > size-off {
		return fmt.Errorf("%w: %d bytes at %d of %d", ErrRange, n, off, size)
	}
	return nil
}

// CheckIO is [CheckRange], and returns an error wrapping [ErrAlign] unless the
// range is aligned to sectors.
func CheckIO(off, n, size int64) error {
	if (off|n)%block.SectorSize != 0 {
		return fmt.Errorf("%w: %d bytes at %d", ErrAlign, n, off)
	}
	return CheckRange(off, n, size)
}
