// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"unicode/utf8"

	"zumastor.org/zumastor/engine/block"
)

// SnapshotState says what a snapshot's entry stands for. Part of the format,
// must not change.
type SnapshotState uint8

// The states of a snapshot.
const (
	SnapshotLive     SnapshotState = 1 + iota // can be read
	SnapshotDeleting                          // deleted; its exceptions are being freed
	SnapshotSquashed                          // its exceptions were given up for space: it is only listed
	SnapshotPrepared                          // of a group of which nobody has said yet whether it exists
	maxSnapshotState = SnapshotPrepared
)

// String returns the state's name.
func (s SnapshotState) String() string {
	if s == 0 || s > maxSnapshotState {
		return fmt.Sprintf("state(%d)", uint8(s))
	}
	return [...]string{"live", "deleting", "squashed", "prepared"}[s-1]
}

// MaxName is the longest name of a snapshot, in bytes.
const MaxName = 64

// Priorities of snapshots: when a store is full, the lower is dropped first, and
// one of MaxPriority never.
const (
	MinPriority = math.MinInt8
	MaxPriority = math.MaxInt8
)

// Snapshot is a snapshot's entry in the snapshot tree.
type Snapshot struct {
	Generation block.Generation // that it began: its key
	Parent     block.Branch     // what it is a snapshot of: the origin, or the snapshot of that generation
	Tag        block.Tag        // the user's number for it
	State      SnapshotState
	Held       bool   // not to be deleted
	Damaged    bool   // some of its exceptions are lost, nobody knows which
	Lossy      bool   // some of its exceptions are known to be lost: see LostSlot
	Priority   int8   // whether it is dropped before others
	UseCount   uint32 // of users that persist
	Group      UUID   // that it belongs to, or zero
	GroupSize  uint16 // number of the group's snapshots, one a store
	Created    int64  // nanoseconds since 1970 UTC
	Size       int64  // of its parent when it was made, in bytes
	Name       string // the user's name for it, at most MaxName bytes of UTF-8; or empty
	Source     Source // the snapshot that it is a copy of, or zero
	Applying   UUID   // the delta by which the origin is being made a newer state than this, or zero
	Applied    int64  // offset up to which the origin durably holds what that delta makes; zero: nobody knows
}

// Source is a snapshot of which there are copies in other stores.
type Source struct {
	Store      UUID
	Generation block.Generation
}

// Flags of a coded snapshot.
const (
	flagHeld = 1 << iota
	flagDamaged
	flagGroup // in the tree only
	flagSource
	flagApplying
	flagLossy
	flagApplied
	knownSnapshotFlags = flagHeld | flagDamaged | flagSource | flagApplying | flagLossy | flagApplied
)

func (s *Snapshot) flags() (f uint8) {
	if s.Held {
		f |= flagHeld
	}
	if s.Damaged {
		f |= flagDamaged
	}
	if s.Source != (Source{}) {
		f |= flagSource
	}
	if s.Applying != (UUID{}) {
		f |= flagApplying
	}
	if s.Lossy {
		f |= flagLossy
	}
	if s.Applied != 0 {
		f |= flagApplied
	}
	return f
}

// setFlags takes flags in, and reports whether they are those of what was decoded
// before.
func (s *Snapshot) setFlags(f uint8) bool {
	s.Held, s.Damaged, s.Lossy = f&flagHeld != 0, f&flagDamaged != 0, f&flagLossy != 0
	return f == s.flags()
}

// valid reports whether the entry can be: what no checksum can tell.
func (s *Snapshot) valid() bool {
	return s.Generation != 0 && uint64(s.Parent) < uint64(s.Generation) && s.State != 0 && s.State <= maxSnapshotState &&
		len(s.Name) <= MaxName && utf8.ValidString(s.Name) && (s.Group == UUID{}) == (s.GroupSize == 0) &&
		(s.Source.Store == UUID{}) == (s.Source.Generation == 0) && s.Applied >= 0 && (s.Applied == 0 || s.Applying != UUID{})
}

