// SPDX-License-Identifier: Apache-2.0

// Package copylog builds the batches of copy-outs that are written to a store,
// and reads them back.
//
// It owns where a batch's bytes lie in memory and in the data area: the
// descriptor at the end of a slot, the chunks in the slots after it, so that both
// are one write where the slots are neighbours. It does not own when a batch is
// durable (package placement) or what follows from that (package store). A Batch
// belongs to one goroutine at a time. Decoding bytes from a device returns
// errors wrapping layout.ErrCorrupt or layout.ErrVersion.
package copylog

import (
	"fmt"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
)

// Area is the data area of a store: slots of one chunk each on a device.
type Area struct {
	Device     device.Device
	Offset     int64 // of slot 0, in bytes
	Slots      uint64
	ChunkShift uint
}

// SlotOffset returns the byte offset of a slot on the device.
func (a *Area) SlotOffset(s block.Slot) int64 { return a.Offset + int64(uint64(s)<<a.ChunkShift) }

// ChunkSize returns the size of a slot in bytes.
func (a *Area) ChunkSize() int { return 1 << a.ChunkShift }

// CheckSlot returns an error wrapping layout.ErrCorrupt unless the area has s.
func (a *Area) CheckSlot(s block.Slot) error {
	if uint64(s) >= a.Slots {
		return fmt.Errorf("%w: slot %d of %d", layout.ErrCorrupt, s, a.Slots)
	}
	return nil
}

// Batch is a batch on its way to the store. Its buffer has room for a descriptor
// of up to a chunk before the first chunk.
type Batch struct {
	layout.Batch
	Head block.Slot // whose end the descriptor fills, of placement inline
	Next block.Slot // of the next batch's descriptor, of placement inline

	buf       []byte
	chunkSize int
}

// NewBatch returns an empty batch with a buffer for maxChunks chunks of chunkSize
// bytes.
func NewBatch(maxChunks, chunkSize int) *Batch {
	return &Batch{buf: device.Buffer((maxChunks + 1) * chunkSize), chunkSize: chunkSize}
}

// Cap returns how many chunks the batch has room for.
func (b *Batch) Cap() int { return len(b.buf)/b.chunkSize - 1 }

// Chunk returns the buffer of the i-th chunk. Neighbours are adjacent: see Chunks.
func (b *Batch) Chunk(i int) []byte { return b.Chunks(i, 1) }

// Chunks returns the buffer of n chunks from the i-th on.
func (b *Batch) Chunks(i, n int) []byte {
	return b.buf[(i+1)*b.chunkSize : (i+n+1)*b.chunkSize]
}

// Seal computes the checksum of every chunk that is not lost.
func (b *Batch) Seal() {
	for i := range b.Copies {
		if c := &b.Copies[i]; c.Slot != layout.LostSlot {
			c.Sum = layout.SumOf(b.Chunk(i))
		}
	}
}

// Run is copies of a batch that are neighbours in it and in their slots.
type Run struct {
	First, Len int // indices of Copies
	Slot       block.Slot
}

// Cost returns how many bytes the next copy adds to the batch's coded body.
func (b *Batch) Cost(next layout.Copy) int {
	one := layout.MaxBatchBody(1) - layout.MaxBatchBody(0)
	if n := len(b.Copies); n > 0 && b.Copies[n-1].Chunk+1 == next.Chunk && b.Copies[n-1].Slot+1 == next.Slot {
		return layout.CopySize
	}
	return one
}

// Runs returns the copies as runs, but for those that are lost.
func (b *Batch) Runs() []Run {
	var runs []Run
	for i, c := range b.Copies {
		if c.Slot == layout.LostSlot {
			continue
		}
		if n := len(runs); n > 0 && runs[n-1].First+runs[n-1].Len == i && runs[n-1].Slot+block.Slot(runs[n-1].Len) == c.Slot {
			runs[n-1].Len++
			continue
		}
		runs = append(runs, Run{First: i, Len: 1, Slot: c.Slot})
	}
	return runs
}

// Writes returns the writes that put the chunks into their slots.
func (b *Batch) Writes(a *Area) []device.Op {
	runs := b.Runs()
	ops := make([]device.Op, len(runs))
	for i, r := range runs {
		ops[i] = device.Op{Kind: device.Write, Off: a.SlotOffset(r.Slot), Data: b.Chunks(r.First, r.Len)}
	}
	return ops
}

// VerifyChunks reads the chunks of a batch from their slots and reports whether
// all have their checksums, but for those that are lost. An error is one of reading.
func VerifyChunks(a *Area, b *layout.Batch) (bool, error) {
	buf := device.Buffer(a.ChunkSize())
	for _, c := range b.Copies {
		if c.Slot == layout.LostSlot {
			continue
		}
		if err := a.CheckSlot(c.Slot); err != nil {
			return false, nil
		}
		if _, err := a.Device.ReadAt(buf, a.SlotOffset(c.Slot)); err != nil {
			return false, fmt.Errorf("reading slot %d: %w", c.Slot, err)
		}
		if layout.SumOf(buf) != c.Sum {
			return false, nil
		}
	}
	return true, nil
}
