// SPDX-License-Identifier: Apache-2.0

package btree

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
)

// LoadAll reads the pages that misses name into the cache, each once and at most
// width at a time, and reorders misses. It blocks for the reads, and must be called
// without the lock that serialises the trees. It is a hint: a page may have been
// evicted when it is needed, and one that cannot be read fails who needs it then.
func LoadAll(misses []*Miss, width int) {
	slices.SortFunc(misses, func(a, b *Miss) int { return cmp.Compare(a.Page, b.Page) })
	misses = slices.CompactFunc(misses, func(a, b *Miss) bool { return a.Page == b.Page })
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(width, len(misses)) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(misses)); i = next.Add(1) - 1 {
				m := misses[i]
				_ = m.tree.load(m, nil)
			}
		})
	}
	wg.Wait()
}
