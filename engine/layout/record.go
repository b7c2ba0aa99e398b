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
	RecordBatch    RecordKind = 1 + iota // a batch of copy-outs
	RecordSnapshot                       // a snapshot made or deleted
	maxRecordKind  = RecordSnapshot
)

// RecordHeaderSize is the size of the header of every log record, in bytes.
const RecordHeaderSize = 64

const (
	recordMagic = 0x6372737a // "zsrc"
	recordCRC   = 12
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
	le.PutUint16(rec[4:], Version)
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
	case le.Uint16(p[4:]) != Version:
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

const snapshotRecordSize = 32

// AppendSnapshotRecord codes a snapshot's entry:
//
//	0 generation u64   8 tag u32   12 state u8, zero 3   16 created i64   24 size i64
func AppendSnapshotRecord(dst []byte, s Snapshot) []byte {
	le := binary.LittleEndian
	dst = le.AppendUint64(dst, uint64(s.Generation))
	dst = le.AppendUint32(dst, uint32(s.Tag))
	dst = append(dst, byte(s.State), 0, 0, 0)
	dst = le.AppendUint64(dst, uint64(s.Created))
	return le.AppendUint64(dst, uint64(s.Size))
}

// DecodeSnapshotRecord is the reverse of [AppendSnapshotRecord].
func DecodeSnapshotRecord(p []byte) (Snapshot, error) {
	if len(p) != snapshotRecordSize {
		return Snapshot{}, fmt.Errorf("%w: snapshot record of %d bytes", ErrCorrupt, len(p))
	}
	le := binary.LittleEndian
	s := Snapshot{
		Generation: block.Generation(le.Uint64(p)), Tag: block.Tag(le.Uint32(p[8:])), State: SnapshotState(p[12]),
		Created: int64(le.Uint64(p[16:])), Size: int64(le.Uint64(p[24:])),
	}
	if s.State == 0 || s.State > maxSnapshotState || s.Generation == 0 || p[13]|p[14]|p[15] != 0 {
		return s, fmt.Errorf("%w: snapshot record of generation %d in state %d", ErrCorrupt, s.Generation, s.State)
	}
	return s, nil
}
