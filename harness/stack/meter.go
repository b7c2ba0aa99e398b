// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"sync/atomic"
	"time"

	"zumastor.org/zumastor/engine/device"
)

// FlushMeter counts the time that the flushes of a stack's devices take. The zero
// value is ready. It is safe for concurrent use.
type FlushMeter struct{ ns atomic.Int64 }

// Spent returns the time of all flushes that have ended.
func (m *FlushMeter) Spent() time.Duration { return time.Duration(m.ns.Load()) }

func (m *FlushMeter) wrap(d device.Device) device.Device { return &metered{d, m} }

// metered is a device whose flushes are counted.
type metered struct {
	device.Device
	meter *FlushMeter
}

func (d *metered) Flush() error {
	began := time.Now()
	err := d.Device.Flush()
	d.meter.ns.Add(int64(time.Since(began)))
	return err
}

// Do keeps a vectored submission of the device below.
func (d *metered) Do(ops []device.Op) error { return device.Do(d.Device, ops) }

// WriteZeroes keeps the zeroing of the device below.
func (d *metered) WriteZeroes(off, n int64) error { return device.WriteZeroes(d.Device, off, n) }
