// SPDX-License-Identifier: Apache-2.0

package sum

import "golang.org/x/sys/cpu"

// update goes on with the CRCs of what was dealt out so far, by p, a multiple of 64 bytes.
func update(crc *[lanes]uint32, p []byte) {
	if !cpu.X86.HasSSE42 {
		updateGeneric(crc, p)
		return
	}
	updateSSE42(crc, p)
}

// updateSSE42 is update by the instruction CRC32.
//
//go:noescape
func updateSSE42(crc *[lanes]uint32, p []byte)
