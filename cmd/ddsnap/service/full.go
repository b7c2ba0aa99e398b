// SPDX-License-Identifier: Apache-2.0

package service

import (
	"errors"
	"fmt"

	"zumastor.org/zumastor/engine/alloc"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/nbd/wire"
)

// exported is a volume whose clients are told ENOSPC when its store is full, which
// deleting a snapshot helps against, rather than EIO.
type exported struct{ device.Device }

// WriteAt implements device.Device.
func (o exported) WriteAt(p []byte, off int64) (int, error) {
	n, err := o.Device.WriteAt(p, off)
	return n, tellFull(err)
}

// WriteZeroes implements device.Zeroer.
func (o exported) WriteZeroes(off, n int64) error {
	return tellFull(device.WriteZeroes(o.Device, off, n))
}

// Discard implements device.Device.
func (o exported) Discard(off, n int64) error { return tellFull(o.Device.Discard(off, n)) }

func tellFull(err error) error {
	if errors.Is(err, alloc.ErrNoSpace) {
		return fmt.Errorf("%w: %w: delete a snapshot", wire.ENOSPC, err)
	}
	return err
}
