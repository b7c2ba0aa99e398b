// SPDX-License-Identifier: Apache-2.0

// Package memdev is a block device in memory, with a volatile write cache and
// power cuts where a test wants them.
//
// It owns the bytes: sparse, so that a device of 1 PiB costs what is written to
// it and zeroes cost nothing. [New] is plain and fast, and every write to it is
// durable when it returns. [NewVolatile] keeps apart what no flush has covered,
// and [Device.Crash] returns the device as a power cut may leave it. A [Machine]
// is several devices that lose power at one instant. The package does not model
// time (see nvramsim) or errors (see errdev). Tests and modelled runs call it.
// Devices are safe for concurrent use, clones share nothing that is visible, and
// given the same random source and the same operations a crash is the same.
// Operations fail on bad ranges and after Close, and change nothing then.
package memdev

import (
	"fmt"
	"sync"
	"sync/atomic"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
)

// Device is a [device.Device] in memory. It is a Zeroer and a Doer too.
type Device struct {
	size   atomic.Int64
	data   *content
	cache  *cache // nil: every write is durable when it returns
	gate   *sync.RWMutex
	hook   atomic.Pointer[func(Event)]
	closed atomic.Bool
}

// EventKind says what an [Event] tells of.
type EventKind uint8

// The kinds of Event. A power cut in a FlushBegin hook finds nothing of that
// flush durable; one in a FlushEnd hook finds all of it durable, though the
// caller has not been told.
const (
	Wrote EventKind = iota // a write or zeroing has taken effect and is about to return
	Discarded
	FlushBegin
	FlushEnd
)

// Event is what a hook is told. Off and Len are zero for flushes.
type Event struct {
	Kind     EventKind
	Device   *Device
	Off, Len int64
}

// New returns a device of size bytes, all zeroes, whose writes are durable when
// they return. It panics unless size is a positive multiple of 512.
func New(size int64) *Device { return newDevice(size, nil, new(sync.RWMutex)) }

// NewVolatile is [New] with a write cache that only Flush makes durable, of
// unlimited size. It remembers every version of every sector since the last
// flush, so tests should flush now and then.
func NewVolatile(size int64) *Device { return newDevice(size, newCache(), new(sync.RWMutex)) }

func newDevice(size int64, c *cache, gate *sync.RWMutex) *Device {
	if size <= 0 || size%block.SectorSize != 0 {
		panic(fmt.Sprintf("memdev: size %d is not a positive multiple of %d", size, block.SectorSize))
	}
	d := &Device{data: newContent(), cache: c, gate: gate}
	d.size.Store(size)
	return d
}

// Size returns the size in bytes.
func (d *Device) Size() int64 { return d.size.Load() }

// Grow makes the device larger, with zeroes at the end, as an administrator may do
// while it is in use. It panics unless size is a multiple of 512, and not less than
// before.
func (d *Device) Grow(size int64) {
	if size < d.Size() || size%block.SectorSize != 0 {
		panic(fmt.Sprintf("memdev: device of %d bytes cannot grow to %d", d.Size(), size))
	}
	d.size.Store(size)
}

// Volatile reports whether the device has a write cache, see [NewVolatile].
func (d *Device) Volatile() bool { return d.cache != nil }

// Stored returns how many bytes of memory the durable content occupies.
func (d *Device) Stored() int64 { return int64(d.data.stored()) * blockSize }

// SetHook makes f be called at every [Event], by the goroutine that caused it
// and with no lock held, so that f may clone or crash the device. It replaces
// the hook before; nil removes it.
func (d *Device) SetHook(f func(Event)) {
	if f == nil {
		d.hook.Store(nil)
		return
	}
	d.hook.Store(&f)
}

func (d *Device) tell(kind EventKind, off, n int64) {
	if f := d.hook.Load(); f != nil {
		(*f)(Event{Kind: kind, Device: d, Off: off, Len: n})
	}
}

func (d *Device) check(what string, off, n int64) error {
	err := device.CheckIO(off, n, d.Size())
	if d.closed.Load() {
		err = device.ErrClosed
	}
	if err != nil {
		return fmt.Errorf("memory device: %s of %d bytes at %d: %w", what, n, off, err)
	}
	return nil
}

// ReadAt implements [device.Device].
func (d *Device) ReadAt(p []byte, off int64) (int, error) {
	if err := d.check("read", off, int64(len(p))); err != nil {
		return 0, err
	}
	if d.cache != nil {
		d.cache.read(d.data, p, off)
	} else {
		d.data.read(p, off)
	}
	return len(p), nil
}

// WriteAt implements [device.Device].
func (d *Device) WriteAt(p []byte, off int64) (int, error) {
	if err := d.check("write", off, int64(len(p))); err != nil {
		return 0, err
	}
	if d.cache != nil {
		d.buffer(func(id uint64) { d.cache.write(id, p, off) }, Wrote, off, int64(len(p)))
		return len(p), nil
	}
	d.gate.RLock()
	d.data.write(p, off)
	d.gate.RUnlock()
	d.tell(Wrote, off, int64(len(p)))
	return len(p), nil
}

// buffer runs one write into the cache. The write counts as under way, and no
// flush covers it, until its hook has returned.
func (d *Device) buffer(put func(id uint64), kind EventKind, off, n int64) {
	id := d.cache.begin()
	defer d.cache.end(id)
	d.gate.RLock()
	put(id)
	d.gate.RUnlock()
	d.tell(kind, off, n)
}

// Flush implements [device.Device].
func (d *Device) Flush() error {
	if err := d.check("flush", 0, 0); err != nil {
		return err
	}
	var mark horizon
	if d.cache != nil {
		mark = d.cache.horizon()
	}
	d.tell(FlushBegin, 0, 0)
	if d.cache != nil {
		d.gate.RLock()
		d.cache.flush(d.data, mark)
		d.gate.RUnlock()
	}
	d.tell(FlushEnd, 0, 0)
	return nil
}

// WriteZeroes implements [device.Zeroer]. It takes time and memory for what is
// stored in the range, not for the range.
func (d *Device) WriteZeroes(off, n int64) error {
	if err := d.check("write zeroes", off, n); err != nil {
		return err
	}
	if d.cache != nil {
		d.buffer(func(id uint64) { d.cache.replace(id, d.data, off, n, nil) }, Wrote, off, n)
		return nil
	}
	d.gate.RLock()
	d.data.zero(off, n)
	d.gate.RUnlock()
	d.tell(Wrote, off, n)
	return nil
}

// Discard implements [device.Device]. A plain device reads zeroes afterwards; a
// volatile one reads garbage where anything but zeroes was, so that tests notice
// who relies on the content.
func (d *Device) Discard(off, n int64) error {
	if err := d.check("discard", off, n); err != nil {
		return err
	}
	if d.cache != nil {
		d.buffer(func(id uint64) { d.cache.replace(id, d.data, off, n, newGarbage()) }, Discarded, off, n)
		return nil
	}
	d.gate.RLock()
	d.data.zero(off, n)
	d.gate.RUnlock()
	d.tell(Discarded, off, n)
	return nil
}

// Do implements [device.Doer]: in order, one after another, which in memory is
// fastest and makes runs repeatable.
func (d *Device) Do(ops []device.Op) error {
	var first error
	for _, op := range ops {
		var err error
		if op.Kind == device.Read {
			_, err = d.ReadAt(op.Data, op.Off)
		} else {
			_, err = d.WriteAt(op.Data, op.Off)
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// Close makes every later operation fail with [device.ErrClosed]. Clones and
// crashes of a closed device are still possible, and open.
func (d *Device) Close() error {
	d.closed.Store(true)
	return nil
}
