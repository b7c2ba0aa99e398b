// SPDX-License-Identifier: Apache-2.0

package copylog

import (
	"fmt"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
)

// A descriptor is a log record (layout.RecordHeader and body) that ends where its
// slot ends. The header and the first part of the body are in the slot's last
// page, where recovery looks for it; what does not fit precedes that page, in
// whole pages.

// lastPageBody is how much of the body the descriptor's last page holds.
const lastPageBody = block.PageSize - layout.RecordHeaderSize

// DescriptorPages returns the number of pages of a descriptor with a body of n
// bytes.
func DescriptorPages(n int) int {
	return 1 + (max(0, n-lastPageBody)+block.PageSize-1)/block.PageSize
}

// SealDescriptor codes b as the record h and places it before the first chunk in
// the buffer. It returns the descriptor's bytes. The coded body must leave room for
// the record's header in a slot: see Cost.
func (b *Batch) SealDescriptor(h layout.RecordHeader) []byte {
	rec := layout.AppendBatch(make([]byte, layout.RecordHeaderSize, layout.RecordHeaderSize+layout.MaxBatchBody(len(b.Copies))), &b.Batch)
	layout.SealRecord(h, rec)
	desc := b.descriptor(DescriptorPages(len(rec) - layout.RecordHeaderSize))
	clear(desc)
	last := len(desc) - block.PageSize
	n := copy(desc[last:], rec)
	copy(desc[:last], rec[n:])
	return desc
}

// descriptor returns the place of a descriptor of n pages in the buffer.
func (b *Batch) descriptor(n int) []byte {
	return b.buf[b.chunkSize-n*block.PageSize : b.chunkSize]
}

// WithDescriptor returns the bytes of the descriptor and of the first n chunks,
// which are adjacent.
func (b *Batch) WithDescriptor(desc []byte, n int) []byte {
	return b.buf[b.chunkSize-len(desc) : b.chunkSize*(n+1)]
}

// ReadDescriptor reads the descriptor in slot s, which must be the record want.
// An error wrapping layout.ErrCorrupt or layout.ErrVersion says that it is not
// there: the log ends.
func ReadDescriptor(a *Area, s block.Slot, want layout.Identity) (layout.RecordHeader, *layout.Batch, error) {
	var h layout.RecordHeader
	if err := a.CheckSlot(s); err != nil {
		return h, nil, err
	}
	end := a.SlotOffset(s) + int64(a.ChunkSize())
	last := device.Buffer(block.PageSize)
	if _, err := a.Device.ReadAt(last, end-block.PageSize); err != nil {
		return h, nil, fmt.Errorf("reading the descriptor in slot %d: %w", s, err)
	}
	h, err := layout.DecodeRecordHeader(last, want)
	if err != nil {
		return h, nil, err
	}
	pages := DescriptorPages(int(h.Body))
	if h.Kind != layout.RecordBatch || pages*block.PageSize > a.ChunkSize() {
		return h, nil, fmt.Errorf("%w: descriptor of kind %d with a body of %d bytes", layout.ErrCorrupt, h.Kind, h.Body)
	}
	rec := last
	if pages > 1 {
		rest := device.Buffer((pages - 1) * block.PageSize)
		if _, err := a.Device.ReadAt(rest, end-int64(pages*block.PageSize)); err != nil {
			return h, nil, fmt.Errorf("reading the descriptor in slot %d: %w", s, err)
		}
		rec = append(last, rest...)
	}
	rec = rec[:layout.RecordHeaderSize+int(h.Body)]
	if err := layout.VerifyRecord(rec); err != nil {
		return h, nil, err
	}
	batch, err := layout.DecodeBatch(rec[layout.RecordHeaderSize:])
	return h, batch, err
}
