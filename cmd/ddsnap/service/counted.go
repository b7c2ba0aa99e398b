// SPDX-License-Identifier: Apache-2.0

package service

import (
	"sync/atomic"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/device"
)

// counted is a device that counts what it serves.
type counted struct {
	device.Device
	reads, writes, readBytes, writtenBytes atomic.Uint64
}

// ReadAt implements device.Device.
func (c *counted) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.Device.ReadAt(p, off)
	c.reads.Add(1)
	c.readBytes.Add(uint64(n))
	return n, err
}

// WriteAt implements device.Device.
func (c *counted) WriteAt(p []byte, off int64) (int, error) {
	n, err := c.Device.WriteAt(p, off)
	c.writes.Add(1)
	c.writtenBytes.Add(uint64(n))
	return n, err
}

// WriteZeroes implements device.Zeroer. It counts as a write of so many bytes.
func (c *counted) WriteZeroes(off, n int64) error {
	err := device.WriteZeroes(c.Device, off, n)
	c.writes.Add(1)
	if err == nil {
		c.writtenBytes.Add(uint64(n))
	}
	return err
}

// served returns the counts. Each is of its own moment.
func (c *counted) served() admin.Volume {
	return admin.Volume{
		Reads: c.reads.Load(), Writes: c.writes.Load(), ReadBytes: c.readBytes.Load(), WrittenBytes: c.writtenBytes.Load(),
	}
}
