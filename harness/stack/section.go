// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"fmt"

	"zumastor.org/zumastor/engine/device"
)

// section is a piece of a device as a device of its own.
type section struct {
	under     device.Device
	off, size int64
}

var (
	_ device.Doer   = (*section)(nil)
	_ device.Zeroer = (*section)(nil)
)

// cut returns size bytes of d at off.
func cut(d device.Device, off, size int64) (device.Device, error) {
	if off == 0 && size == d.Size() {
		return d, nil
	}
	if err := device.CheckIO(off, size, d.Size()); err != nil {
		return nil, fmt.Errorf("cutting a device: %w", err)
	}
	return &section{under: d, off: off, size: size}, nil
}

func (s *section) Size() int64  { return s.size }
func (s *section) Flush() error { return s.under.Flush() }

func (s *section) ReadAt(p []byte, off int64) (int, error) {
	if err := device.CheckIO(off, int64(len(p)), s.size); err != nil {
		return 0, err
	}
	return s.under.ReadAt(p, s.off+off)
}

func (s *section) WriteAt(p []byte, off int64) (int, error) {
	if err := device.CheckIO(off, int64(len(p)), s.size); err != nil {
		return 0, err
	}
	return s.under.WriteAt(p, s.off+off)
}

func (s *section) Discard(off, n int64) error {
	if err := device.CheckIO(off, n, s.size); err != nil {
		return err
	}
	return s.under.Discard(s.off+off, n)
}

func (s *section) WriteZeroes(off, n int64) error {
	if err := device.CheckIO(off, n, s.size); err != nil {
		return err
	}
	return device.WriteZeroes(s.under, s.off+off, n)
}

// Do gives all ops to the device below, moved to the section's place. If one is
// out of range, each goes by itself, so that the others take place.
func (s *section) Do(ops []device.Op) error {
	moved := make([]device.Op, len(ops))
	for i, op := range ops {
		if device.CheckIO(op.Off, int64(len(op.Data)), s.size) != nil {
			return device.DoParallel(s, ops)
		}
		op.Off += s.off
		moved[i] = op
	}
	return device.Do(s.under, moved)
}
