// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout/sum"
)

// Magic and Version open every superblock. Part of the format, must not change.
const (
	Magic   = 0x00726f7473616d7a // "zmastor\0"
	Version = 3
)

// Superblocks are kept in turn in pages 0 and 1 of the metadata area: that of
// checkpoint n in page n%2.
const Superblocks = 2

// SuperblockSize is a superblock's size in bytes: one sector, so that a write of
// it is either done or not. The rest of its page is written as zeroes, and not
// read.
const SuperblockSize = block.SectorSize

// MaxGrown is how many extents of tree pages a superblock can list besides the
// first one.
const MaxGrown = 10

// Policy says what happens to origin writes that need a copy-out when the store is
// full. Part of the format, must not change.
type Policy uint8

// The policies.
const (
	PolicyDrop       Policy = iota // snapshots are deleted, as their priorities say
	PolicyBlock                    // the writes wait until there is space
	PolicyFailWrites               // the writes fail with "no space"
	maxPolicy        = PolicyFailWrites
)

var policyNames = [...]string{"drop", "block", "fail-writes"}

// String returns the policy's name on the command line.
func (p Policy) String() string {
	if p > maxPolicy {
		return fmt.Sprintf("policy(%d)", uint8(p))
	}
	return policyNames[p]
}

// ParsePolicy is the reverse of String.
func ParsePolicy(name string) (Policy, error) {
	for p := range maxPolicy + 1 {
		if policyNames[p] == name {
			return p, nil
		}
	}
	return 0, fmt.Errorf("unknown policy %q: use drop, block or fail-writes", name)
}

// Restore is a revert of the origin, or a merge into it, that is under way.
type Restore struct {
	Generation block.Generation // of the snapshot whose content the origin takes; zero: none is under way
	Next       block.Chunk      // all chunks before it are restored
	Merge      bool             // the snapshot is deleted in the end
	SkipLost   bool             // what cannot be read of the snapshot stays as it was in the origin
}

// Placement says where a batch's record is made durable. Part of the format,
// must not change.
type Placement uint8

// The placements.
const (
	PlacementInline Placement = 1 + iota // in the store, before the batch's chunks
	PlacementDisk                        // in a journal region of the metadata area
	PlacementNVRAM                       // in a journal on a battery-backed block device
	PlacementPMem                        // in a journal in mapped persistent memory
	maxPlacement    = PlacementPMem
)

var placementNames = [...]string{"", "inline", "disk", "nvram", "pmem"}

// String returns the placement's name on the command line.
func (p Placement) String() string {
	if p == 0 || p > maxPlacement {
		return fmt.Sprintf("placement(%d)", uint8(p))
	}
	return placementNames[p]
}

// ParsePlacement is the reverse of String.
func ParsePlacement(name string) (Placement, error) {
	for p := PlacementInline; p <= maxPlacement; p++ {
		if placementNames[p] == name {
			return p, nil
		}
	}
	return 0, fmt.Errorf("unknown placement %q: use inline, disk, nvram or pmem", name)
}

// UUID identifies a store; every structure in it bears it.
type UUID [16]byte

// String returns the customary form.
func (u UUID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
}

// Root points at a tree: its root page, the height of that page (0 is a leaf)
// and the number of entries. A tree without entries has no page.
type Root struct {
	Page    block.Page
	Level   uint8
	Entries uint64
}

// SlotRun is Len slots from First on.
type SlotRun struct {
	First block.Slot
	Len   uint64
}

// Position is a place in a log: the offset of the next record in a journal, or
// the slot of the next descriptor in the data area, and the sequence number that
// the record there must have.
type Position struct {
	Place uint64
	Seq   uint64
}

// Extent is Len pages of the metadata area from First on.
type Extent struct {
	First block.Page
	Len   uint64
}

// End returns the page after the extent.
func (e Extent) End() block.Page { return e.First + block.Page(e.Len) }

