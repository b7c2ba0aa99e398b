// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"encoding/binary"
	"fmt"

	"zumastor.org/zumastor/engine/block"
)

// Identity says which record of which opening of which store a log record is.
// Recovery accepts only the exact one that must come next: places are used
// again, and an old record there still has a valid checksum.
type Identity struct {
	UUID  UUID
	Epoch uint64
	Seq   uint64
}

// RecordKind says what a log record holds. Part of the format, must not change.
type RecordKind uint8

// The kinds of log record.
const (
	RecordBatch    RecordKind = 1 + iota // a batch of copy-outs, or of chunks written to a snapshot
	RecordSnapshot                       // a snapshot's new entry: it was made, changed or deleted
	maxRecordKind  = RecordSnapshot
)

// RecordHeaderSize is the size of the header of every log record, in bytes.
const RecordHeaderSize = 64

const (
	recordMagic   = 0x6372737a // "zsrc"
	recordVersion = 1
	recordCRC     = 12
)

// RecordHeader opens a log record, in a journal or as a batch's descriptor:
//
//	0   magic u32     4 version u16   6 kind u8   7 zero u8
//	8   body bytes u32               12 CRC32C of header and body, this field zero
//	16  uuid 16      32 epoch u64    40 sequence number u64
//	48  durable u64: every record up to this number was durable when this one was written
//	56  next u64: slot of the next descriptor; zero in a journal
type RecordHeader struct {
	Identity
	Kind    RecordKind
	Body    uint32 // bytes after the header
	Durable uint64
	Next    block.Slot
}

// SealRecord writes h into the first [RecordHeaderSize] bytes of rec, whose rest
// is the body, and sets h.Body and the checksum.
func SealRecord(h RecordHeader, rec []byte) {
	le := binary.LittleEndian
	clear(rec[:RecordHeaderSize])
	le.PutUint32(rec[0:], recordMagic)
	le.PutUint16(rec[4:], recordVersion)
	rec[6] = byte(h.Kind)
	le.PutUint32(rec[8:], uint32(len(rec)-RecordHeaderSize))
	copy(rec[16:], h.UUID[:])
	le.PutUint64(rec[32:], h.Epoch)
	le.PutUint64(rec[40:], h.Seq)
	le.PutUint64(rec[48:], h.Durable)
	le.PutUint64(rec[56:], uint64(h.Next))
	le.PutUint32(rec[recordCRC:], Checksum(rec))
}

// DecodeRecordHeader reads a header without its body and checks that the record
// is the wanted one. The checksum needs the body: see [VerifyRecord].
func DecodeRecordHeader(p []byte, want Identity) (RecordHeader, error) {
	if len(p) < RecordHeaderSize {
		return RecordHeader{}, fmt.Errorf("%w: record header of %d bytes", ErrCorrupt, len(p))
	}
	le := binary.LittleEndian
	h := RecordHeader{
		Identity: Identity{Epoch: le.Uint64(p[32:]), Seq: le.Uint64(p[40:])},
		Kind:     RecordKind(p[6]), Body: le.Uint32(p[8:]), Durable: le.Uint64(p[48:]), Next: block.Slot(le.Uint64(p[56:])),
	}
	copy(h.UUID[:], p[16:])
	switch {
	case le.Uint32(p) != recordMagic:
		return h, fmt.Errorf("%w: record magic %#x", ErrCorrupt, le.Uint32(p))
	case le.Uint16(p[4:]) != recordVersion:
		return h, fmt.Errorf("%w: record format %d", ErrVersion, le.Uint16(p[4:]))
	case h.Identity != want:
		return h, fmt.Errorf("%w: record is %v, want %v", ErrCorrupt, h.Identity, want)
	case h.Kind == 0 || h.Kind > maxRecordKind || p[7] != 0:
		return h, fmt.Errorf("%w: record kind %d", ErrCorrupt, le.Uint16(p[6:]))
	case h.Durable >= h.Seq:
		return h, fmt.Errorf("%w: record %d says that %d is durable", ErrCorrupt, h.Seq, h.Durable)
	}
	return h, nil
}

// VerifyRecord checks the checksum of a whole record, header and body.
func VerifyRecord(rec []byte) error {
	if len(rec) < RecordHeaderSize {
		return fmt.Errorf("%w: record of %d bytes", ErrCorrupt, len(rec))
	}
	if sum := binary.LittleEndian.Uint32(rec[recordCRC:]); sum != ChecksumWithout(rec, recordCRC) {
		return fmt.Errorf("%w: record checksum %#x", ErrCorrupt, sum)
	}
	return nil
}

