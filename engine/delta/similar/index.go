// SPDX-License-Identifier: Apache-2.0

package similar

import (
	"fmt"
	"math/bits"
	"sync"
)

const (
	// DefaultMemory is an index's bound in bytes: 1 GiB of a base in full, 256 GiB
	// with the sparsest samples.
	DefaultMemory = 64 << 20
	// MinMemory is the smallest bound that NewIndex takes.
	MinMemory = 4096

	densest  = 7  // one in 128 windows is kept at first
	sparsest = 15 // one in 32768 at last
	ways     = 8  // entries of a bucket: a cache line

	placeBits = 44 // of an entry: 16 TiB
	maxPlace  = 1<<placeBits - 1
)

// Index finds content in a base by samples of its windows of 64 bytes. It keeps
// to its memory: when it is full, every second sample leaves and from then on
// only every second is taken. Safe for concurrent use; what is found depends on
// what was added before.
type Index struct {
	mu      sync.RWMutex
	entries []uint64 // buckets of ways; 0 is free
	shift   uint     // of a mixed hash, for the number of its bucket
	rate    uint     // one in 2^rate windows is kept
	used    int
}

// NewIndex returns an index for a base of which some expect bytes will be added,
// within memory bytes, or DefaultMemory where it is 0.
func NewIndex(memory int, expect int64) (*Index, error) {
	if memory == 0 {
		memory = DefaultMemory
	}
	if memory < MinMemory || memory > 1<<40 {
		return nil, fmt.Errorf("index of %d bytes: it is at least %d", memory, MinMemory)
	}
	if expect < 0 {
		return nil, fmt.Errorf("index of %d bytes of the base", expect)
	}
	want := max(MinMemory, min(expect>>densest, int64(memory))*2*8)
	size := 1 << (bits.Len64(uint64(min(want, int64(memory)))) - 1) // of memory, a power of two
	buckets := size / 8 / ways
	return &Index{entries: make([]uint64, buckets*ways), shift: uint(64 - bits.Len(uint(buckets-1))), rate: densest}, nil
}

// Memory returns the bytes that the index holds.
func (x *Index) Memory() int { return len(x.entries) * 8 }

// Add adds content that stands at offset in the base. It does not keep content.
// What stands beyond 16 TiB, or comes when the sparsest index is full, is left
// out.
func (x *Index) Add(offset int64, content []byte) {
	if offset < 0 || offset > maxPlace-int64(len(content)) {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	sample(content, 0, len(content), x.rate, func(end int, hash uint64) {
		if hash <= ^uint64(0)>>x.rate { // it may have changed meanwhile
			x.insert(hash, offset+int64(end))
		}
	})
}

// entry packs a place with 20 bits of its hash: the 8 by which samples become
// sparser, and 12 others.
func entry(hash uint64, place int64) uint64 {
	next := hash << densest >> 56
	return next<<56 | (mix(hash)&0xfff)<<placeBits | uint64(place)
}

func (x *Index) bucket(hash uint64) []uint64 {
	at := mix(hash) >> x.shift * ways
	return x.entries[at : at+ways]
}

// insert keeps the first place of those with the same content.
func (x *Index) insert(hash uint64, place int64) {
	e := entry(hash, place)
	for i, old := range x.bucket(hash) {
		switch {
		case old == 0:
			x.bucket(hash)[i] = e
			if x.used++; x.used > len(x.entries)*3/4 && x.rate < sparsest {
				x.thin()
			}
			return
		case old>>placeBits == e>>placeBits:
			return
		}
	}
}

// thin drops the samples that the next rate does not take.
func (x *Index) thin() {
	x.rate++
	keep := uint64(0xff) >> (x.rate - densest)
	x.used = 0
	for at := 0; at < len(x.entries); at += ways {
		bucket := x.entries[at : at+ways]
		n := 0
		for _, e := range bucket {
			if e != 0 && e>>56 <= keep {
				bucket[n] = e
				n++
			}
		}
		clear(bucket[n:])
		x.used += n
	}
}

// candidate is a place of the base that may hold what ends at end of the content.
type candidate struct {
	end   int
	place int64 // after the window
}

// find appends the candidates for the windows that end in content[from:to].
func (x *Index) find(found []candidate, content []byte, from, to int) []candidate {
	x.mu.RLock()
	defer x.mu.RUnlock()
	sample(content, from, to, x.rate, func(end int, hash uint64) {
		if place := x.place(hash); place != 0 {
			found = append(found, candidate{end, place})
		}
	})
	return found
}

// place returns where the window of that hash ended, or 0.
func (x *Index) place(hash uint64) int64 {
	e := entry(hash, 0)
	for _, old := range x.bucket(hash) {
		if old != 0 && old>>placeBits == e>>placeBits {
			return int64(old & maxPlace)
		}
	}
	return 0
}

// Count returns how many samples content has, and how many of them are found.
func (x *Index) Count(content []byte) (found, samples int) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	sample(content, 0, len(content), x.rate, func(_ int, hash uint64) {
		samples++
		if x.place(hash) != 0 {
			found++
		}
	})
	return found, samples
}
