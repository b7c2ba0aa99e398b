// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// TrailerMagic opens every trailer. Part of the format, must not change.
const TrailerMagic = "zmdtrail"

const trailerSize = 96

// Summary counts what is in a delta.
type Summary struct {
	Records uint64 // but for the one at the end
	Content int64  // bytes that the records stand for
	Zeroes  int64  // of which zeroes that are said so
	Coded   int64  // bytes of all payloads but the index
	Bytes   int64  // of the whole delta
	Digest  [32]byte
}

// take counts a record.
func (s *Summary) take(r *Record, payload int) {
	s.Records++
	s.Content += r.Length
	s.Coded += int64(payload)
	if r.Kind == KindZero {
		s.Zeroes += r.Length
	}
}

// appendTrailer codes the trailer of a delta whose index stands at end. Bytes are those
// before the trailer.
func (s *Summary) appendTrailer(dst []byte, end int64) []byte {
	start := len(dst)
	dst = append(dst, TrailerMagic...)
	for _, n := range []uint64{s.Records, uint64(s.Content), uint64(s.Zeroes), uint64(s.Coded), uint64(end)} {
		dst = binary.LittleEndian.AppendUint64(dst, n)
	}
	dst = append(dst, s.Digest[:]...)
	dst = append(dst, make([]byte, 12)...)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// checkTrailer compares a trailer with what was read.
func (s *Summary) checkTrailer(p []byte, end int64) error {
	switch {
	case string(p[:8]) != TrailerMagic:
		return fmt.Errorf("%w: no trailer after its end record", ErrCorrupt)
	case crc32.Checksum(p[:trailerSize-4], castagnoli) != binary.LittleEndian.Uint32(p[trailerSize-4:]):
		return fmt.Errorf("%w: checksum of the trailer", ErrCorrupt)
	case [32]byte(p[48:80]) != s.Digest:
		return fmt.Errorf("%w: its digest is not that of its content", ErrCorrupt)
	case string(s.appendTrailer(nil, end)) != string(p):
		return fmt.Errorf("%w: the trailer does not count what was read", ErrCorrupt)
	}
	return nil
}
