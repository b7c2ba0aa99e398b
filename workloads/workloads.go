// SPDX-License-Identifier: Apache-2.0

// Package workloads defines the operations that are issued to block devices
// under test, and the streams that they come in.
//
// It owns [Op], its text form, and [Stream]. It does not issue anything and does
// no I/O: package gen makes synthetic streams, trace reads recorded ones, record
// makes recordings, apply issues a stream to a device, fio has fio issue one.
// Experiments call it. An Op is a plain value; a Stream belongs to one goroutine
// at a time. A stream that fails ends early and says why through [Err].
package workloads

import (
	"fmt"
	"time"
)

// SectorSize is the unit of every offset and length, in bytes.
const SectorSize = 512

// MaxTransfer is the longest Read or Write that a stream may hold, in bytes.
// The other kinds move no data and have no such limit.
const MaxTransfer = 64 << 20

// Kind says what an [Op] does. The numbers are part of the trace format and must
// not change.
type Kind uint8

// The kinds of Op.
const (
	Read Kind = iota
	Write
	Flush   // makes every write that has returned durable; has no range
	Discard // the range's content is no longer needed
	Zero    // the range reads as zeroes afterwards
	// Kinds is the number of kinds, for arrays indexed by Kind.
	Kinds = 5
)

var kindNames = [Kinds]string{"read", "write", "flush", "discard", "zero"}

// String returns the kind's name in the text form.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Op is one operation on a block device.
type Op struct {
	Kind Kind
	FUA  bool          // of a Write or Zero: durable when it returns
	Off  int64         // bytes; a multiple of SectorSize
	Len  int64         // bytes; a positive multiple of SectorSize, but zero for Flush
	Gap  time.Duration // time from the start of the op before to the start of this one; zero if unknown
}

// End returns the offset of the first byte behind the op.
func (o Op) End() int64 { return o.Off + o.Len }

// Mutates reports whether the op changes content.
func (o Op) Mutates() bool { return o.Kind == Write || o.Kind == Discard || o.Kind == Zero }

// Overlaps reports whether two ops share a byte.
func (o Op) Overlaps(p Op) bool { return o.Off < p.End() && p.Off < o.End() }

// Check returns an error that names the op unless it is well formed and lies
// within a device of size bytes.
func (o Op) Check(size int64) error {
	switch {
	case o.Kind >= Kinds:
		return fmt.Errorf("op of unknown kind %d", o.Kind)
	case o.Gap < 0:
		return fmt.Errorf("op %q: gap %v is negative", o, o.Gap)
	case o.FUA && o.Kind != Write && o.Kind != Zero:
		return fmt.Errorf("op %q: only write and zero take fua", o)
	case o.Kind == Flush:
		if o.Off != 0 || o.Len != 0 {
			return fmt.Errorf("flush has a range %d+%d: it must have none", o.Off, o.Len)
		}
		return nil
	case o.Off < 0 || o.Len <= 0 || o.Off%SectorSize != 0 || o.Len%SectorSize != 0:
		return fmt.Errorf("op %q: offset and length must be multiples of %d, the length positive", o, SectorSize)
	case o.Off > size || o.Len > size-o.Off:
		return fmt.Errorf("op %q exceeds the device size %d", o, size)
	case o.Len > MaxTransfer && (o.Kind == Read || o.Kind == Write):
		return fmt.Errorf("op %q exceeds the longest transfer %d", o, MaxTransfer)
	}
	return nil
}

// Stream yields ops one by one; Next returns false at the end and ever after.
// Streams of package gen may be endless.
type Stream interface {
	Next() (Op, bool)
}

// Err returns why s ended early: the result of its method Err() error where it
// has one, else nil. Whoever drains a stream must call it.
func Err(s Stream) error {
	if f, ok := s.(interface{ Err() error }); ok {
		return f.Err()
	}
	return nil
}

// Slice is a Stream over ops held in memory.
type Slice struct {
	ops  []Op
	next int
}

// NewSlice returns a stream of ops, which it does not copy.
func NewSlice(ops []Op) *Slice { return &Slice{ops: ops} }

// Next implements [Stream].
func (s *Slice) Next() (Op, bool) {
	if s.next == len(s.ops) {
		return Op{}, false
	}
	s.next++
	return s.ops[s.next-1], true
}

// Rewind puts the stream back to its first op.
func (s *Slice) Rewind() { s.next = 0 }

// Len returns the number of ops in the whole stream.
func (s *Slice) Len() int { return len(s.ops) }
