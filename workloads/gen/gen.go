// SPDX-License-Identifier: Apache-2.0

// Package gen makes synthetic streams of operations, and the content that
// writes carry.
//
// It owns the address patterns ([Spec]) and the verifiable sector pattern
// ([Fill], [Verify], [Identify]). It does not issue operations. Experiments and
// tests call it. Everything is a pure function of its arguments: the same spec
// yields the same stream on every machine and in every version, and golden tests
// hold that; of Zipfian, rare ops may differ between architectures, whose
// floating-point functions differ in the last bit. A Stream belongs to one goroutine, the functions are safe for
// concurrent use. A spec that cannot be met is refused by [New]; a stream, once
// made, cannot fail.
package gen

import (
	"fmt"

	"zumastor.org/zumastor/workloads"
)

// Pattern says which block each op touches.
type Pattern string

// The patterns.
const (
	Random     Pattern = "random"     // uniformly, with repetition
	Sequential Pattern = "sequential" // ascending, and round again at the end
	Zipfian    Pattern = "zipfian"    // by popularity, the popular blocks scattered over the range
	Once       Pattern = "once"       // each block exactly once, in pseudo-random order; then the stream ends
)

// Spec describes a stream. The zero value of each optional field means the
// default that it names.
type Spec struct {
	Pattern Pattern
	Seed    uint64
	Start   int64   // first byte of the range of addresses; a multiple of Align
	Range   int64   // bytes in the range (the working set)
	Block   int64   // bytes an op
	Align   int64   // distance of possible offsets in bytes; default Block, and Once requires Block
	Count   int64   // ops, Flushes not counted; default endless, or each block once for Once
	Reads   float64 // share of ops that read, 0 to 1; each op is drawn on its own
	Theta   float64 // exponent of Zipfian, above 0; 0.99 is usual
	// SyncEvery puts a Flush behind every so many writes; zero means none.
	SyncEvery int64
	FUA       bool // writes are durable when they return
}

// Stream is a synthetic [workloads.Stream].
type Stream struct {
	spec    Spec
	places  uint64 // possible offsets
	kinds   rng    // draws read or write
	pick    func(n uint64) uint64
	n       uint64 // ops yielded, Flushes not counted
	count   uint64 // ops to yield; zero means endless
	unsaved int64  // writes since the last Flush
}

// New returns the stream that spec describes.
func New(spec Spec) (*Stream, error) {
	if spec.Align == 0 {
		spec.Align = spec.Block
	}
	if err := spec.check(); err != nil {
		return nil, fmt.Errorf("%s workload: %w", spec.Pattern, err)
	}
	s := &Stream{
		spec:   spec,
		places: uint64((spec.Range-spec.Block)/spec.Align) + 1,
		kinds:  newRNG(spec.Seed, streamKinds),
		count:  uint64(spec.Count),
	}
	places := newRNG(spec.Seed, streamPlaces)
	switch spec.Pattern {
	case Random:
		s.pick = func(uint64) uint64 { return places.below(s.places) }
	case Sequential:
		s.pick = func(n uint64) uint64 { return n % s.places }
	case Zipfian:
		z, scatter := newZipf(s.places, spec.Theta), NewPermutation(spec.Seed, s.places)
		s.pick = func(uint64) uint64 { return scatter.At(z.rank(&places)) }
	case Once:
		p := NewPermutation(spec.Seed, s.places)
		s.pick = p.At
		if s.count == 0 || s.count > s.places {
			s.count = s.places
		}
	}
	return s, nil
}

func (s Spec) check() error {
	const sector = workloads.SectorSize
	switch {
	case s.Pattern != Random && s.Pattern != Sequential && s.Pattern != Zipfian && s.Pattern != Once:
		return fmt.Errorf("unknown pattern: want %s, %s, %s or %s", Random, Sequential, Zipfian, Once)
	case s.Block <= 0 || s.Block%sector != 0 || s.Block > workloads.MaxTransfer:
		return fmt.Errorf("block size %d is not a multiple of %d from %d to %d", s.Block, sector, sector, workloads.MaxTransfer)
	case s.Align <= 0 || s.Align%sector != 0:
		return fmt.Errorf("alignment %d is not a positive multiple of %d", s.Align, sector)
	case s.Pattern == Once && s.Align != s.Block:
		return fmt.Errorf("alignment %d differs from the block size %d: blocks would overlap", s.Align, s.Block)
	case s.Start < 0 || s.Start%s.Align != 0:
		return fmt.Errorf("start %d is not a multiple of the alignment %d", s.Start, s.Align)
	case s.Range < s.Block || s.Start > maxOffset-s.Range:
		return fmt.Errorf("range of %d bytes at %d does not hold a block of %d", s.Range, s.Start, s.Block)
	case s.Count < 0 || s.SyncEvery < 0:
		return fmt.Errorf("count %d or sync interval %d is negative", s.Count, s.SyncEvery)
	case !(s.Reads >= 0 && s.Reads <= 1):
		return fmt.Errorf("share of reads %v is not from 0 to 1", s.Reads)
	case s.Pattern == Zipfian && !(s.Theta > 0 && s.Theta <= maxTheta):
		return fmt.Errorf("theta %v is not above 0 and at most %d", s.Theta, maxTheta)
	}
	return nil
}

const (
	maxOffset = 1<<63 - 1
	maxTheta  = 10
)

// Next implements [workloads.Stream].
func (s *Stream) Next() (workloads.Op, bool) {
	if s.spec.SyncEvery != 0 && s.unsaved == s.spec.SyncEvery {
		s.unsaved = 0
		return workloads.Op{Kind: workloads.Flush}, true
	}
	if s.count != 0 && s.n == s.count {
		return workloads.Op{}, false
	}
	op := workloads.Op{
		Kind: workloads.Write,
		Off:  s.spec.Start + int64(s.pick(s.n))*s.spec.Align,
		Len:  s.spec.Block,
		FUA:  s.spec.FUA,
	}
	s.n++
	if s.spec.Reads > 0 && s.kinds.unit() < s.spec.Reads {
		op.Kind, op.FUA = workloads.Read, false
	} else {
		s.unsaved++
	}
	return op, true
}
