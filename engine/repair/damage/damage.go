// SPDX-License-Identifier: Apache-2.0

// Package damage spoils stores, for the tests of what is to survive that.
//
// It owns the kinds of damage and the list of a store's places that can be damaged.
// It knows the format only, and judges nothing. Tests of repair and check call it,
// and a command may. Given the same random source it does the same. A [Device]
// belongs to the goroutine that damages it; it may be read by others after that.
// Errors are those of the device, or say that there is no store.
package damage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
)

// Kind is a kind of damage.
type Kind uint8

// The kinds.
const (
	Zeroes    Kind = iota // the place reads as zeroes
	Garbage               // as random bytes
	Flip                  // one bit is another
	Torn                  // the second half is zeroes
	BadSector             // it cannot be read
	Kinds
)

// String returns the kind's name.
func (k Kind) String() string {
	if k >= Kinds {
		return fmt.Sprintf("kind(%d)", uint8(k))
	}
	return [...]string{"zeroes", "garbage", "flip", "torn", "bad sector"}[k]
}

// ErrBadSector is returned by reads of a bad sector.
var ErrBadSector = errors.New("bad sector")

// Device is a device that can be damaged.
type Device struct {
	device.Device
	bad []span
}

type span struct{ off, end int64 }

// ReadAt fails where a bad sector is.
func (d *Device) ReadAt(p []byte, off int64) (int, error) {
	for _, b := range d.bad {
		if off < b.end && b.off < off+int64(len(p)) {
			return 0, fmt.Errorf("reading %d bytes at %d: %w", len(p), off, ErrBadSector)
		}
	}
	return d.Device.ReadAt(p, off)
}

// Spoil does damage of the kind to a place.
func (d *Device) Spoil(s Spot, k Kind, rng *rand.Rand) error {
	if k == BadSector {
		d.bad = append(d.bad, span{s.Off, s.Off + s.Len})
		return nil
	}
	p := device.Buffer(int(s.Len))
	if _, err := d.Device.ReadAt(p, s.Off); err != nil {
		return err
	}
	switch k {
	case Zeroes:
		clear(p)
	case Torn:
		clear(p[len(p)/2:])
	case Garbage:
		for i := range p {
			p[i] = byte(rng.Uint32())
		}
	case Flip:
		p[rng.IntN(len(p))] ^= 1 << rng.IntN(8)
	}
	_, err := d.Device.WriteAt(p, s.Off)
	return err
}

// Part is a part of a store's metadata.
type Part uint8

// The parts.
const (
	Superblock Part = iota
	TreePage
	ControlPage // of the ring of snapshots
	BatchRecord // of the log of batches
	Parts
)

// Spot is a place that can be damaged.
type Spot struct {
	Part     Part
	Off, Len int64 // in bytes, on the device of the metadata area; of a batch of placement inline on the store device
	Tree     uint8 // kind of a tree page
	Level    uint8 // of a tree page
	Root     bool
}

// String says what is there.
func (s Spot) String() string {
	switch s.Part {
	case Superblock:
		return fmt.Sprintf("superblock at %d", s.Off)
	case TreePage:
		return fmt.Sprintf("page of tree %d, level %d, root %t at %d", s.Tree, s.Level, s.Root, s.Off)
	case BatchRecord:
		return fmt.Sprintf("batch record at %d", s.Off)
	}
	return fmt.Sprintf("control ring at %d", s.Off)
}

