// SPDX-License-Identifier: Apache-2.0

package checktest

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/layout/bulk"
)

// Synthetic is a store of many exceptions, made in seconds and without copying
// anything: the worst case of random chunks in random slots, none of which are
// neighbours. Preserved chunks are zeroes, and have the checksum of zeroes. The
// store has metadata and data on one device, placement inline, and was closed in
// order.
type Synthetic struct {
	Exceptions int
	Snapshots  int     // over which the exceptions are spread; at least 1, at most 65535
	ChunkSize  int     // in bytes; default 4096
	Fill       float64 // of the tree pages; default 0.7, as random changes leave them
	Seed       uint64
}

// spread is how many chunks of the origin there are for each exception.
const spread = 4

func (o Synthetic) chunkSize() int {
	if o.ChunkSize == 0 {
		return block.MinChunkSize
	}
	return o.ChunkSize
}

// OriginSize returns the size of the store's origin, in bytes.
func (o Synthetic) OriginSize() int64 {
	return max(1, int64(o.Exceptions)) * spread * int64(o.chunkSize())
}

// superblock plans the store.
func (o Synthetic) superblock() *layout.Superblock {
	const control = 256
	slots := uint64(o.Exceptions + o.Exceptions/4 + 1024)
	sb := &layout.Superblock{
		UUID: layout.UUID{'s', 'y', 'n'}, Placement: layout.PlacementInline, Clean: true, OriginSize: o.OriginSize(), Slots: slots,
		Control: layout.Extent{First: layout.Superblocks, Len: control}, ControlPos: layout.Position{Seq: 1}, LogPos: layout.Position{Seq: 1},
		Generation: block.Generation(o.Snapshots),
	}
	for 1<<sb.ChunkShift != o.chunkSize() {
		sb.ChunkShift++
	}
	sb.TreePages = layout.Extent{First: sb.Control.End(), Len: 64 + slots*96/block.PageSize}
	chunk := int64(o.chunkSize())
	sb.DataOffset = (int64(sb.TreePages.End())*block.PageSize + chunk - 1) / chunk * chunk
	return sb
}

// StoreSize returns how large the store's device must be, in bytes.
func (o Synthetic) StoreSize() int64 {
	sb := o.superblock()
	return sb.DataOffset + int64(sb.Slots<<sb.ChunkShift)
}

// Write makes the store on d, of which the data area must be zeroes. It takes 14
// bytes of memory an exception, and returns when the store is durable.
func (o Synthetic) Write(d device.Device) error {
	if o.Fill == 0 {
		o.Fill = 0.7
	}
	rng := rand.New(rand.NewPCG(o.Seed, 1))
	chunks := make([]block.Chunk, o.Exceptions)
	generations := make([]uint16, o.Exceptions)
	at := block.Chunk(0)
	for i := range chunks {
		at += 1 + block.Chunk(rng.IntN(2*spread-1))
		chunks[i], generations[i] = min(at, block.Chunk(spread*o.Exceptions-o.Exceptions+i)), uint16(1+rng.IntN(o.Snapshots))
	}
	// Chunks beyond the origin's end were drawn back; what is before them must stay below.
	for i := len(chunks) - 2; i >= 0 && chunks[i] >= chunks[i+1]; i-- {
		chunks[i] = chunks[i+1] - 1
	}
	sb := o.superblock()
	zero := layout.SumOf(make([]byte, o.chunkSize()))
	step := coprime(uint64(o.Exceptions))
	contents := bulk.Contents{
		Exceptions: func(yield func(layout.Exception) bool) {
			for i, c := range chunks {
				slot := block.Slot(uint64(i) * step % uint64(o.Exceptions))
				if !yield(layout.Exception{Chunk: c, Generation: block.Generation(generations[i]), Slot: slot, Sum: zero}) {
					return
				}
			}
		},
		Changes: func(yield func(layout.Change) bool) {
			for _, i := range byGeneration(generations) {
				if !yield(layout.Change{Generation: block.Generation(generations[i]), Chunk: chunks[i]}) {
					return
				}
			}
		},
		Slots: bulk.SlotWords(uint64(o.Exceptions)),
		Snapshots: func(yield func(layout.Snapshot) bool) {
			for g := 1; g <= o.Snapshots; g++ {
				s := layout.Snapshot{Generation: block.Generation(g), Tag: block.Tag(g), State: layout.SnapshotLive, Size: sb.OriginSize}
				if !yield(s) {
					return
				}
			}
		},
	}
	return WriteStore(d, sb, contents, o.Fill)
}

// coprime returns a number near n's golden section that has no divisor with it in
// common, so that its multiples modulo n are a permutation.
func coprime(n uint64) uint64 {
	gcd := func(a, b uint64) uint64 {
		for b != 0 {
			a, b = b, a%b
		}
		return a
	}
	step := max(1, uint64(float64(n)*0.618))
	for gcd(step, n) > 1 {
		step++
	}
	return step
}

// byGeneration returns the indices of the exceptions in order of generation, then
// chunk.
func byGeneration(generations []uint16) []uint32 {
	order := make([]uint32, len(generations))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(a, b uint32) int {
		if d := int(generations[a]) - int(generations[b]); d != 0 {
			return d
		}
		return int(a) - int(b)
	})
	return order
}

// WriteStore makes a store of any contents on d, which has data and metadata, as sb
// says where: a superblock of checkpoint 0, whose Roots and Allocated are set here.
func WriteStore(d device.Device, sb *layout.Superblock, c bulk.Contents, fill float64) error {
	if err := bulk.WriteTrees(d, sb, c, fill); err != nil {
		return err
	}
	if err := d.Flush(); err != nil {
		return fmt.Errorf("flushing the trees: %w", err)
	}
	pages := device.Buffer(layout.Superblocks * block.PageSize)
	copy(pages, sb.Encode())
	if _, err := d.WriteAt(pages, 0); err != nil {
		return fmt.Errorf("writing the superblock: %w", err)
	}
	return d.Flush()
}