// Superblock is a checkpoint's root: all that must be known to open a store.
type Superblock struct {
	UUID       UUID
	Checkpoint uint64 // number of this checkpoint; the higher valid one of the two is the store's
	Epoch      uint64 // of the opening that wrote it
	Created    int64  // nanoseconds since 1970 UTC

	Placement  Placement
	Separate   bool // the metadata area is on a device of its own
	Clean      bool // closed in order: nothing to replay
	ChunkShift uint
	OriginSize int64

	DataOffset int64  // of slot 0 on the store device, in bytes
	Slots      uint64 // number of slots

	Control     Extent // ring of snapshot records
	Journal     Extent // ring of batch records, of placement disk
	JournalSize int64  // bytes of the ring on a device of its own, of placements nvram and pmem
	TreePages   Extent // pages of the trees; see Grown for more

	Generation block.Generation // the origin's current one
	ControlPos Position         // of the first snapshot record that is not in this checkpoint
	LogPos     Position         // of the first batch that is not in this checkpoint
	Allocated  uint64           // slots that are allocated, leased ones included
	Roots      [Kinds]Root      // by kind - 1

	Policy  Policy
	Restore Restore
	Grown   []Extent // more pages of the trees, in space that the store grew by; at most MaxGrown
}

// superblockDisk is the sector: the fields one after another, little endian,
// without padding.
type superblockDisk struct {
	Magic       uint64
	Version     uint32
	CRC         uint32 // CRC32C of the sector with this field zero
	UUID        UUID
	Checkpoint  uint64 // offset 32
	Epoch       uint64
	Created     int64
	Placement   uint8 // offset 56
	ChunkShift  uint8
	Flags       uint16
	GrownCount  uint8
	Policy      uint8
	Zero        uint16
	OriginSize  int64 // offset 64
	DataOffset  int64
	Slots       uint64
	Control     Extent // offset 88
	Journal     Extent
	JournalSize int64
	TreePages   Extent // offset 128
	Generation  uint64
	ControlPos  Position // offset 152
	LogPos      Position
	Allocated   uint64              // offset 184
	Roots       [Kinds - 1]rootDisk // without that of the digests
	RestoreGen  uint64              // offset 312
	RestoreNext uint64
	Grown       [MaxGrown]Extent // offset 328
	Digests     rootDisk         // offset 488
}

type rootDisk struct {
	Page    uint64
	Entries uint64
	Level   uint8
	Zero    [7]byte
}

// root returns the i-th root.
func (d *superblockDisk) root(i int) *rootDisk {
	if i < len(d.Roots) {
		return &d.Roots[i]
	}
	return &d.Digests
}

const superblockCRC = 12 // offset of superblockDisk.CRC

// Flags of superblockDisk.
const (
	flagSeparate = 1 << iota
	flagClean
	flagMerge
	flagSkipLost
	knownFlags = flagSeparate | flagClean | flagMerge | flagSkipLost
)

// Encode returns the superblock's [SuperblockSize] bytes. It panics when there are more than
// [MaxGrown] extents: the caller's fault.
func (s *Superblock) Encode() []byte {
	if len(s.Grown) > MaxGrown {
		panic(fmt.Sprintf("layout: %d grown extents in a superblock", len(s.Grown)))
	}
	d := superblockDisk{
		Magic: Magic, Version: Version, UUID: s.UUID, Checkpoint: s.Checkpoint, Epoch: s.Epoch, Created: s.Created,
		Placement: uint8(s.Placement), ChunkShift: uint8(s.ChunkShift), GrownCount: uint8(len(s.Grown)), Policy: uint8(s.Policy),
		OriginSize: s.OriginSize, DataOffset: s.DataOffset, Slots: s.Slots,
		Control: s.Control, Journal: s.Journal, JournalSize: s.JournalSize, TreePages: s.TreePages,
		Generation: uint64(s.Generation), ControlPos: s.ControlPos, LogPos: s.LogPos, Allocated: s.Allocated,
		RestoreGen: uint64(s.Restore.Generation), RestoreNext: uint64(s.Restore.Next),
	}
	if s.Separate {
		d.Flags |= flagSeparate
	}
	if s.Clean {
		d.Flags |= flagClean
	}
	if s.Restore.Merge {
		d.Flags |= flagMerge
	}
	if s.Restore.SkipLost {
		d.Flags |= flagSkipLost
	}
	for i, r := range s.Roots {
		*d.root(i) = rootDisk{Page: uint64(r.Page), Entries: r.Entries, Level: r.Level}
	}
	copy(d.Grown[:], s.Grown)
	p, err := binary.Append(make([]byte, 0, SuperblockSize), binary.LittleEndian, &d)
	if err != nil {
		panic(err) // superblockDisk has a fixed size
	}
	binary.LittleEndian.PutUint32(p[superblockCRC:], ChecksumWithout(p, superblockCRC))
	return p
}

