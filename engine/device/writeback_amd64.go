// SPDX-License-Identifier: Apache-2.0

package device

import "unsafe"

// writeBack writes back the cache lines of p, which is not empty, and waits
// until they are in the persistence domain; nil if this processor can't.
var writeBack = chooseWriteBack()

// lineSize is that of every amd64 processor.
const lineSize = 64

// chooseWriteBack takes the best instruction: CLWB keeps the line cached,
// CLFLUSHOPT drops it, CLFLUSH drops it and waits for each.
func chooseWriteBack() func(p []byte) {
	highest, _, _, _ := cpuid(0, 0)
	_, _, _, features := cpuid(1, 0)
	var extended uint32
	if highest >= 7 {
		_, extended, _, _ = cpuid(7, 0)
	}
	switch {
	case extended>>24&1 != 0:
		return func(p []byte) { clwb(lines(p)) }
	case extended>>23&1 != 0:
		return func(p []byte) { clflushopt(lines(p)) }
	case features>>19&1 != 0:
		return func(p []byte) { clflush(lines(p)) }
	}
	return nil
}

// lines returns the first cache line of p, and how many it touches.
func lines(p []byte) (first unsafe.Pointer, n uintptr) {
	at := unsafe.Pointer(unsafe.SliceData(p))
	skew := uintptr(at) % lineSize
	return unsafe.Add(at, -int(skew)), (skew + uintptr(len(p)) + lineSize - 1) / lineSize
}

//go:noescape
func cpuid(leaf, sub uint32) (a, b, c, d uint32)

// clwb, clflushopt and clflush write back n lines from first on, then fence.
//
//go:noescape
func clwb(first unsafe.Pointer, n uintptr)

//go:noescape
func clflushopt(first unsafe.Pointer, n uintptr)

//go:noescape
func clflush(first unsafe.Pointer, n uintptr)
