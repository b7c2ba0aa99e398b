// SPDX-License-Identifier: Apache-2.0

// Package vcdiff writes and reads deltas of RFC 3284, the format of xdelta.
//
// It owns the format: what it writes xdelta3 decodes, and what xdelta3 writes
// with -S none it decodes. It takes the default code table only, no secondary
// compression, and knows xdelta3's two extensions, the application header and the
// window's Adler-32, which it writes too. It does not read files or choose
// sources; the codec of this name is its caller. An Encoder is for one goroutine;
// Decode has no state. Decode takes any bytes, allocates nothing, and writes
// nowhere but to what it is given.
package vcdiff

import "errors"

// ErrCorrupt says that bytes are not a delta, or not one that this package reads,
// or not one for this source and length.
var ErrCorrupt = errors.New("corrupt VCDIFF delta")

// Bits of the header and of windows.
const (
	headerSecondary   = 1
	headerCodeTable   = 2
	headerApplication = 4

	windowSource = 1
	windowTarget = 2
	windowAdler  = 4
)

var magic = [4]byte{0xd6, 0xc3, 0xc4, 0}

// Kinds of instructions.
const (
	nothing = iota
	add
	run
	copyFrom
)

// instruction is one of the two in an entry of the code table. Size 0 stands for
// one that follows the code.
type instruction struct{ kind, size, mode uint8 }

// Modes of addresses: 0 from the begin, 1 back from here, then near and same.
const (
	nearSlots = 4
	sameSlots = 3
	nearMode  = 2
	sameMode  = nearMode + nearSlots
	modes     = sameMode + sameSlots
)

// table is the default code table, RFC 3284 section 5.6.
var table = func() (t [256][2]instruction) {
	i := 0
	entry := func(a, b instruction) {
		t[i] = [2]instruction{a, b}
		i++
	}
	entry(instruction{run, 0, 0}, instruction{})
	for size := range uint8(18) {
		entry(instruction{add, size, 0}, instruction{})
	}
	for mode := range uint8(modes) {
		entry(instruction{copyFrom, 0, mode}, instruction{})
		for size := uint8(4); size <= 18; size++ {
			entry(instruction{copyFrom, size, mode}, instruction{})
		}
	}
	for mode := range uint8(modes) {
		largest := uint8(6)
		if mode >= sameMode {
			largest = 4
		}
		for size := uint8(1); size <= 4; size++ {
			for n := uint8(4); n <= largest; n++ {
				entry(instruction{add, size, 0}, instruction{copyFrom, n, mode})
			}
		}
	}
	for mode := range uint8(modes) {
		entry(instruction{copyFrom, 4, mode}, instruction{add, 1, 0})
	}
	return t
}()

// cache makes addresses short, RFC 3284 section 5.1.
type cache struct {
	near [nearSlots]int
	next int
	same [sameSlots * 256]int
}

func (c *cache) update(address int) {
	c.near[c.next] = address
	c.next = (c.next + 1) % nearSlots
	c.same[address%len(c.same)] = address
}

// appendNumber appends a number in groups of seven bits, the highest first.
func appendNumber(dst []byte, n int) []byte {
	var b [10]byte
	i := len(b) - 1
	b[i] = byte(n & 0x7f)
	for n >>= 7; n > 0; n >>= 7 {
		i--
		b[i] = byte(n&0x7f) | 0x80
	}
	return append(dst, b[i:]...)
}

// numberLength returns how many bytes appendNumber appends.
func numberLength(n int) int {
	length := 1
	for n >>= 7; n > 0; n >>= 7 {
		length++
	}
	return length
}
