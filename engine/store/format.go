// SPDX-License-Identifier: Apache-2.0

package store

import (
	"crypto/rand"
	"fmt"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/placement"
)

// FormatOptions say what store to make; the zero value of a field means its
// default where there is one.
type FormatOptions struct {
	OriginSize  int64            // in bytes; no default
	ChunkSize   int              // in bytes; default 64 KiB
	Placement   layout.Placement // default inline
	Policy      layout.Policy    // of a full store; default drop
	JournalSize int64            // bytes of the journal on a journal device: its whole size, which has no default
	UUID        layout.UUID      // default random
	Created     int64            // nanoseconds since 1970 UTC
}

// DefaultChunkSize is a chunk's size in bytes unless another is asked for.
const DefaultChunkSize = 64 << 10

// Sizes of a new store's regions.
const (
	controlPages  = 256  // 1 MiB of snapshot records
	journalPages  = 4096 // 16 MiB of batch records, at most a sixteenth of the device
	minTreePages  = 64
	treeSlotBytes = 96 // metadata that a slot may cost: see Format
	minSlots      = 8
)

// Format makes an empty store on the devices and returns its identity. What they
// held is lost. It writes the metadata's first pages only, however large the
// devices are.
//
// The metadata area has 96 bytes a slot. An exception takes at most 24 bytes in
// half-full tree pages when no two of them form a run, and while a checkpoint is
// written both the old and the new page exist; so the area is twice the worst
// case and a store that is full can still delete.
func Format(d placement.Devices, o FormatOptions) (layout.UUID, error) {
	sb, err := plan(d, &o)
	if err != nil {
		return layout.UUID{}, err
	}
	if err := writeLabels(d, sb); err != nil {
		return layout.UUID{}, err
	}
	meta := d.MetaDevice()
	// First the other page is made empty, durably: an old store's superblock must
	// not outlive this beside the new one.
	page := device.Buffer(block.PageSize)
	if _, err := meta.WriteAt(page, block.PageSize); err != nil {
		return layout.UUID{}, fmt.Errorf("clearing superblock 1: %w", err)
	}
	if err := meta.Flush(); err != nil {
		return layout.UUID{}, fmt.Errorf("clearing superblock 1: %w", err)
	}
	copy(page, sb.Encode())
	if _, err := meta.WriteAt(page, 0); err != nil {
		return layout.UUID{}, fmt.Errorf("writing superblock 0: %w", err)
	}
	if err := meta.Flush(); err != nil {
		return layout.UUID{}, fmt.Errorf("flushing the new store: %w", err)
	}
	return sb.UUID, nil
}

// Plan returns the superblock that [Format] would write. It writes nothing.
func Plan(d placement.Devices, o FormatOptions) (*layout.Superblock, error) { return plan(d, &o) }

// plan divides the devices up.
func plan(d placement.Devices, o *FormatOptions) (*layout.Superblock, error) {
	if o.ChunkSize == 0 {
		o.ChunkSize = DefaultChunkSize
	}
	if o.Placement == 0 {
		o.Placement = layout.PlacementInline
	}
	if o.UUID == (layout.UUID{}) {
		rand.Read(o.UUID[:]) // never fails
	}
	geo, err := block.NewGeometry(o.OriginSize, o.ChunkSize)
	if err != nil {
		return nil, err
	}
	sb := &layout.Superblock{
		UUID: o.UUID, Created: o.Created, Placement: o.Placement, Policy: o.Policy, Clean: true,
		Separate: d.Meta != nil, ChunkShift: geo.ChunkShift(), OriginSize: geo.Size(),
		Control:    layout.Extent{First: layout.Superblocks, Len: controlPages},
		ControlPos: layout.Position{Seq: 1}, LogPos: layout.Position{Seq: 1},
	}
	next := sb.Control.End()
	if o.Placement == layout.PlacementDisk {
		sb.Journal = layout.Extent{First: next, Len: min(journalPages, uint64(d.MetaDevice().Size())/16/block.PageSize)}
		next = sb.Journal.End()
	}
	if err := planJournal(d, o, sb); err != nil {
		return nil, err
	}
	sb.TreePages.First = next
	return sb, planSlots(d, geo, sb)
}

// planJournal checks the journal device against the placement.
func planJournal(d placement.Devices, o *FormatOptions, sb *layout.Superblock) error {
	wanted := o.Placement == layout.PlacementNVRAM || o.Placement == layout.PlacementPMem
	switch {
	case wanted && d.Journal == nil:
		return fmt.Errorf("placement %v: %w", o.Placement, placement.ErrNoJournal)
	case !wanted && d.Journal != nil:
		return fmt.Errorf("placement %v has no use for a journal device", o.Placement)
	case wanted:
		sb.JournalSize = (o.JournalSize - layout.LabelSize) / block.PageSize * block.PageSize
		if sb.JournalSize < minJournalSize {
			return fmt.Errorf("%w: journal device of %d bytes is less than %d", block.ErrGeometry, o.JournalSize, minJournalSize+layout.LabelSize)
		}
	}
	return nil
}

// minJournalSize is the least size of a journal of batches, in bytes.
const minJournalSize = 256 << 10

// planSlots gives what is left of the devices to tree pages and slots.
func planSlots(d placement.Devices, geo block.Geometry, sb *layout.Superblock) error {
	chunk := int64(geo.ChunkSize())
	fixed := int64(sb.TreePages.First+minTreePages) * block.PageSize
	size := min(d.Store.Size(), block.MaxStoreSize)
	slots := (size - chunk) / chunk // beside a label
	if d.Meta == nil {
		slots = (size - fixed - chunk) / (chunk + treeSlotBytes)
	}
	if slots < minSlots {
		return fmt.Errorf("%w: store of %d bytes has no room for %d chunks of %d bytes beside its metadata",
			block.ErrGeometry, d.Store.Size(), minSlots, chunk)
	}
	sb.Slots = uint64(slots)
	sb.TreePages.Len = minTreePages + uint64(slots*treeSlotBytes/block.PageSize)
	if d.Meta != nil {
		sb.DataOffset = chunk
		if need := int64(sb.TreePages.End()) * block.PageSize; d.Meta.Size() < need {
			return fmt.Errorf("%w: metadata device of %d bytes is less than the %d that %d slots need",
				block.ErrGeometry, d.Meta.Size(), need, slots)
		}
		return nil
	}
	sb.DataOffset = (int64(sb.TreePages.End())*block.PageSize + chunk - 1) / chunk * chunk
	sb.Slots = uint64((size - sb.DataOffset) / chunk)
	return nil
}

// writeLabels marks the devices that have no superblock as the store's.
func writeLabels(d placement.Devices, sb *layout.Superblock) error {
	label := device.Buffer(layout.LabelSize)
	if sb.Separate {
		copy(label, layout.EncodeLabel(sb.UUID, layout.RoleData))
		if _, err := d.Store.WriteAt(label, 0); err != nil {
			return fmt.Errorf("labelling the store device: %w", err)
		}
		if err := d.Store.Flush(); err != nil {
			return fmt.Errorf("labelling the store device: %w", err)
		}
	}
	if d.Journal != nil {
		copy(label, layout.EncodeLabel(sb.UUID, layout.RoleJournal))
		if _, err := d.Journal.WriteAt(label, 0); err != nil {
			return fmt.Errorf("labelling the journal device: %w", err)
		}
		if err := d.Journal.Persist(0, layout.LabelSize); err != nil {
			return fmt.Errorf("labelling the journal device: %w", err)
		}
	}
	return nil
}
