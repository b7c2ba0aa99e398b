// SPDX-License-Identifier: Apache-2.0

package service

import (
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
)

// unaligned is persistent memory that is only read, through a file and not a
// mapping, whose lock would be exclusive. Reads may have any alignment.
type unaligned struct{ *device.File }

// ReadAt reads the sectors around the range.
func (u unaligned) ReadAt(p []byte, off int64) (int, error) {
	first := off / block.SectorSize * block.SectorSize
	end := (off + int64(len(p)) + block.SectorSize - 1) / block.SectorSize * block.SectorSize
	buf := device.Buffer(int(end - first))
	if _, err := u.File.ReadAt(buf, first); err != nil {
		return 0, err
	}
	return copy(p, buf[off-first:]), nil
}

// Persist does nothing: nothing can have been written.
func (u unaligned) Persist(_, _ int64) error { return nil }
