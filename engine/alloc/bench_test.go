// SPDX-License-Identifier: Apache-2.0

package alloc_test

import (
	"math"
	"testing"

	"zumastor.org/zumastor/engine/alloc"
	"zumastor.org/zumastor/engine/btree"
)

// nearlyFull is 1 TiB of 64 KiB slots of which the last one and one in 65,536
// are free.
func nearlyFull(b *testing.B, cacheBytes int64) *alloc.Slots {
	const words = 1 << 40 / (64 << 10) / 64
	a := newArea(cacheBytes)
	return a.filled(b, words, func(i uint64) uint64 {
		if i%(1<<10) == 1<<10-1 {
			return math.MaxUint64 >> 1
		}
		return math.MaxUint64
	})
}

// What the search for the last free slots of a nearly full volume costs, with its
// slot map in memory and not.
func BenchmarkLeaseNearlyFull(b *testing.B) {
	for _, c := range []struct {
		name  string
		cache int64
	}{{"cached", 1 << 30}, {"uncached", threePages}} {
		b.Run(c.name, func(b *testing.B) {
			s := nearlyFull(b, c.cache)
			for b.Loop() {
				for range 3 {
					got, err := resolveLease(s, &lock{}, 100)
					if err != nil {
						b.Fatal(err)
					}
					for _, r := range got {
						s.Return(r)
					}
				}
				if err := btree.Resolve(&lock{}, s.Freeze); err != nil {
					b.Fatal(err)
				}
				s.Thaw()
			}
		})
	}
}

// The usual case: an area with much room.
func BenchmarkLease(b *testing.B) {
	s := small(1 << 40)
	for b.Loop() {
		got, err := s.Lease(4096)
		if err != nil {
			b.Fatal(err)
		}
		for _, r := range got {
			s.Use(r)
		}
	}
}
