// SPDX-License-Identifier: Apache-2.0

package nbd

import (
	"errors"
	"syscall"

	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/nbd/wire"
)

// errnos maps what devices return to what the protocol can say, first match
// first. Everything else is EIO.
var errnos = [...]struct {
	err error
	to  wire.Errno
}{
	{device.ErrRange, wire.EINVAL},
	{device.ErrAlign, wire.EINVAL},
	{device.ErrClosed, wire.ESHUTDOWN},
	{errors.ErrUnsupported, wire.ENOTSUP}, // ENOTSUP, EOPNOTSUPP and ENOSYS too
	{syscall.ENOSPC, wire.ENOSPC},
	{syscall.EDQUOT, wire.ENOSPC},
	{syscall.EFBIG, wire.ENOSPC},
	{syscall.EPERM, wire.EPERM},
	{syscall.EACCES, wire.EPERM},
	{syscall.EROFS, wire.EPERM},
	{syscall.ENOMEM, wire.ENOMEM},
	{syscall.EINVAL, wire.EINVAL},
	{syscall.EOVERFLOW, wire.EOVERFLOW},
	{syscall.ESHUTDOWN, wire.ESHUTDOWN},
}

// errnoOf returns the protocol's error number for a device's error: the one
// that err wraps as a [wire.Errno], else by the table.
func errnoOf(err error) wire.Errno {
	if err == nil {
		return wire.OK
	}
	if e, ok := errors.AsType[wire.Errno](err); ok && e != wire.OK {
		return e
	}
	for _, m := range errnos {
		if errors.Is(err, m.err) {
			return m.to
		}
	}
	return wire.EIO
}
