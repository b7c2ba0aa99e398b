// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// HoldMemory keeps the process from waiting, when memory is short, for pages to be
// written to the very devices that it serves. It locks what the process has in
// memory, now and as it comes (mlockall), and marks every thread, and so those to
// come, as one that writes pages out (PR_SET_IO_FLUSHER, Linux 5.6), so that the
// kernel finds it memory without writing to devices and does not throttle it.
//
// A process that serves block devices calls it once, before it attaches the
// first; a command that only looks does not. It needs CAP_SYS_RESOURCE and
// CAP_IPC_LOCK or a limit of locked memory. What remains is a garbage-collected
// heap that grows: leave the machine memory, and swap not on an attached device.
func HoldMemory() error {
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		return fmt.Errorf("locking memory (mlockall): %w", err)
	}
	if _, _, e := syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_SET_IO_FLUSHER, 1, 0); e != 0 {
		return fmt.Errorf("marking the threads as I/O flushers (PR_SET_IO_FLUSHER): %w", e)
	}
	return nil
}
