// SPDX-License-Identifier: Apache-2.0

package stages

import (
	"slices"

	"zumastor.org/zumastor/engine/device"
)

// Volume stands before what a workload goes to: an origin's volume, or the bare device.
func (r *Recorder) Volume(d device.Device) device.Device { return &volume{d, r} }

// volume is where requests begin and end.
type volume struct {
	device.Device
	r *Recorder
}

var (
	_ device.Doer   = (*volume)(nil)
	_ device.Zeroer = (*volume)(nil)
)

// under counts a request that is under way, for who sees what is between requests.
func (r *Recorder) under() (done func()) {
	if !r.o.Virtual {
		return func() {}
	}
	r.active.Add(1)
	return func() { r.active.Add(-1) }
}

func (v *volume) ReadAt(p []byte, off int64) (int, error) {
	defer v.r.under()()
	s := v.r.enter(p)
	if s == nil {
		return v.Device.ReadAt(p, off)
	}
	began := v.r.o.Now()
	n, err := v.Device.ReadAt(p, off)
	v.r.simple(s, began, func(bool) (string, string, string, string) {
		return originRead, stageEngine, stageRead, stageEngine
	})
	return n, err
}

func (v *volume) WriteAt(p []byte, off int64) (int, error) {
	defer v.r.under()()
	s := v.r.enter(p)
	if s == nil {
		return v.Device.WriteAt(p, off)
	}
	began := v.r.o.Now()
	n, err := v.Device.WriteAt(p, off)
	v.r.write(s, []device.Op{{Kind: device.Write, Off: off, Data: p}}, began)
	return n, err
}

// Do is a group of requests. It is looked at as a whole, and known by its first one.
func (v *volume) Do(ops []device.Op) error {
	defer v.r.under()()
	var s *slot
	if len(ops) > 0 {
		s = v.r.enter(ops[0].Data)
	}
	if s == nil {
		return device.Do(v.Device, ops)
	}
	began := v.r.o.Now()
	err := device.Do(v.Device, ops)
	// A group with writes is one of writes.
	if i := slices.IndexFunc(ops, func(op device.Op) bool { return op.Kind == device.Write }); i > 0 {
		ops = append([]device.Op{ops[i]}, slices.Delete(slices.Clone(ops), i, i+1)...)
	}
	v.r.write(s, ops, began)
	return err
}

func (v *volume) Flush() error {
	defer v.r.under()()
	if !v.r.on.Load() {
		return v.Device.Flush()
	}
	began := v.r.o.Now()
	err := v.Device.Flush()
	v.r.aside(flush, stageFlush, span{began, v.r.o.Now()})
	return err
}

func (v *volume) Discard(off, n int64) error {
	defer v.r.under()()
	return v.Device.Discard(off, n)
}

func (v *volume) WriteZeroes(off, n int64) error {
	defer v.r.under()()
	return device.WriteZeroes(v.Device, off, n)
}

// Snapshot stands before a snapshot.
func (r *Recorder) Snapshot(d device.Device) device.Device { return &snapshot{d, r} }

type snapshot struct {
	device.Device
	r *Recorder
}

func (v *snapshot) ReadAt(p []byte, off int64) (int, error) {
	defer v.r.under()()
	s := v.r.enter(p)
	if s == nil {
		return v.Device.ReadAt(p, off)
	}
	began := v.r.o.Now()
	n, err := v.Device.ReadAt(p, off)
	v.r.simple(s, began, func(stored bool) (string, string, string, string) {
		if stored {
			return changedRead, stageFind, stageStored, stageEngine
		}
		return unchangedRead, stageFind, stageRead, stageAgain
	})
	return n, err
}

func (v *snapshot) WriteAt(p []byte, off int64) (int, error) {
	defer v.r.under()()
	s := v.r.enter(p)
	if s == nil {
		return v.Device.WriteAt(p, off)
	}
	began := v.r.o.Now()
	n, err := v.Device.WriteAt(p, off)
	v.r.simple(s, began, func(bool) (string, string, string, string) {
		return snapshotWrite, stageFill, stageWrite, stageNote
	})
	return n, err
}
