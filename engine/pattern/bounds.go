// SPDX-License-Identifier: Apache-2.0

package pattern

import (
	"fmt"
	"io"
	"math"
	"slices"

	"zumastor.org/zumastor/engine/device"
)

// Bounds say what a device, or a snapshot of it, may hold: sector i a write from
// Least[i] to Most[i] of the stream, where write 0 stands for zeroes. Any write in
// between that has the right offset will do, for each is one that was made there.
type Bounds struct {
	Stream      uint64
	Least, Most []uint64
}

// Any returns the bounds of a device of so many bytes of which nothing is known but
// the stream.
func Any(stream uint64, size int64) Bounds {
	b := Bounds{Stream: stream, Least: make([]uint64, size/SectorSize), Most: make([]uint64, size/SectorSize)}
	for i := range b.Most {
		b.Most[i] = math.MaxUint64
	}
	return b
}

// checkBytes is how much Check reads at a time.
const checkBytes = 1 << 20

// Check reads all sectors, and returns the bounds of exactly what was found. The error
// wraps [ErrWrong] if one of them is out of bounds.
func (b Bounds) Check(r io.ReaderAt) (found Bounds, err error) {
	found = Bounds{Stream: b.Stream, Least: make([]uint64, len(b.Least))}
	buf := device.Buffer(checkBytes)
	for first := 0; first < len(b.Least); first += checkBytes / SectorSize {
		p := buf[:min(checkBytes, (len(b.Least)-first)*SectorSize)]
		off := int64(first) * SectorSize
		if n, err := r.ReadAt(p, off); n < len(p) {
			return found, fmt.Errorf("reading %d bytes at %d: %w", len(p), off, err)
		}
		if err := b.scan(p, off, found.Least[first:]); err != nil {
			return found, err
		}
	}
	found.Most = slices.Clone(found.Least)
	return found, nil
}

// scan checks the sectors p at off, and notes what they are, unless seqs is nil.
func (b Bounds) scan(p []byte, off int64, seqs []uint64) error {
	for i := 0; i < len(p); i += SectorSize {
		at := off + int64(i)
		seq, err := b.one(p[i:i+SectorSize], at, b.Least[at/SectorSize], b.Most[at/SectorSize])
		if err != nil {
			return err
		}
		if seqs != nil {
			seqs[i/SectorSize] = seq
		}
	}
	return nil
}

// all checks the sectors of p. With an error it returns which is wrong.
func (b Bounds) all(p []byte, off int64, least, most []uint64) (wrong int, err error) {
	for i := range least {
		if _, err := b.one(p[i*SectorSize:][:SectorSize], off+int64(i)*SectorSize, least[i], most[i]); err != nil {
			return i, err
		}
	}
	return 0, nil
}

// one checks one sector.
func (b Bounds) one(p []byte, off int64, least, most uint64) (uint64, error) {
	s, err := Read(p, off)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%w, wanted write %d to %d", err, least, most)
	case s.Seq != 0 && s.Stream != b.Stream:
		return 0, fmt.Errorf("%w at %d: write %d of stream %x, wanted %x", ErrWrong, off, s.Seq, s.Stream, b.Stream)
	case s.Seq < least || s.Seq > most:
		return 0, fmt.Errorf("%w at %d: write %d, wanted %d to %d", ErrWrong, off, s.Seq, least, most)
	}
	return s.Seq, nil
}
