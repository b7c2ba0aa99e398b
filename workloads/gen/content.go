// SPDX-License-Identifier: Apache-2.0

package gen

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"zumastor.org/zumastor/workloads"
)

// The sector pattern, little-endian. Recorded expectations depend on it: it must
// not change.
//
//	offset  bytes  content
//	     0      8  seed
//	     8      8  byte offset of the sector on its device
//	    16      8  version
//	    24      4  CRC32C of the whole sector but this field
//	    28      4  zero
//	    32    480  SplitMix64 numbers drawn from seed, offset and version
const (
	atSeed     = 0
	atOffset   = 8
	atVersion  = 16
	atChecksum = 24
	atNoise    = 32
)

const sectorSize = workloads.SectorSize

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrContent is wrapped by errors about sectors that do not hold what they
// should.
var ErrContent = errors.New("unexpected content")

// Stamp says how a sector was filled.
type Stamp struct {
	Seed    uint64
	Offset  int64 // bytes
	Version uint64
}

// Fill fills p, whole sectors meant for offset off, with the sector pattern.
// Every sector is a pure function of seed, its own offset and version, so that
// any part of a written range can be checked alone. It does not compress.
func Fill(p []byte, seed uint64, off int64, version uint64) {
	for ; len(p) >= sectorSize; p = p[sectorSize:] {
		fillSector(p[:sectorSize:sectorSize], Stamp{seed, off, version})
		off += sectorSize
	}
}

func fillSector(s []byte, t Stamp) {
	binary.LittleEndian.PutUint64(s[atSeed:], t.Seed)
	binary.LittleEndian.PutUint64(s[atOffset:], uint64(t.Offset))
	binary.LittleEndian.PutUint64(s[atVersion:], t.Version)
	binary.LittleEndian.PutUint64(s[atChecksum:], 0)
	r := rng(mix(t.Seed ^ mix(uint64(t.Offset)^mix(t.Version))))
	for i := atNoise; i < sectorSize; i += 8 {
		binary.LittleEndian.PutUint64(s[i:], r.uint64())
	}
	binary.LittleEndian.PutUint32(s[atChecksum:], checksum(s))
}

func checksum(s []byte) uint32 {
	sum := crc32.Update(0, castagnoli, s[:atChecksum])
	return crc32.Update(sum, castagnoli, s[atChecksum+4:sectorSize])
}

// Identify returns the stamp of a sector that [Fill] made, and false for any
// other or damaged one.
func Identify(sector []byte) (Stamp, bool) {
	if len(sector) != sectorSize || binary.LittleEndian.Uint32(sector[atChecksum:]) != checksum(sector) {
		return Stamp{}, false
	}
	t := Stamp{
		Seed:    binary.LittleEndian.Uint64(sector[atSeed:]),
		Offset:  int64(binary.LittleEndian.Uint64(sector[atOffset:])),
		Version: binary.LittleEndian.Uint64(sector[atVersion:]),
	}
	// A sector of zeroes has a checksum other than zero, so it is not taken for one.
	return t, true
}

// Verify checks that p is exactly what [Fill] would make of the same arguments.
// The error names the first bad sector and, where it can, what it holds instead.
func Verify(p []byte, seed uint64, off int64, version uint64) error {
	var want [sectorSize]byte
	for ; len(p) >= sectorSize; p = p[sectorSize:] {
		fillSector(want[:], Stamp{seed, off, version})
		if !bytes.Equal(p[:sectorSize], want[:]) {
			return contentError(p[:sectorSize], Stamp{seed, off, version})
		}
		off += sectorSize
	}
	return nil
}

func contentError(sector []byte, want Stamp) error {
	got, ok := Identify(sector)
	if ok {
		return fmt.Errorf("%w: sector at %d holds %+v instead of %+v", ErrContent, want.Offset, got, want)
	}
	if isZero(sector) {
		return fmt.Errorf("%w: sector at %d is zero instead of %+v", ErrContent, want.Offset, want)
	}
	return fmt.Errorf("%w: sector at %d is damaged or foreign: it begins % x instead of %+v", ErrContent, want.Offset, sector[:16], want)
}

// VerifyPlaced checks that each sector of p, read at off, is either zero or was
// made by [Fill] with this seed, for its own place, with no later version. It
// finds damaged, torn and misplaced sectors without a record of what was
// written; it cannot find lost writes.
func VerifyPlaced(p []byte, seed uint64, off int64, version uint64) error {
	for ; len(p) >= sectorSize; p = p[sectorSize:] {
		s := p[:sectorSize]
		t, ok := Identify(s)
		if placed := ok && t.Seed == seed && t.Offset == off && t.Version <= version; !placed && !isZero(s) {
			return contentError(s, Stamp{seed, off, version})
		}
		off += sectorSize
	}
	return nil
}

func isZero(s []byte) bool {
	for i := 0; i < len(s); i += 8 {
		if binary.LittleEndian.Uint64(s[i:]) != 0 {
			return false
		}
	}
	return true
}
