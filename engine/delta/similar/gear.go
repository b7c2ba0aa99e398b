// SPDX-License-Identifier: Apache-2.0

package similar

import "math/bits"

// window is how many bytes a hash covers: the oldest leaves a 64-bit hash that
// moves by a bit a byte.
const window = 64

// gear gives every byte a random number.
var gear = func() (table [256]uint64) {
	x := uint64(0x5a756d6173746f72)
	for i := range table {
		x += 0x9e3779b97f4a7c15 // splitmix64
		z := (x ^ x>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		table[i] = z ^ z>>31
	}
	return table
}()

// sample calls found for one in 2^rate of the windows that end in b[from:to],
// with the position after the window. The choice depends on the window's bytes
// alone. Runs of one byte are left out but for their begin: they stand anywhere.
func sample(b []byte, from, to int, rate uint, found func(end int, hash uint64)) {
	start := max(0, from-window)
	var h uint64
	for _, c := range b[start:min(start+window-1, to)] {
		h = h<<1 + gear[c]
	}
	limit := ^uint64(0) >> rate
	for i := start + window - 1; i < to; i++ {
		old := h
		h = h<<1 + gear[b[i]]
		if h <= limit && h != old && i >= from {
			found(i+1, h)
		}
	}
}

// mix spreads the bits of a hash, whose highest are all zero in a sample.
func mix(h uint64) uint64 {
	h *= 0x9e3779b97f4a7c15
	return bits.RotateLeft64(h, 32) * 0xd6e8feb86659fd93
}
