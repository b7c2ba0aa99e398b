// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"bytes"
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

// run is a part of a job's content, all of one kind: as bytes of the job.
type run struct {
	kind     Kind // zero for what is the same in the base
	from, to int
	source   int64 // of again
}

// sort tells which chunks of a job are the same in the base, zeroes, known from before,
// or content, and joins neighbours, and content with little between that is the same.
func (e *encoding) sort(j *job) ([]run, error) {
	var runs []run
	for from := 0; from < len(j.content); from += e.o.ChunkSize {
		r := run{from: from, to: min(from+e.o.ChunkSize, len(j.content))}
		chunk := j.content[r.from:r.to]
		switch {
		case r.to <= len(j.base) && bytes.Equal(chunk, j.base[r.from:r.to]):
			continue
		case isZero(chunk):
			r.kind = KindZero
		default:
			var err error
			if r.kind = KindExtent; len(chunk) == e.o.ChunkSize {
				if r.source, err = e.seen.find(chunk, j.Offset+int64(from)); err != nil {
					return nil, err
				}
				if r.source >= 0 {
					r.kind = KindAgain
				}
			}
		}
		if n := len(runs) - 1; n >= 0 && (runs[n].joins(r) || e.near(&runs[n], &r)) {
			runs[n].to = r.to
			continue
		}
		runs = append(runs, r)
	}
	return runs, nil
}

// joins reports whether b goes on where r ends. What stands elsewhere was never found
// again itself, so a run does not grow into where it stands.
func (r *run) joins(b run) bool {
	return r.kind == b.kind && r.to == b.from && (r.kind != KindAgain || r.source+int64(r.to-r.from) == b.source)
}

// near reports whether what is the same between two runs of content, if that is all there
// is, is to be content, too.
func (e *encoding) near(a, b *run) bool {
	return a.kind == KindExtent && b.kind == KindExtent && b.from-a.to <= e.o.Join
}

func isZero(p []byte) bool {
	for len(p) >= 8 {
		if binary.LittleEndian.Uint64(p) != 0 {
			return false
		}
		p = p[8:]
	}
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}

// seenSlots is how many chunks are remembered. A slot is 16 bytes.
const seenSlots = 1 << 19

// seen remembers where chunks of the target stand, by what they hold. One that takes the
// slot of another displaces it. For one goroutine at a time.
type seen struct {
	target Content
	slots  []seenSlot
	buf    []byte
}

type seenSlot struct {
	sum uint64
	off int64 // plus one; zero: it is free
}

func newSeen(target Content) *seen { return &seen{target: target, slots: make([]seenSlot, seenSlots)} }

// find returns where the target has the chunk before off, or -1, and remembers it. What
// it remembers it compares.
func (s *seen) find(chunk []byte, off int64) (int64, error) {
	sum := xxhash.Sum64(chunk)
	slot := &s.slots[sum%seenSlots]
	if slot.off == 0 || slot.sum != sum {
		*slot = seenSlot{sum, off + 1}
		return -1, nil
	}
	if s.buf == nil {
		s.buf = make([]byte, len(chunk))
	}
	if err := readFull(s.target, s.buf, slot.off-1); err != nil {
		return -1, err
	}
	if !bytes.Equal(s.buf, chunk) {
		return -1, nil
	}
	return slot.off - 1, nil
}