// ErrNoSuperblock is wrapped, with [ErrCorrupt], when bytes don't even begin as a
// superblock does.
var ErrNoSuperblock = errors.New("no superblock")

// DecodeSuperblock reads a superblock's [SuperblockSize] bytes. Its numbers are checked against
// each other, not against the size of a device.
func DecodeSuperblock(p []byte) (*Superblock, error) {
	if len(p) != SuperblockSize {
		return nil, fmt.Errorf("%w: superblock of %d bytes", ErrCorrupt, len(p))
	}
	var d superblockDisk
	if _, err := binary.Decode(p, binary.LittleEndian, &d); err != nil {
		return nil, fmt.Errorf("%w: superblock: %v", ErrCorrupt, err)
	}
	switch {
	case d.Magic != Magic:
		return nil, fmt.Errorf("%w: %w: magic %#x, want %#x", ErrCorrupt, ErrNoSuperblock, d.Magic, uint64(Magic))
	case d.Version != Version:
		return nil, fmt.Errorf("%w: store format %d, this program knows %d", ErrVersion, d.Version, Version)
	case d.CRC != ChecksumWithout(p, superblockCRC):
		return nil, fmt.Errorf("%w: superblock checksum", ErrCorrupt)
	case d.Flags&^knownFlags != 0:
		return nil, fmt.Errorf("%w: superblock flags %#x", ErrCorrupt, d.Flags)
	case d.GrownCount > MaxGrown:
		return nil, fmt.Errorf("%w: %d grown extents in the superblock", ErrCorrupt, d.GrownCount)
	}
	s := &Superblock{
		UUID: d.UUID, Checkpoint: d.Checkpoint, Epoch: d.Epoch, Created: d.Created,
		Placement: Placement(d.Placement), Separate: d.Flags&flagSeparate != 0, Clean: d.Flags&flagClean != 0,
		ChunkShift: uint(d.ChunkShift), OriginSize: d.OriginSize, DataOffset: d.DataOffset, Slots: d.Slots,
		Control: d.Control, Journal: d.Journal, JournalSize: d.JournalSize, TreePages: d.TreePages,
		Generation: block.Generation(d.Generation), ControlPos: d.ControlPos, LogPos: d.LogPos, Allocated: d.Allocated,
		Policy: Policy(d.Policy), Grown: append([]Extent(nil), d.Grown[:d.GrownCount]...),
		Restore: Restore{
			Generation: block.Generation(d.RestoreGen), Next: block.Chunk(d.RestoreNext),
			Merge: d.Flags&flagMerge != 0, SkipLost: d.Flags&flagSkipLost != 0,
		},
	}
	for i := range s.Roots {
		r := d.root(i)
		s.Roots[i] = Root{Page: block.Page(r.Page), Level: r.Level, Entries: r.Entries}
	}
	if err := s.validate(); err != nil {
		return nil, err
	}
	if !bytes.Equal(p, s.Encode()) {
		return nil, fmt.Errorf("%w: superblock: reserved bytes are not zero", ErrCorrupt)
	}
	return s, nil
}

// NeverWritten reports whether a superblock is as formatting leaves the one of
// checkpoint 1: zeroes. Beside a later checkpoint than 0 that is damage.
func NeverWritten(p []byte) bool { return bytes.Count(p, []byte{0}) == len(p) }

