// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// HoldMemory keeps the process from waiting, when memory is short, for pages to be
// written to the very devices that it serves. It locks what the process has in
// memory, now and as it comes (mlockall), and marks every thread, and so those to
// come, as one that writes pages out (PR_SET_IO_FLUSHER, Linux 5.6), so that the
// kernel finds it memory without writing to devices and does not throttle it.
//
// A process that serves block devices calls it once, first thing: where the
// program uses cgo, threads can't be marked from within, so the first call marks
// one and starts the program again in its place, with the same process number,
// arguments and environment. A command that only looks does not call it. It needs
// CAP_SYS_RESOURCE, and CAP_IPC_LOCK or a limit of locked memory. What remains is
// a garbage-collected heap that grows: leave the machine memory, and put no swap on
// an attached device.
//
// It does what it can: after an error, which a caller reports and lives with, the
// other half is in force.
func HoldMemory() error {
	var errs []error
	if err := beFlusher(); err != nil {
		errs = append(errs, fmt.Errorf("marking the process as an I/O flusher (PR_SET_IO_FLUSHER): %w", err))
	}
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		errs = append(errs, fmt.Errorf("locking memory (mlockall): %w", err))
	}
	return errors.Join(errs...)
}

// beFlusher marks all threads. The mark is inherited by new threads and kept by
// execve.
func beFlusher() error {
	if marked, err := unix.PrctlRetInt(unix.PR_GET_IO_FLUSHER, 0, 0, 0, 0); err != nil || marked == 1 {
		return err
	}
	_, _, e := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_IO_FLUSHER, 1, 0, 0, 0, 0)
	if e == 0 || e != syscall.ENOTSUP {
		return errnoOrNil(e)
	}
	runtime.LockOSThread() // execve makes this thread the process
	if err := unix.Prctl(unix.PR_SET_IO_FLUSHER, 1, 0, 0, 0); err != nil {
		return err
	}
	return syscall.Exec("/proc/self/exe", os.Args, os.Environ())
}

func errnoOrNil(e syscall.Errno) error {
	if e == 0 {
		return nil
	}
	return e
}
