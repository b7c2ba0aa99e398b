// SPDX-License-Identifier: Apache-2.0

// Package block holds the units that every layer of the engine shares, and the
// arithmetic between them.
//
// It owns names and conversions only: bytes, sectors, chunks, slots and
// generations are distinct types, so that mixing them up does not compile. It
// does no I/O and imports nothing. Everything above it calls it. Its values are
// immutable and safe for concurrent use; its functions do not fail, except
// [NewGeometry] and [Geometry.CheckRange], which judge numbers from outside.
package block

import (
	"errors"
	"fmt"
)

// SectorSize is the smallest unit of I/O on an origin or snapshot, in bytes.
const SectorSize = 512

// PageSize is the size of a metadata page and of a log descriptor's unit, in
// bytes. It is part of the store format and must not change.
const PageSize = 4096

// Bounds of the store format.
const (
	MinChunkSize  = 4 << 10
	MaxChunkSize  = 1 << 20
	MaxOriginSize = 1 << 50 // 1 PiB
	MaxStoreSize  = 1 << 50 // 1 PiB
)

// Chunk numbers a chunk of the origin: byte offset divided by the chunk size.
type Chunk uint64

// Slot numbers a chunk-sized place of the store's data area.
type Slot uint64

// Page numbers a PageSize place of the metadata area.
type Page uint64

// Generation is the counter that each new snapshot of a store advances. A branch's
// current generation is that of the newest snapshot ever made of it; the
// origin's is zero when none was, a snapshot's is then its own.
type Generation uint64

// Branch numbers a line of writes with exceptions of its own. The origin is
// branch zero; what is written to a snapshot is the branch whose number is the
// snapshot's generation.
type Branch uint64

// Tag is the number by which a user names a snapshot; unique within a store.
type Tag uint32

// ErrGeometry is wrapped by every error about a size or range that does not fit.
var ErrGeometry = errors.New("bad geometry")

// Geometry is the shape of an origin: its size and how it is cut into chunks.
// The zero value is not valid; use [NewGeometry].
type Geometry struct {
	chunkShift uint
	size       int64
}

// NewGeometry returns the geometry of an origin of size bytes in chunks of
// chunkSize bytes. The chunk size must be a power of two from [MinChunkSize] to
// [MaxChunkSize]; the size a positive multiple of [SectorSize] up to
// [MaxOriginSize]. The last chunk may be partial.
func NewGeometry(size int64, chunkSize int) (Geometry, error) {
	switch {
	case chunkSize < MinChunkSize || chunkSize > MaxChunkSize || chunkSize&(chunkSize-1) != 0:
		return Geometry{}, fmt.Errorf("%w: chunk size %d is not a power of two from %d to %d",
			ErrGeometry, chunkSize, MinChunkSize, MaxChunkSize)
	case size <= 0 || size%SectorSize != 0:
		return Geometry{}, fmt.Errorf("%w: origin size %d is not a positive multiple of %d", ErrGeometry, size, SectorSize)
	case size > MaxOriginSize:
		return Geometry{}, fmt.Errorf("%w: origin size %d exceeds 1 PiB", ErrGeometry, size)
	}
	shift := uint(0)
	for 1<<shift != chunkSize {
		shift++
	}
	return Geometry{chunkShift: shift, size: size}, nil
}

// Size returns the origin's size in bytes.
func (g Geometry) Size() int64 { return g.size }

// ChunkSize returns the chunk size in bytes.
func (g Geometry) ChunkSize() int { return 1 << g.chunkShift }

// ChunkShift returns the base-two logarithm of the chunk size.
func (g Geometry) ChunkShift() uint { return g.chunkShift }

// Chunks returns the number of chunks, a partial last one included.
func (g Geometry) Chunks() uint64 {
	return (uint64(g.size) + 1<<g.chunkShift - 1) >> g.chunkShift
}

// ChunkOf returns the chunk that holds the byte at off.
func (g Geometry) ChunkOf(off int64) Chunk { return Chunk(uint64(off) >> g.chunkShift) }

// Offset returns the byte offset of c's first byte.
func (g Geometry) Offset(c Chunk) int64 { return int64(uint64(c) << g.chunkShift) }

// Len returns how many bytes of c lie within the origin: the chunk size, or less
// for a partial last chunk.
func (g Geometry) Len(c Chunk) int { return int(min(int64(1)<<g.chunkShift, g.size-g.Offset(c))) }

// Span returns the chunks that the n bytes at off touch, as [first, end). An
// empty range touches none.
func (g Geometry) Span(off, n int64) (first, end Chunk) {
	first = g.ChunkOf(off)
	if n <= 0 {
		return first, first
	}
	return first, g.ChunkOf(off+n-1) + 1
}

// CheckRange reports, wrapping [ErrGeometry], whether the n bytes at off are not
// sector-aligned or not wholly within the origin.
func (g Geometry) CheckRange(off, n int64) error {
	if off < 0 || n < 0 || off%SectorSize != 0 || n%SectorSize != 0 {
		return fmt.Errorf("%w: range of %d bytes at %d is not aligned to %d", ErrGeometry, n, off, SectorSize)
	}
	if off > g.size || n > g.size-off {
		return fmt.Errorf("%w: range of %d bytes at %d exceeds the size %d", ErrGeometry, n, off, g.size)
	}
	return nil
}
