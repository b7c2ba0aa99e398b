// SPDX-License-Identifier: Apache-2.0

package check

import (
	"errors"
	"fmt"
	"io"
	"math"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
)

// Devices are what a store lies on. Each may be anything that can be read: a
// device.Device, a device.Region, an open file. Reads are aligned to sectors.
// Where there is a Size method, it is believed.
type Devices struct {
	Store   io.ReaderAt // the data area
	Meta    io.ReaderAt // the metadata area; nil if it is on Store
	Journal io.ReaderAt // the batches' journal, of placements nvram and pmem; else nil
}

// source is one of the devices.
type source struct {
	name string
	r    io.ReaderAt
	size int64 // in bytes
}

// sized is what most devices are.
type sized interface{ Size() int64 }

func newSource(name string, r io.ReaderAt) *source {
	if r == nil {
		return nil
	}
	s := &source{name: name, r: r, size: math.MaxInt64}
	if d, ok := r.(sized); ok {
		s.size = d.Size()
	}
	return s
}

// read returns the n bytes at off.
func (s *source) read(off int64, n int) ([]byte, error) {
	if err := device.CheckRange(off, int64(n), s.size); err != nil {
		return nil, fmt.Errorf("reading the %s device: %w", s.name, err)
	}
	from := off &^ (block.SectorSize - 1)
	end := min((off+int64(n)+block.SectorSize-1)&^(block.SectorSize-1), s.size)
	buf := device.Buffer(int(end - from))
	got, err := s.r.ReadAt(buf, from)
	if err != nil && !(errors.Is(err, io.EOF) && from+int64(got) >= off+int64(n)) {
		return nil, fmt.Errorf("reading %d bytes at %d of the %s device: %w", n, off, s.name, err)
	}
	return buf[off-from:][:n], nil
}