// SnapshotCodec codes the entries of the snapshot tree. An entry is
//
//	uvarint  generation delta
//	uvarint  parent
//	uvarint  tag
//	u8       state
//	u8       flags: 1 held, 2 damaged, 4 a group follows, 8 a source does, 16 a delta does, 32 lossy, 64 an offset does
//	u8       priority
//	uvarint  use count
//	varint   created - previous created
//	varint   size - previous size
//	16       group, and uvarint group size  only with flag 4
//	16       source: store, and uvarint generation  only with flag 8
//	16       delta that is being applied  only with flag 16
//	uvarint  offset up to which it is  only with flag 64
//	uvarint  length of the name, and so many bytes
type SnapshotCodec struct{}

// Compare orders by generation.
func (SnapshotCodec) Compare(a, b Snapshot) int { return cmp.Compare(a.Generation, b.Generation) }

// Follows is never true: snapshots form no runs.
func (SnapshotCodec) Follows(_, _ Snapshot) bool { return false }

// Next returns prev's successor, which no entry equals.
func (SnapshotCodec) Next(prev Snapshot) Snapshot { return Snapshot{Generation: prev.Generation + 1} }

// Append codes e after prev.
func (SnapshotCodec) Append(dst []byte, prev, e Snapshot, _ bool) []byte {
	flags := e.flags()
	if e.GroupSize != 0 {
		flags |= flagGroup
	}
	dst = binary.AppendUvarint(dst, uint64(e.Generation-prev.Generation))
	dst = binary.AppendUvarint(dst, uint64(e.Parent))
	dst = binary.AppendUvarint(dst, uint64(e.Tag))
	dst = append(dst, byte(e.State), flags, byte(e.Priority))
	dst = binary.AppendUvarint(dst, uint64(e.UseCount))
	dst = binary.AppendVarint(dst, e.Created-prev.Created)
	dst = binary.AppendVarint(dst, e.Size-prev.Size)
	if e.GroupSize != 0 {
		dst = append(dst, e.Group[:]...)
		dst = binary.AppendUvarint(dst, uint64(e.GroupSize))
	}
	if flags&flagSource != 0 {
		dst = append(dst, e.Source.Store[:]...)
		dst = binary.AppendUvarint(dst, uint64(e.Source.Generation))
	}
	if flags&flagApplying != 0 {
		dst = append(dst, e.Applying[:]...)
	}
	if flags&flagApplied != 0 {
		dst = binary.AppendUvarint(dst, uint64(e.Applied))
	}
	dst = binary.AppendUvarint(dst, uint64(len(e.Name)))
	return append(dst, e.Name...)
}

// Decode reads the entry after prev.
func (SnapshotCodec) Decode(src []byte, prev Snapshot, _ bool) (Snapshot, []byte, error) {
	d := decoder{src: src}
	e := Snapshot{Generation: prev.Generation + block.Generation(d.uvarint())}
	e.Parent = block.Branch(d.uvarint())
	e.Tag = block.Tag(d.uvarintUpTo(math.MaxUint32))
	e.State = SnapshotState(d.uint8())
	flags := d.uint8()
	e.Priority = int8(d.uint8())
	e.UseCount = uint32(d.uvarintUpTo(math.MaxUint32))
	e.Created = prev.Created + d.varint()
	e.Size = prev.Size + d.varint()
	if flags&flagGroup != 0 {
		copy(e.Group[:], d.bytes(len(e.Group)))
		e.GroupSize = uint16(d.uvarintUpTo(math.MaxUint16))
	}
	if flags&flagSource != 0 {
		copy(e.Source.Store[:], d.bytes(len(e.Source.Store)))
		e.Source.Generation = block.Generation(d.uvarint())
	}
	if flags&flagApplying != 0 {
		copy(e.Applying[:], d.bytes(len(e.Applying)))
	}
	if flags&flagApplied != 0 {
		e.Applied = int64(d.uvarintUpTo(math.MaxInt64))
	}
	e.Name = string(d.bytes(int(d.uvarintUpTo(MaxName))))
	if !e.setFlags(flags&^flagGroup) || (flags&flagGroup != 0) != (e.GroupSize != 0) || !e.valid() {
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