// Spots returns what can be damaged of the store whose metadata area is on d: both
// superblocks, all pages of all trees, and the used pages of the control ring.
func Spots(d device.Device) ([]Spot, error) {
	sb, err := newest(d)
	if err != nil {
		return nil, err
	}
	var list []Spot
	for i := range int64(layout.Superblocks) {
		list = append(list, Spot{Part: Superblock, Off: i * block.PageSize, Len: layout.SuperblockSize})
	}
	for _, pages := range []func() ([]Spot, error){
		func() ([]Spot, error) { return spots(d, layout.ExceptionCodec{}, sb, layout.KindExceptions) },
		func() ([]Spot, error) { return spots(d, layout.ChangeCodec{}, sb, layout.KindChanges) },
		func() ([]Spot, error) { return spots(d, layout.SlotWordCodec{}, sb, layout.KindSlots) },
		func() ([]Spot, error) { return spots(d, layout.SnapshotCodec{}, sb, layout.KindSnapshots) },
		func() ([]Spot, error) { return spots(d, layout.LeaseCodec{}, sb, layout.KindLeases) },
		func() ([]Spot, error) { return spots(d, layout.DigestCodec{}, sb, layout.KindDigests) },
	} {
		more, err := pages()
		if err != nil {
			return nil, err
		}
		list = append(list, more...)
	}
	page := device.Buffer(block.PageSize)
	for i := range sb.Control.Len {
		off := int64(sb.Control.First+block.Page(i)) * block.PageSize
		if _, err := d.ReadAt(page, off); err != nil {
			return nil, err
		}
		if !layout.NeverWritten(page) {
			list = append(list, Spot{Part: ControlPage, Off: off, Len: block.PageSize})
		}
	}
	return list, nil
}

// newest returns the newest superblock.
func newest(d device.Device) (sb *layout.Superblock, err error) {
	page := device.Buffer(block.PageSize)
	for i := range int64(layout.Superblocks) {
		if _, err := d.ReadAt(page, i*block.PageSize); err != nil {
			return nil, err
		}
		if found, err := layout.DecodeSuperblock(page[:layout.SuperblockSize]); err == nil && (sb == nil || found.Checkpoint > sb.Checkpoint) {
			sb = found
		}
	}
	if sb == nil {
		return nil, errors.New("there is no store to be damaged")
	}
	return sb, nil
}

// Batches returns where the records of batches since the last checkpoint begin, in
// their order, of a store of placement inline or disk: on the store's device, or on
// that of the metadata area.
func Batches(meta, store device.Device) ([]Spot, error) {
	sb, err := newest(meta)
	if err != nil {
		return nil, err
	}
	d, at, step, end := store, sb.DataOffset+1<<sb.ChunkShift-block.PageSize, int64(1)<<sb.ChunkShift, sb.DataOffset+int64(sb.Slots<<sb.ChunkShift)
	if sb.Placement == layout.PlacementDisk {
		d, at, step, end = meta, int64(sb.Journal.First)*block.PageSize, block.PageSize, int64(sb.Journal.End())*block.PageSize
	}
	bySeq := make(map[uint64]Spot)
	page := device.Buffer(block.PageSize)
	for ; at < end; at += step {
		if _, err := d.ReadAt(page, at); err != nil {
			return nil, err
		}
		id := layout.Identity{UUID: sb.UUID, Epoch: sb.Epoch, Seq: binary.LittleEndian.Uint64(page[40:])}
		if h, err := layout.DecodeRecordHeader(page, id); err == nil && h.Kind == layout.RecordBatch && h.Seq >= sb.LogPos.Seq {
			bySeq[h.Seq] = Spot{Part: BatchRecord, Off: at, Len: block.PageSize}
		}
	}
	var list []Spot
	for _, seq := range slices.Sorted(maps.Keys(bySeq)) {
		list = append(list, bySeq[seq])
	}
	return list, nil
}

// spots returns the pages of a tree.
func spots[E any](d device.Device, c layout.EntryCodec[E], sb *layout.Superblock, kind uint8) (list []Spot, err error) {
	root := sb.Roots[kind-1]
	if root.Page == 0 {
		return nil, nil
	}
	var visit func(p block.Page, level uint8) error
	visit = func(p block.Page, level uint8) error {
		page := device.Buffer(block.PageSize)
		off := int64(p) * block.PageSize
		if _, err := d.ReadAt(page, off); err != nil {
			return err
		}
		node, err := layout.DecodePage(c, layout.PageHeader{Kind: kind, Level: level, Page: p, Identity: sb.UUID}, page)
		if err != nil {
			return err
		}
		list = append(list, Spot{Part: TreePage, Off: off, Len: block.PageSize, Tree: kind, Level: level, Root: p == root.Page})
		for _, child := range node.Children {
			if err := visit(child, level-1); err != nil {
				return err
			}
		}
		return nil
	}
	return list, visit(root.Page, root.Level)
}
