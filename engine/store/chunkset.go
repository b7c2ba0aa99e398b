// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"maps"
	"math/bits"
	"slices"

	"zumastor.org/zumastor/engine/block"
)

// setPageBits is how many chunks one page of a [chunkSet] is for.
const setPageBits = 4096 * 8

// chunkSet is a set of chunks as a sparse bitmap: one bit for each chunk, in pages
// of 4 KiB that are there only where a chunk is in the set. Chunks may come in any
// order.
type chunkSet struct {
	pages map[uint64]*setPage
	last  *setPage // that of the last chunk added, which the next one is likely in
	at    uint64   // its number
}

type setPage [setPageBits / 64]uint64

// add puts c into the set.
func (s *chunkSet) add(c block.Chunk) {
	at := uint64(c) / setPageBits
	if s.last == nil || s.at != at {
		if s.pages == nil {
			s.pages = make(map[uint64]*setPage)
		}
		if s.last = s.pages[at]; s.last == nil {
			s.last = new(setPage)
			s.pages[at] = s.last
		}
		s.at = at
	}
	bit := uint64(c) % setPageBits
	s.last[bit/64] |= 1 << (bit % 64)
}

// runs returns the runs of chunks in the set, ascending, at most limit of them; if
// there are more, the first chunk of the next one is returned too.
func (s *chunkSet) runs(limit int) (runs []ChunkRun, next block.Chunk, more bool) {
	keys := slices.SortedFunc(maps.Keys(s.pages), cmp.Compare[uint64])
	for _, key := range keys {
		for i, word := range s.pages[key] {
			base := block.Chunk(key*setPageBits + uint64(i)*64)
			for word != 0 {
				first := bits.TrailingZeros64(word)
				n := bits.TrailingZeros64(^(word >> first))
				word &^= (1<<n - 1) << first
				c := base + block.Chunk(first)
				if last := len(runs) - 1; last >= 0 && runs[last].end() == c {
					runs[last].Len += uint64(n)
					continue
				}
				if len(runs) == limit {
					return runs, c, true
				}
				runs = append(runs, ChunkRun{Chunk: c, Len: uint64(n)})
			}
		}
	}
	return runs, 0, false
}
