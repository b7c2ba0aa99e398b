// SPDX-License-Identifier: Apache-2.0

package replicate

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"

	"zumastor.org/zumastor/engine/delta"
)

// pieceSize is how much of the volume one sum is of, when the sender asks for what is
// there; and mostPieces how many sums go in a frame.
const (
	pieceSize  = 1 << 20
	mostPieces = 64
)

// pieces cuts what extents have at from or beyond into pieces.
func pieces(extents []delta.Extent, from, size int64) iter.Seq[delta.Extent] {
	return func(yield func(delta.Extent) bool) {
		for _, x := range extents {
			x = x.From(from)
			for x.Length > 0 {
				n := min(x.Length, size-x.Offset%size)
				if !yield(delta.Extent{Offset: x.Offset, Length: n}) {
					return
				}
				x.Offset, x.Length = x.Offset+n, x.Length-n
			}
		}
	}
}

// prove finds out up to which offset the receiver has what the snapshot has. It
// believes nothing but sums of the content: the receiver's memory, which says from, only
// if the last piece before that is there, since content comes in ascending order.
func (s *sending) prove(ctx context.Context, d *delta.Source, chunk int, from int64) (int64, error) {
	if last, ok := lastBefore(d.Extents, from); from > 0 && ok {
		n, err := s.has(ctx, d.Target, []delta.Extent{last})
		if err != nil {
			return 0, err
		}
		if n == 0 {
			from = 0
		}
	} else {
		from = 0
	}
	batch, most := make([]delta.Extent, 0, mostPieces), 1
	flush := func() (bool, error) {
		n, err := s.has(ctx, d.Target, batch)
		if err != nil {
			return false, err
		}
		if n > 0 {
			from = batch[n-1].Offset + batch[n-1].Length
		}
		if n < len(batch) {
			from, err = s.proveWithin(ctx, d.Target, batch[n], chunk, from)
			return false, err
		}
		batch, most = batch[:0], min(2*most, mostPieces)
		return true, nil
	}
	for p := range pieces(d.Extents, from, pieceSize) {
		if batch = append(batch, p); len(batch) == most {
			if more, err := flush(); !more {
				return from, err
			}
		}
	}
	_, err := flush()
	return from, err
}

// lastBefore returns the last piece of what extents have before off.
func lastBefore(extents []delta.Extent, off int64) (last delta.Extent, ok bool) {
	for _, x := range extents {
		n := min(x.Length, off-x.Offset)
		if n <= 0 {
			break
		}
		last, ok = x, true
		last.Length = n
	}
	return last.From(last.Offset + last.Length - pieceSize), ok
}

// proveWithin finds the first chunk of a piece that the receiver has not got. What is
// before from it has.
func (s *sending) proveWithin(ctx context.Context, target delta.Content, piece delta.Extent, chunk int, from int64) (int64, error) {
	var chunks []delta.Extent
	for p := range pieces([]delta.Extent{piece}, 0, int64(chunk)) {
		chunks = append(chunks, p)
	}
	n, err := s.has(ctx, target, chunks)
	if err != nil || n == 0 {
		return from, err
	}
	return chunks[n-1].Offset + chunks[n-1].Length, nil
}

// probes returns the frame with the sums of pieces of a snapshot.
func probes(content delta.Content, list []delta.Extent) ([]byte, error) {
	frame := make([]byte, 0, len(list)*probeSize)
	buf := make([]byte, pieceSize)
	for _, x := range list {
		p := buf[:x.Length]
		if n, err := content.ReadAt(p, x.Offset); n < len(p) {
			return nil, fmt.Errorf("reading %d bytes at offset %d of the snapshot: %w", len(p), x.Offset, err)
		}
		frame = probe{x, delta.SumOf(p)}.append(frame)
	}
	return frame, nil
}

// has returns how many pieces, from the first one on, the receiver has.
func (s *sending) has(ctx context.Context, target delta.Content, list []delta.Extent) (int, error) {
	if len(list) == 0 {
		return 0, nil
	}
	frame, err := probes(target, list)
	if err != nil {
		return 0, err
	}
	if err := s.link.write(kindProbe, frame); err != nil {
		return 0, err
	}
	p, err := s.ask(ctx, kindHad)
	if err != nil {
		return 0, err
	}
	n := binary.LittleEndian.Uint32(p)
	if int64(n) > int64(len(list)) {
		return 0, fmt.Errorf("%w: it has %d pieces of %d", ErrProtocol, n, len(list))
	}
	return int(n), nil
}
