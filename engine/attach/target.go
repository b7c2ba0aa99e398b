// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"errors"
	"log/slog"
	"sync/atomic"
	"syscall"

	"zumastor.org/zumastor/engine/device"
)

// target is the device as a kernel's requests see it: errors are numbers.
type target struct {
	dev      device.Device
	log      *slog.Logger
	readOnly bool
	down     atomic.Bool // nothing reaches the device any more
}

// errnos are the errors that the block layer tells apart, first match first.
// Everything else is EIO.
var errnos = [...]struct {
	err error
	to  syscall.Errno
}{
	{syscall.ENOSPC, syscall.ENOSPC},
	{syscall.EDQUOT, syscall.ENOSPC},
	{errors.ErrUnsupported, syscall.EOPNOTSUPP},
	{syscall.ENOMEM, syscall.ENOMEM},
}

// errnoOf returns the number for a device's error, zero for nil.
func errnoOf(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	for _, m := range errnos {
		if errors.Is(err, m.err) {
			return m.to
		}
	}
	return syscall.EIO
}

// do runs one operation, reports its error, and returns its number.
func (t *target) do(what string, off, n int64, op func() error) syscall.Errno {
	if t.down.Load() {
		return syscall.EIO
	}
	err := op()
	no := errnoOf(err)
	if no != 0 && no != syscall.EOPNOTSUPP {
		t.log.Warn("request failed", "op", what, "offset", off, "length", n, "error", err)
	}
	return no
}

func (t *target) read(p []byte, off int64) syscall.Errno {
	return t.do("read", off, int64(len(p)), func() error {
		_, err := t.dev.ReadAt(p, off)
		return err
	})
}

// write writes p; with fua it is durable when write returns.
func (t *target) write(p []byte, off int64, fua bool) syscall.Errno {
	return t.change("write", off, int64(len(p)), fua, func() error {
		_, err := t.dev.WriteAt(p, off)
		return err
	})
}

func (t *target) zero(off, n int64, fua bool) syscall.Errno {
	return t.change("write zeroes", off, n, fua, func() error { return device.WriteZeroes(t.dev, off, n) })
}

func (t *target) discard(off, n int64) syscall.Errno {
	return t.change("discard", off, n, false, func() error { return t.dev.Discard(off, n) })
}

func (t *target) flush() syscall.Errno { return t.do("flush", 0, 0, t.dev.Flush) }

// change runs an operation that changes the device.
func (t *target) change(what string, off, n int64, fua bool, op func() error) syscall.Errno {
	if t.readOnly {
		return syscall.EPERM
	}
	return t.do(what, off, n, func() error {
		if err := op(); err != nil || !fua {
			return err
		}
		return t.dev.Flush()
	})
}

// zeroes reports whether zeroing costs the device less than writing.
func (t *target) zeroes() bool {
	_, ok := t.dev.(device.Zeroer)
	return ok
}
