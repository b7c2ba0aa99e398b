// SPDX-License-Identifier: Apache-2.0

package device

import "unsafe"

// bufferAlign satisfies O_DIRECT on every device with blocks up to 4 KiB.
const bufferAlign = 4096

// Buffer returns a zeroed slice of n bytes that starts on a 4 KiB boundary, as
// O_DIRECT wants it. It is ordinary garbage-collected memory.
func Buffer(n int) []byte {
	raw := make([]byte, n+bufferAlign)
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(raw)))) & (bufferAlign - 1)
	return raw[skip : skip+n : skip+n]
}

// Aligned reports whether p starts on a boundary of align bytes, a power of two.
func Aligned(p []byte, align int) bool {
	return uintptr(unsafe.Pointer(unsafe.SliceData(p)))&uintptr(align-1) == 0
}
