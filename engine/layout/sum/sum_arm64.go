// SPDX-License-Identifier: Apache-2.0

package sum

import "golang.org/x/sys/cpu"

// update goes on with the CRCs of what was dealt out so far, by p, a multiple of 64 bytes.
func update(crc *[lanes]uint32, p []byte) {
	if !cpu.ARM64.HasCRC32 {
		updateGeneric(crc, p)
		return
	}
	updateCRC32(crc, p)
}

// updateCRC32 is update by the instructions CRC32C.
//
//go:noescape
func updateCRC32(crc *[lanes]uint32, p []byte)
