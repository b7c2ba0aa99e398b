// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"zumastor.org/zumastor/engine/block"
)

// Copy is one chunk's copy-out, or one chunk written to a snapshot.
type Copy struct {
	Chunk block.Chunk
	Slot  block.Slot // LostSlot if the chunk could not be read, of a copy-out only
	Sum   uint32     // SumOf the whole slot, a partial last chunk padded with zeroes; zero of a lost chunk, and of a branch that is not the origin
}

// Batch is the body of a [RecordBatch]: chunks of one branch that were copied
// out in one generation, in ascending order. Coded, it is
//
//	0   generation u64   8 branch u64   16 runs u32   20 chunks u32
//	24  runs: chunk u64, slot u64, length u32, zero u32
//	    checksums: u32 a chunk, in order
//
// where a run is consecutive chunks in consecutive slots. A chunk that could not be
// read is a run by itself, in LostSlot.
type Batch struct {
	Branch     block.Branch
	Generation block.Generation
	Copies     []Copy
}

// LastOfEach returns copies ascending by chunk, of each chunk the last one: what a
// batch may hold of chunks that were written several times.
func LastOfEach(copies []Copy) []Copy {
	list := slices.Clone(copies)
	slices.Reverse(list)
	slices.SortStableFunc(list, func(a, b Copy) int { return cmp.Compare(a.Chunk, b.Chunk) })
	return slices.CompactFunc(list, func(a, b Copy) bool { return a.Chunk == b.Chunk })
}

// CopySize is what a copy that goes on a run adds to a coded batch, in bytes.
const CopySize = 4

const (
	batchHeaderSize = 24
	batchRunSize    = 24
)

// MaxBatchBody returns the size of the body of a batch of n chunks when no two of
// them form a run.
func MaxBatchBody(n int) int { return batchHeaderSize + n*(batchRunSize+CopySize) }

// AppendBatch codes b.
func AppendBatch(dst []byte, b *Batch) []byte {
	le := binary.LittleEndian
	start := len(dst)
	dst = append(dst, make([]byte, batchHeaderSize)...)
	runs := uint32(0)
	for i := 0; i < len(b.Copies); runs++ {
		n := runLen(b.Copies[i:])
		dst = le.AppendUint64(dst, uint64(b.Copies[i].Chunk))
		dst = le.AppendUint64(dst, uint64(b.Copies[i].Slot))
		dst = le.AppendUint32(dst, uint32(n))
		dst = le.AppendUint32(dst, 0)
		i += n
	}
	for _, c := range b.Copies {
		dst = le.AppendUint32(dst, c.Sum)
	}
	h := dst[start:]
	le.PutUint64(h, uint64(b.Generation))
	le.PutUint64(h[8:], uint64(b.Branch))
	le.PutUint32(h[16:], runs)
	le.PutUint32(h[20:], uint32(len(b.Copies)))
	return dst
}

// runLen returns how many copies from the first on form a run.
func runLen(copies []Copy) int {
	n := 1
	for n < len(copies) && copies[n].Chunk == copies[n-1].Chunk+1 && copies[n].Slot == copies[n-1].Slot+1 {
		n++
	}
	return n
}

// DecodeBatch is the reverse of [AppendBatch].
func DecodeBatch(p []byte) (*Batch, error) {
	b := &Batch{Copies: []Copy{}}
	if err := b.Decode(p); err != nil {
		return nil, err
	}
	return b, nil
}

// Decode is [DecodeBatch] into b, whose copies' memory it uses again. After an error b
// is of no use but for another Decode.
func (b *Batch) Decode(p []byte) error {
	if len(p) < batchHeaderSize {
		return fmt.Errorf("%w: batch of %d bytes", ErrCorrupt, len(p))
	}
	le := binary.LittleEndian
	b.Generation, b.Branch = block.Generation(le.Uint64(p)), block.Branch(le.Uint64(p[8:]))
	runs, chunks := uint64(le.Uint32(p[16:])), uint64(le.Uint32(p[20:]))
	if uint64(len(p)) != batchHeaderSize+runs*batchRunSize+chunks*CopySize {
		return fmt.Errorf("%w: batch of %d bytes, %d runs and %d chunks", ErrCorrupt, len(p), runs, chunks)
	}
	b.Copies = slices.Grow(b.Copies[:0], int(chunks))
	sums := p[batchHeaderSize+runs*batchRunSize:]
	for i := range runs {
		run := p[batchHeaderSize+i*batchRunSize:]
		first := Copy{Chunk: block.Chunk(le.Uint64(run)), Slot: block.Slot(le.Uint64(run[8:]))}
		n := uint64(le.Uint32(run[16:]))
		if n == 0 || n > chunks-uint64(len(b.Copies)) || le.Uint32(run[20:]) != 0 {
			return fmt.Errorf("%w: batch run of %d chunks", ErrCorrupt, n)
		}
		if uint64(first.Chunk)+n-1 < uint64(first.Chunk) || uint64(first.Slot)+n-1 < uint64(first.Slot) {
			return fmt.Errorf("%w: batch run of %d chunks from %d in slots from %d", ErrCorrupt, n, first.Chunk, first.Slot)
		}
		if len(b.Copies) > 0 {
			last := b.Copies[len(b.Copies)-1]
			if first.Chunk <= last.Chunk || first.Chunk == last.Chunk+1 && first.Slot == last.Slot+1 {
				return fmt.Errorf("%w: batch chunk %d after %d does not begin a run", ErrCorrupt, first.Chunk, last.Chunk)
			}
		}
		for j := range n {
			b.Copies = append(b.Copies, Copy{
				Chunk: first.Chunk + block.Chunk(j), Slot: first.Slot + block.Slot(j),
				Sum: le.Uint32(sums[CopySize*len(b.Copies):]),
			})
		}
	}
	if uint64(len(b.Copies)) != chunks {
		return fmt.Errorf("%w: batch of %d chunks has runs of %d", ErrCorrupt, chunks, len(b.Copies))
	}
	return nil
}
