// SPDX-License-Identifier: Apache-2.0

package model

import (
	"encoding/binary"
	"fmt"

	"zumastor.org/zumastor/engine/block"
)

// Stamp stands for the content of one sector: a sector that holds a stamp says
// so in its first eight bytes, and all others follow from it.
type Stamp uint64

const (
	// Zero is a sector of zeroes.
	Zero Stamp = 0
	// Any is a sector of which nothing is known: it was discarded.
	Any = ^Stamp(0)
)

// String returns the stamp as it is written in errors.
func (s Stamp) String() string {
	switch s {
	case Zero:
		return "zeroes"
	case Any:
		return "anything"
	}
	return fmt.Sprintf("%016x", uint64(s))
}

// Written is the pattern of a write of a seed: each sector's content is different,
// and different from that of every other seed.
func Written(seed uint64) Pattern {
	return func(no int64) Stamp {
		s := Stamp(mix(mix(seed) ^ uint64(no)))
		if s == Zero || s == Any {
			return 1
		}
		return s
	}
}

// Same is the pattern of a write that leaves s in every sector.
func Same(s Stamp) Pattern { return func(int64) Stamp { return s } }

// mix is the finalizer of a hash: a permutation in which each bit of x moves half
// of the bits.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Fill makes p, a multiple of 512 bytes, what p's sectors are according to the
// pattern, the first of them being sector no.
func (p Pattern) Fill(buf []byte, no int64) {
	for ; len(buf) > 0; buf, no = buf[block.SectorSize:], no+1 {
		p(no).fill(buf[:block.SectorSize])
	}
}

func (s Stamp) fill(p []byte) {
	step := uint64(s) | 1
	if s == Zero {
		step = 0
	}
	for i, w := 0, uint64(s); i < block.SectorSize; i, w = i+8, w+step {
		binary.LittleEndian.PutUint64(p[i:], w)
	}
}

// Is reports whether the sector p is what s stands for.
func (s Stamp) Is(p []byte) bool {
	if s == Any {
		return true
	}
	step := uint64(s) | 1
	if s == Zero {
		step = 0
	}
	for i, w := 0, uint64(s); i < block.SectorSize; i, w = i+8, w+step {
		if binary.LittleEndian.Uint64(p[i:]) != w {
			return false
		}
	}
	return true
}

// StampIn returns the stamp that the sector p says it holds, for errors.
func StampIn(p []byte) Stamp { return Stamp(binary.LittleEndian.Uint64(p)) }