// AppendSnapshotRecord codes a snapshot's entry:
//
//	0  generation u64   8 parent u64   16 tag u32   20 state u8   21 flags u8   22 priority i8   23 length of the name u8
//	24 created i64     32 size i64    40 use count u32   44 group size u16   46 zero u16   48 group 16   64 name
//
// with the flags 1 held, 2 damaged, 8 a source follows the name, 16 a delta follows that, 32 lossy,
// 64 the offset up to which that is applied, 8 bytes, follows it.
func AppendSnapshotRecord(dst []byte, s Snapshot) []byte {
	le := binary.LittleEndian
	dst = le.AppendUint64(dst, uint64(s.Generation))
	dst = le.AppendUint64(dst, uint64(s.Parent))
	dst = le.AppendUint32(dst, uint32(s.Tag))
	dst = append(dst, byte(s.State), s.flags(), byte(s.Priority), byte(len(s.Name)))
	dst = le.AppendUint64(dst, uint64(s.Created))
	dst = le.AppendUint64(dst, uint64(s.Size))
	dst = le.AppendUint32(dst, s.UseCount)
	dst = le.AppendUint16(dst, s.GroupSize)
	dst = le.AppendUint16(dst, 0)
	dst = append(dst, s.Group[:]...)
	dst = append(dst, s.Name...)
	if s.Source != (Source{}) {
		dst = append(dst, s.Source.Store[:]...)
		dst = le.AppendUint64(dst, uint64(s.Source.Generation))
	}
	if s.Applying != (UUID{}) {
		dst = append(dst, s.Applying[:]...)
	}
	if s.Applied != 0 {
		dst = le.AppendUint64(dst, uint64(s.Applied))
	}
	return dst
}

// Sizes of parts of a snapshot record.
const (
	snapshotRecordSize = 64 // without the name and what follows it
	sourceSize         = 24
	applyingSize       = 16
	appliedSize        = 8
)

// snapshotRecordLen returns the size of a record with such a name and flags.
func snapshotRecordLen(name int, flags uint8) int {
	n := snapshotRecordSize + name
	if flags&flagSource != 0 {
		n += sourceSize
	}
	if flags&flagApplying != 0 {
		n += applyingSize
	}
	if flags&flagApplied != 0 {
		n += appliedSize
	}
	return n
}

// DecodeSnapshotRecord is the reverse of [AppendSnapshotRecord].
func DecodeSnapshotRecord(p []byte) (Snapshot, error) {
	if len(p) < snapshotRecordSize || len(p) != snapshotRecordLen(int(p[23]), p[21]) {
		return Snapshot{}, fmt.Errorf("%w: snapshot record of %d bytes", ErrCorrupt, len(p))
	}
	le := binary.LittleEndian
	s := Snapshot{
		Generation: block.Generation(le.Uint64(p)), Parent: block.Branch(le.Uint64(p[8:])), Tag: block.Tag(le.Uint32(p[16:])),
		State: SnapshotState(p[20]), Priority: int8(p[22]), Created: int64(le.Uint64(p[24:])), Size: int64(le.Uint64(p[32:])),
		UseCount: le.Uint32(p[40:]), GroupSize: le.Uint16(p[44:]), Group: UUID(p[48:64]), Name: string(p[snapshotRecordSize : snapshotRecordSize+int(p[23])]),
	}
	rest := p[snapshotRecordSize+int(p[23]):]
	if p[21]&flagSource != 0 {
		s.Source = Source{Store: UUID(rest[:16]), Generation: block.Generation(le.Uint64(rest[16:]))}
		rest = rest[sourceSize:]
	}
	if p[21]&flagApplying != 0 {
		s.Applying = UUID(rest[:applyingSize])
		rest = rest[applyingSize:]
	}
	if p[21]&flagApplied != 0 {
		s.Applied = int64(le.Uint64(rest))
	}
	if !s.setFlags(p[21]) || le.Uint16(p[46:]) != 0 || !s.valid() {
		return s, fmt.Errorf("%w: snapshot record of generation %d in state %d", ErrCorrupt, s.Generation, s.State)
	}
	return s, nil
}
