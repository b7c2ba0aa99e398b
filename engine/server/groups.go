// SPDX-License-Identifier: Apache-2.0

package server

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// peerGroups returns the supplementary groups of the process at the other end of a
// socket, or nil where the kernel does not tell.
func peerGroups(fd int) []uint32 {
	groups := make([]uint32, 256)
	size := uint32(len(groups)) * uint32(unsafe.Sizeof(groups[0]))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
		uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return nil
	}
	return groups[:size/uint32(unsafe.Sizeof(groups[0]))]
}
