// SPDX-License-Identifier: Apache-2.0

package baseline

import (
	"context"
	"sync/atomic"

	"zumastor.org/zumastor/engine/device"
)

// slowed does every n-th write of a device twice.
type slowed struct {
	device.Device
	every  int64
	writes atomic.Int64
}

func (d *slowed) Do(ops []device.Op) error {
	if err := device.Do(d.Device, ops); err != nil {
		return err
	}
	for _, op := range ops {
		if op.Kind != device.Write || d.writes.Add(1)%d.every != 0 {
			continue
		}
		if _, err := d.Device.WriteAt(op.Data, op.Off); err != nil {
			return err
		}
	}
	return nil
}

func (d *slowed) WriteZeroes(off, n int64) error { return device.WriteZeroes(d.Device, off, n) }

// plant returns what puts a slowed device before another.
func plant(every int64) func(device.Device) device.Device {
	return func(d device.Device) device.Device { return &slowed{Device: d, every: every} }
}

// FindsPlanted plants more writes below one of the experiments, by the percentage
// given, and reports whether the counters of writes show it.
func FindsPlanted(ctx context.Context, percent int) (bool, error) {
	one := experiments()[:1]
	before, err := take(ctx, one)
	if err != nil {
		return false, err
	}
	one[0].through = plant(int64(100 / percent))
	after, err := take(ctx, one)
	for _, m := range Diff(before, after) {
		if m.Name == "writes" && m.Value > m.Old {
			return true, err
		}
	}
	return false, err
}
