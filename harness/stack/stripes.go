// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"zumastor.org/zumastor/engine/device"
)

// Share is one of several equal shares of the room for stores. The zero value is
// all of it.
type Share struct {
	Nth, Of int
}

// stripeSize is how much of one share lies in one piece: more than most batches,
// so that few writes are cut.
const stripeSize = 8 << 20

// stripes is every of-th stripe of a device, from the nth on, as a device of its
// own. So all shares lie all over the device: none is faster for its place.
type stripes struct {
	under device.Device
	Share
	size int64
}

var (
	_ device.Doer   = (*stripes)(nil)
	_ device.Zeroer = (*stripes)(nil)
)

// share returns a device of size bytes that is a share of d. One that is no whole
// number of stripes is in one piece.
func share(d device.Device, s Share, size int64) (device.Device, error) {
	if s.Of <= 1 {
		return cut(d, 0, size)
	}
	if size%stripeSize != 0 {
		return cut(d, int64(s.Nth)*size, size)
	}
	if err := device.CheckIO(0, size*int64(s.Of), d.Size()); err != nil {
		return nil, err
	}
	return &stripes{under: d, Share: s, size: size}, nil
}

func (s *stripes) Size() int64  { return s.size }
func (s *stripes) Flush() error { return s.under.Flush() }

// place returns where off is on the device below, and how many bytes follow it
// there.
func (s *stripes) place(off int64) (at, n int64) {
	within := off % stripeSize
	return (off/stripeSize*int64(s.Of)+int64(s.Nth))*stripeSize + within, stripeSize - within
}

// each calls do for the pieces of a range below, and returns the first error.
func (s *stripes) each(off, n int64, do func(at, from, n int64) error) error {
	if err := device.CheckIO(off, n, s.size); err != nil {
		return err
	}
	for from := int64(0); from < n; {
		at, room := s.place(off + from)
		piece := min(room, n-from)
		if err := do(at, from, piece); err != nil {
			return err
		}
		from += piece
	}
	return nil
}

func (s *stripes) ReadAt(p []byte, off int64) (int, error) {
	err := s.each(off, int64(len(p)), func(at, from, n int64) error {
		_, err := s.under.ReadAt(p[from:from+n], at)
		return err
	})
	return done(p, err)
}

func (s *stripes) WriteAt(p []byte, off int64) (int, error) {
	err := s.each(off, int64(len(p)), func(at, from, n int64) error {
		_, err := s.under.WriteAt(p[from:from+n], at)
		return err
	})
	return done(p, err)
}

// done returns what ReadAt and WriteAt do.
func done(p []byte, err error) (int, error) {
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

func (s *stripes) Discard(off, n int64) error {
	return s.each(off, n, func(at, _, n int64) error { return s.under.Discard(at, n) })
}

func (s *stripes) WriteZeroes(off, n int64) error {
	return s.each(off, n, func(at, _, n int64) error { return device.WriteZeroes(s.under, at, n) })
}

// Do gives the pieces of all ops to the device below. If an op is out of range,
// each goes by itself, so that the others take place.
func (s *stripes) Do(ops []device.Op) error {
	pieces := make([]device.Op, 0, len(ops)+1)
	for _, op := range ops {
		err := s.each(op.Off, int64(len(op.Data)), func(at, from, n int64) error {
			pieces = append(pieces, device.Op{Kind: op.Kind, Off: at, Data: op.Data[from : from+n]})
			return nil
		})
		if err != nil {
			return device.DoParallel(s, ops)
		}
	}
	return device.Do(s.under, pieces)
}
