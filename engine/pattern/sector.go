// SPDX-License-Identifier: Apache-2.0

// Package pattern writes sectors that tell which write they are from, and finds out
// whether a device has lost or mixed any.
//
// It owns the content of a sector ([Fill], [Read]), the account of what each sector
// may hold while writes are under way ([Ledger]), which a [Log] keeps beyond the end
// of the process, the load that keeps the account ([Churn]), and the check of a
// device or a snapshot against it ([Bounds]). It does not own the device: whatever
// reads and writes will do, a file, a block device or a volume of this engine. Tests
// that kill processes and machines call it. A Ledger and a Churn are safe for
// concurrent use. What is wrong with a device's bytes is an error that wraps
// [ErrWrong]; all others are the device's own.
package pattern

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// SectorSize is the unit of the pattern, in bytes: no device tears less in a crash. By
// way of a page cache, what is just being written may be read torn within.
const SectorSize = 512

// ErrWrong is wrapped by errors about bytes that should not be where they are.
var ErrWrong = errors.New("wrong content")

// torn is an error about a sector that no write has made as it is.
type torn struct{ error }

func (t torn) Unwrap() error { return t.error }

// Stamp says which write a sector is from. The zero Stamp is that of a sector of
// zeroes, which was never written.
type Stamp struct {
	Stream uint64 // whose write: chosen anew for each history of a device
	Seq    uint64 // of the write within the stream, from 1 on
}

// magic is in each sector that was written.
const magic = 0x6e72657474615073 // "sPattern"

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	le         = binary.LittleEndian
)

// Fill makes p, which is to be written at off, the sectors of a write:
//
//	0 magic u64   8 stream u64   16 offset u64   24 sequence u64   32 filler of all of these
//	504 zero u32   508 CRC32C of what is before
//
// Both off and the length of p are multiples of [SectorSize].
func Fill(p []byte, off int64, s Stamp) {
	for ; len(p) >= SectorSize; p, off = p[SectorSize:], off+SectorSize {
		le.PutUint64(p, magic)
		le.PutUint64(p[8:], s.Stream)
		le.PutUint64(p[16:], uint64(off))
		le.PutUint64(p[24:], s.Seq)
		x := s.Stream ^ s.Seq<<32 ^ uint64(off)
		for i := 32; i < 504; i += 8 { // splitmix64: no two sectors share a part
			x += 0x9e3779b97f4a7c15
			z := (x ^ x>>30) * 0xbf58476d1ce4e5b9
			z = (z ^ z>>27) * 0x94d049bb133111eb
			le.PutUint64(p[i:], z^z>>31)
		}
		le.PutUint32(p[504:], 0)
		le.PutUint32(p[508:], crc32.Checksum(p[:508], castagnoli))
	}
}

// Read returns the stamp of the sector p that was read at off. The error wraps
// [ErrWrong] where that is none: torn, of another place, or of no pattern at all.
func Read(p []byte, off int64) (Stamp, error) {
	if le.Uint64(p) != magic {
		for _, b := range p[:SectorSize] {
			if b != 0 {
				return Stamp{}, torn{fmt.Errorf("%w at %d: no sector of the pattern, it begins with % x", ErrWrong, off, p[:16])}
			}
		}
		return Stamp{}, nil
	}
	s := Stamp{Stream: le.Uint64(p[8:]), Seq: le.Uint64(p[24:])}
	if crc32.Checksum(p[:508], castagnoli) != le.Uint32(p[508:]) {
		return s, torn{fmt.Errorf("%w at %d: torn: it begins as write %d of stream %x", ErrWrong, off, s.Seq, s.Stream)}
	}
	if at := le.Uint64(p[16:]); at != uint64(off) {
		return s, fmt.Errorf("%w at %d: sector of offset %d, write %d of stream %x", ErrWrong, off, at, s.Seq, s.Stream)
	}
	return s, nil
}
