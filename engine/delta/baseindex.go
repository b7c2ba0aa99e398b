// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"context"
	"fmt"

	"zumastor.org/zumastor/engine/delta/codec"
	"zumastor.org/zumastor/engine/delta/similar"
)

// How much of the rest of a base IndexBase reads.
const (
	restTimes = 64      // at most so many times what changed
	restMost  = 1 << 30 // bytes, or as much as changed if that is more
	restPiece = 64 << 10
	// indexRate is how fast a base is read and indexed, and linkShare what part of the
	// time that the changes would take on the link, as they are, may go into that: a third
	// of what they take where a codec without a base makes a tenth of them.
	indexRate = 8e9 // bits a second
	linkShare = 0.03
	// leastTimes is how many times what changed is worth an index: of less, it finds little
	// that is not at the same place.
	leastTimes = 2
)

// IndexBase has the codecs that look anywhere in the base know what it holds. What
// changed comes first and in full: what moved was there. Then the rest, in pieces that
// are spread evenly: in proportion to what changed, and within 1 GiB, or what changed if
// that is more. Where the link's speed is stated, in bits a second, rather than zero,
// it reads no more than pays off on that. The index holds at most similar.DefaultMemory.
// It is nil where a source has no base, or the link is so fast that none pays off.
func IndexBase(ctx context.Context, src Source, link float64) (*similar.Index, error) {
	if src.Base == nil {
		return nil, nil
	}
	size := src.Base.Size()
	var changed int64
	for _, x := range src.Extents {
		changed += max(0, min(x.Offset+x.Length, size)-x.Offset)
	}
	times := float64(restTimes)
	if link > 0 {
		times = min(times, linkShare*indexRate/link-1) // what changed is read first
	}
	if times < leastTimes || changed == 0 {
		return nil, nil
	}
	rest := min(size-changed, int64(times*float64(changed)), max(restMost, changed))
	index, err := similar.NewIndex(0, changed+rest)
	if err != nil {
		return nil, err
	}
	b := &indexing{base: src.Base, index: index, buf: make([]byte, codec.DefaultExtent)}
	for _, x := range src.Extents {
		if err := b.add(ctx, x.Offset, min(x.Offset+x.Length, size)); err != nil {
			return nil, err
		}
	}
	if rest < restPiece {
		return index, nil
	}
	every := (size - changed + rest - 1) / rest * restPiece
	gap := int64(0) // its begin
	for _, x := range append(src.Extents[:len(src.Extents):len(src.Extents)], Extent{Offset: size}) {
		at := gap
		if every > restPiece {
			at = (gap + every - 1) / every * every
		}
		for ; at < min(x.Offset, size); at += every {
			if err := b.add(ctx, at, min(at+restPiece, x.Offset, size)); err != nil {
				return nil, err
			}
		}
		gap = x.Offset + x.Length
	}
	return index, nil
}

// indexing is one run of IndexBase.
type indexing struct {
	base  Content
	index *similar.Index
	buf   []byte
}

// add reads and indexes a piece of the base.
func (b *indexing) add(ctx context.Context, off, end int64) error {
	for off < end {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		p := b.buf[:min(int64(len(b.buf)), end-off)]
		if err := readFull(b.base, p, off); err != nil {
			return fmt.Errorf("the older snapshot: %w", err)
		}
		if !isZero(p) {
			b.index.Add(off, p)
		}
		off += int64(len(p))
	}
	return nil
}