// validate checks what no checksum can: that the numbers make sense together.
func (s *Superblock) validate() error {
	if s.Placement == 0 || s.Placement > maxPlacement {
		return fmt.Errorf("%w: superblock placement %d", ErrCorrupt, s.Placement)
	}
	if s.ChunkShift >= 32 {
		return fmt.Errorf("%w: superblock chunk shift %d", ErrCorrupt, s.ChunkShift)
	}
	if _, err := block.NewGeometry(s.OriginSize, 1<<s.ChunkShift); err != nil {
		return fmt.Errorf("%w: superblock: %v", ErrCorrupt, err)
	}
	if s.DataOffset < 0 || s.DataOffset > block.MaxStoreSize || s.Slots > block.MaxStoreSize>>s.ChunkShift || s.Allocated > s.Slots {
		return fmt.Errorf("%w: superblock: %d of %d slots at %d", ErrCorrupt, s.Allocated, s.Slots, s.DataOffset)
	}
	if err := s.validateRegions(); err != nil {
		return err
	}
	if s.Policy > maxPolicy || s.Restore.Generation > s.Generation || s.Restore.Generation == 0 && s.Restore != (Restore{}) {
		return fmt.Errorf("%w: superblock: policy %d, restore of generation %d", ErrCorrupt, s.Policy, s.Restore.Generation)
	}
	for i, r := range s.Roots {
		if r.Page != 0 && !s.HasTreePage(r.Page) || (r.Page == 0) != (r.Entries == 0) || r.Level > MaxPageLevel {
			return fmt.Errorf("%w: superblock: root of tree %d at page %d", ErrCorrupt, i+1, r.Page)
		}
	}
	return nil
}

// TreeExtents returns where the trees' pages lie: TreePages, then Grown.
func (s *Superblock) TreeExtents() []Extent { return append([]Extent{s.TreePages}, s.Grown...) }

// HasTreePage reports whether p is one of the tree pages.
func (s *Superblock) HasTreePage(p block.Page) bool {
	for _, e := range s.TreeExtents() {
		if p >= e.First && p < e.End() {
			return true
		}
	}
	return false
}

// validateRegions checks that the regions are apart, and those that the placement
// wants.
func (s *Superblock) validateRegions() error {
	onDisk, onDevice := s.Placement == PlacementDisk, s.Placement == PlacementNVRAM || s.Placement == PlacementPMem
	switch {
	case s.Control.Len == 0 || s.TreePages.Len == 0:
		return fmt.Errorf("%w: superblock: a metadata region has no pages", ErrCorrupt)
	case onDisk != (s.Journal.Len > 0) || onDevice != (s.JournalSize > 0) || s.JournalSize < 0:
		return fmt.Errorf("%w: superblock: placement %v with a journal of %d pages and one of %d bytes",
			ErrCorrupt, s.Placement, s.Journal.Len, s.JournalSize)
	case s.DataOffset%block.PageSize != 0 || s.JournalSize%block.PageSize != 0:
		return fmt.Errorf("%w: superblock: regions at %d and of %d bytes are not made of pages", ErrCorrupt, s.DataOffset, s.JournalSize)
	}
	end := block.Page(Superblocks)
	for i, e := range append([]Extent{s.Control, s.Journal, s.TreePages}, s.Grown...) {
		if e.Len == 0 && i == 1 {
			continue
		}
		if e.Len == 0 || e.First < end || e.Len > block.MaxStoreSize/block.PageSize || e.First > block.MaxStoreSize/block.PageSize {
			return fmt.Errorf("%w: superblock: metadata extent %d+%d overlaps or exceeds", ErrCorrupt, e.First, e.Len)
		}
		end = e.End()
	}
	return nil
}

// castagnoli is CRC32C's table, in hardware where there is such.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// SumOf returns the sum of a chunk, by which a torn copy is told from a whole one.
func SumOf(chunk []byte) uint32 { return sum.Of(chunk) }

// Checksum returns p's CRC32C.
func Checksum(p []byte) uint32 { return crc32.Checksum(p, castagnoli) }

// ChecksumWithout returns p's CRC32C with the four bytes at off taken as zero.
func ChecksumWithout(p []byte, off int) uint32 {
	sum := crc32.Update(0, castagnoli, p[:off])
	sum = crc32.Update(sum, castagnoli, []byte{0, 0, 0, 0})
	return crc32.Update(sum, castagnoli, p[off+4:])
}
