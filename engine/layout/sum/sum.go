// SPDX-License-Identifier: Apache-2.0

// Package sum computes the sums of chunks, by which a torn copy is told from a whole one.
// It is called by package layout for all others; it keeps no state and cannot fail.
//
// A CRC of the chunk would not do. The CRC32C of sectors that end in their own CRC32C, as
// many programs' records do, depends on nothing but their length, so that old and new ones
// mix unnoticed. Here the chunk's 8-byte words are dealt out to four CRC32Cs in turn, as
// cards are, so that no record with a CRC of its own is whole in one of them. Words begin
// at byte 2, so that not even a field of 4 bytes that is followed by its CRC32C is: where
// two such differ, the part in the other word is the same once in 65,536 times. XXH64 of
// the four makes the sum. Four that do not wait for each other are also what processors
// with an instruction for CRC32C are fastest at: they take half the time of XXH64 of all.
package sum

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/cespare/xxhash/v2"
)

const (
	// lanes is how many CRCs a chunk has.
	lanes = 4
	// first is the byte at which the first word begins. The last one ends with those before it.
	first = 2
	// block is what the assembler's loop takes at a time.
	block = 64
)

// Of returns the sum of a chunk, a multiple of 64 bytes and at least that: the low half of
// XXH64, with seed 0, of the four CRC32Cs, each a little-endian number of 4 bytes
// (FORMAT.md). It may be called at the same time by any number of goroutines.
func Of(chunk []byte) uint32 {
	var crc [lanes]uint32
	var last [block]byte
	n := copy(last[:], chunk[len(chunk)-(block-first):])
	copy(last[n:], chunk)
	update(&crc, chunk[first:len(chunk)-(block-first)])
	update(&crc, last[:])
	var b [4 * lanes]byte
	for i, c := range crc {
		binary.LittleEndian.PutUint32(b[4*i:], c)
	}
	return uint32(xxhash.Sum64(b[:]))
}

// castagnoli is CRC32C's table.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// updateGeneric goes on with the CRCs, which are CRC32Cs of what was dealt out so far: p
// is a multiple of 64 bytes. The words of each lane are brought together first.
func updateGeneric(crc *[lanes]uint32, p []byte) {
	var lane [lanes][1024]byte
	for len(p) > 0 {
		n := min(len(p), lanes*len(lane[0]))
		for i := 0; i < n; i += 8 * lanes {
			for k := range lane {
				copy(lane[k][i/lanes:][:8], p[i+8*k:])
			}
		}
		for k := range lane {
			crc[k] = crc32.Update(crc[k], castagnoli, lane[k][:n/lanes])
		}
		p = p[n:]
	}
}
