// SPDX-License-Identifier: Apache-2.0

// Package errdev makes chosen operations on a block device fail, for tests that
// let the n-th I/O fail for every n.
//
// It owns a [Plan]: counters of what was asked, and the faults that are armed.
// Several devices may share one plan, and are then counted together. It holds no
// data and does not decide what survives a power cut (see memdev). Tests call
// it. Plans and devices are safe for concurrent use; who wants the same n to be
// the same operation issues them one after another. A failed operation does not
// reach the device beneath, except a torn write's first half.
package errdev

import (
	"errors"
	"fmt"
	"sync"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
)

// Errors that faults give when they name no other.
var (
	ErrInjected = errors.New("injected error")
	ErrGone     = errors.New("device is gone")
)

// Kinds is a set of kinds of I/O. Zeroing counts as a write.
type Kinds uint8

// The kinds of I/O.
const (
	Reads Kinds = 1 << iota
	Writes
	Flushes
	Discards
	All = Reads | Writes | Flushes | Discards
)

func (k Kinds) String() string {
	switch k {
	case Reads:
		return "read"
	case Writes:
		return "write"
	case Flushes:
		return "flush"
	case Discards:
		return "discard"
	}
	return "i/o"
}

// Fault is an order to fail. It counts, from its arming, the operations that
// match it, and fails the Nth.
type Fault struct {
	Kinds    Kinds // zero means All
	Off, Len int64 // the range that an operation must touch; Len zero means any, and a flush touches every range
	Nth      int64 // from 1, which zero means too
	Forever  bool  // fail the later ones too
	Torn     bool  // a failing write leaves its first half, rounded to sectors
	Err      error // nil means ErrInjected
}

// Counts is how many operations were asked for, failed ones included. One op of
// a vectored submission counts as one.
type Counts struct {
	Reads, Writes, Flushes, Discards int64
	Failed                           int64
}

// Total returns the number of operations of all kinds.
func (c Counts) Total() int64 { return c.Reads + c.Writes + c.Flushes + c.Discards }

// Plan counts the operations of its devices and says which fail. The zero value
// is ready and fails none.
type Plan struct {
	mu     sync.Mutex
	counts Counts
	faults []*armed
}

type armed struct {
	Fault
	seen int64
}

// Inject arms a fault beside those armed before; the first that is due decides.
func (p *Plan) Inject(f Fault) {
	if f.Kinds == 0 {
		f.Kinds = All
	}
	if f.Err == nil {
		f.Err = ErrInjected
	}
	f.Nth = max(f.Nth, 1)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, &armed{Fault: f})
}

// DieAt makes everything from the n-th operation on, counted from now and from
// 1, fail with [ErrGone]: the device was pulled, or the power went.
func (p *Plan) DieAt(n int64) { p.Inject(Fault{Nth: n, Forever: true, Err: ErrGone}) }

// Clear disarms all faults. Counts go on.
func (p *Plan) Clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = nil
}

// Counts returns the counts since the plan was made.
func (p *Plan) Counts() Counts {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts
}

// judge counts an operation and returns the fault that it meets, or nil.
func (p *Plan) judge(kind Kinds, off, n int64) *armed {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch kind {
	case Reads:
		p.counts.Reads++
	case Writes:
		p.counts.Writes++
	case Flushes:
		p.counts.Flushes++
	case Discards:
		p.counts.Discards++
	}
	var hit *armed
	for _, f := range p.faults {
		if f.matches(kind, off, n) && f.due() && hit == nil {
			hit = f
		}
	}
	if hit != nil {
		p.counts.Failed++
	}
	return hit
}

func (f *armed) matches(kind Kinds, off, n int64) bool {
	return f.Kinds&kind != 0 && (f.Len == 0 || kind == Flushes || off < f.Off+f.Len && f.Off < off+n)
}

func (f *armed) due() bool {
	f.seen++
	return f.seen == f.Nth || f.Forever && f.seen > f.Nth
}

// Device is a [device.Device] whose operations fail by plan. It is a Zeroer and
// a Doer too.
type Device struct {
	under device.Device
	plan  *Plan
}

// New returns d under a plan of its own, see [Device.Plan].
func New(d device.Device) *Device { return new(Plan).Wrap(d) }

// Wrap returns d under p.
func (p *Plan) Wrap(d device.Device) *Device { return &Device{under: d, plan: p} }

// Plan returns the plan that d obeys.
func (d *Device) Plan() *Plan { return d.plan }

// Size implements [device.Device]; it never fails and is not counted.
func (d *Device) Size() int64 { return d.under.Size() }

// Refresh implements [device.Refresher]; it is not counted.
func (d *Device) Refresh() error { return device.Refresh(d.under) }

// judge returns the error of an operation that is to fail.
func (d *Device) judge(kind Kinds, p []byte, off, n int64) error {
	f := d.plan.judge(kind, off, n)
	if f == nil {
		return nil
	}
	if f.Torn && kind == Writes && p != nil {
		half := p[:len(p)/2/block.SectorSize*block.SectorSize]
		if _, err := d.under.WriteAt(half, off); err != nil {
			return err
		}
	}
	return fmt.Errorf("%v of %d bytes at %d: %w", kind, n, off, f.Err)
}

// ReadAt implements [device.Device].
func (d *Device) ReadAt(p []byte, off int64) (int, error) {
	if err := d.judge(Reads, p, off, int64(len(p))); err != nil {
		return 0, err
	}
	return d.under.ReadAt(p, off)
}

// WriteAt implements [device.Device].
func (d *Device) WriteAt(p []byte, off int64) (int, error) {
	if err := d.judge(Writes, p, off, int64(len(p))); err != nil {
		return 0, err
	}
	return d.under.WriteAt(p, off)
}

// WriteZeroes implements [device.Zeroer].
func (d *Device) WriteZeroes(off, n int64) error {
	if err := d.judge(Writes, nil, off, n); err != nil {
		return err
	}
	return device.WriteZeroes(d.under, off, n)
}

// Flush implements [device.Device].
func (d *Device) Flush() error {
	if err := d.judge(Flushes, nil, 0, 0); err != nil {
		return err
	}
	return d.under.Flush()
}

// Discard implements [device.Device].
func (d *Device) Discard(off, n int64) error {
	if err := d.judge(Discards, nil, off, n); err != nil {
		return err
	}
	return d.under.Discard(off, n)
}

// Do implements [device.Doer]. Ops are judged in order; those that do not fail
// are issued, all at once when none fails.
func (d *Device) Do(ops []device.Op) error {
	var first error
	start := 0
	for i, op := range ops {
		kind := Reads
		if op.Kind == device.Write {
			kind = Writes
		}
		if err := d.judge(kind, op.Data, op.Off, int64(len(op.Data))); err != nil {
			first = either(first, device.Do(d.under, ops[start:i]))
			first = either(first, err)
			start = i + 1
		}
	}
	return either(first, device.Do(d.under, ops[start:]))
}

func either(first, second error) error {
	if first != nil {
		return first
	}
	return second
}

// Close closes the device beneath if it can be closed.
func (d *Device) Close() error {
	if c, ok := d.under.(interface{ Close() error }); ok {
		return c.Close()
	}
	return nil
}
