// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"cmp"
	"encoding/binary"

	"zumastor.org/zumastor/engine/block"
)

// SnapshotState says what a snapshot's entry stands for. Part of the format,
// must not change.
type SnapshotState uint8

// The states of a snapshot.
const (
	SnapshotLive     SnapshotState = 1 + iota // can be read
	SnapshotDeleting                          // deleted; its exceptions are being freed
	maxSnapshotState = SnapshotDeleting
)

// Snapshot is a snapshot's entry in the snapshot tree.
type Snapshot struct {
	Generation block.Generation // that it began: its key
	Tag        block.Tag        // the user's name for it
	State      SnapshotState
	Created    int64 // nanoseconds since 1970 UTC
	Size       int64 // of the origin when it was made, in bytes
}

// SnapshotCodec codes the entries of the snapshot tree. An entry is
//
//	uvarint  generation delta
//	uvarint  tag
//	u8       state
//	varint   created - previous created
//	varint   size - previous size
type SnapshotCodec struct{}

// Compare orders by generation.
func (SnapshotCodec) Compare(a, b Snapshot) int { return cmp.Compare(a.Generation, b.Generation) }

// Follows is never true: snapshots form no runs.
func (SnapshotCodec) Follows(_, _ Snapshot) bool { return false }

// Next returns prev's successor, which no entry equals.
func (SnapshotCodec) Next(prev Snapshot) Snapshot { return Snapshot{Generation: prev.Generation + 1} }

// Append codes e after prev.
func (SnapshotCodec) Append(dst []byte, prev, e Snapshot, _ bool) []byte {
	dst = binary.AppendUvarint(dst, uint64(e.Generation-prev.Generation))
	dst = binary.AppendUvarint(dst, uint64(e.Tag))
	dst = append(dst, byte(e.State))
	dst = binary.AppendVarint(dst, e.Created-prev.Created)
	return binary.AppendVarint(dst, e.Size-prev.Size)
}

// Decode reads the entry after prev.
func (SnapshotCodec) Decode(src []byte, prev Snapshot, _ bool) (Snapshot, []byte, error) {
	d := decoder{src: src}
	e := Snapshot{Generation: prev.Generation + block.Generation(d.uvarint())}
	tag := d.uvarint()
	e.Tag, e.State = block.Tag(tag), SnapshotState(d.uint8())
	e.Created = prev.Created + d.varint()
	e.Size = prev.Size + d.varint()
	if tag>>32 != 0 || e.State == 0 || e.State > maxSnapshotState {
		d.bad = true
	}
	return e, d.src, d.err("snapshot")
}

// ExtraSize is zero.
func (SnapshotCodec) ExtraSize() int { return 0 }

// AppendExtra appends nothing.
func (SnapshotCodec) AppendExtra(dst []byte, _ Snapshot) []byte { return dst }

// DecodeExtra reads nothing.
func (SnapshotCodec) DecodeExtra([]byte, *Snapshot) {}
