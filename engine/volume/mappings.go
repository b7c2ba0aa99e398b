// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"sync"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/wire"
)

// mappings remembers where chunks of a snapshot are: those that are stored or lost,
// for only these stay where they are until the server says otherwise. It is a cache
// with a bound: chunk c has one place, c modulo its length. Safe for concurrent use
// once limit was called.
type mappings struct {
	mu      sync.RWMutex
	list    []wire.Mapping // of one chunk each; Len zero: nothing is known; nil before the first
	places  block.Chunk    // length of the list
	version uint64         // advanced by every change of where a chunk is
}

// knownChunks is how many chunks a snapshot remembers at most: 384 KiB of memory.
const knownChunks = 1 << 13

// limit says how many chunks the snapshot has.
func (k *mappings) limit(chunks uint64) { k.places = block.Chunk(min(chunks, knownChunks)) }

// now returns the version that an answer of the server, asked for after, may be put
// with.
func (k *mappings) now() uint64 {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.version
}

// get appends where the chunks [first, end) are, if all of them are known.
func (k *mappings) get(first, end block.Chunk, dst []wire.Mapping) ([]wire.Mapping, bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.list == nil || end-first > maxMappings {
		return dst, false
	}
	for c := first; c < end; c++ {
		m := k.list[c%k.places]
		if m.Len == 0 || m.Chunk != c {
			return dst, false
		}
		dst = append(dst, m)
	}
	return dst, true
}

// put remembers what the server said, unless chunks have changed their places since
// the version.
func (k *mappings) put(list []wire.Mapping, version uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.version == version {
		k.set(list)
	}
}

// move notes the new places of chunks.
func (k *mappings) move(list []wire.Mapping) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.version++
	k.set(list)
}

func (k *mappings) set(list []wire.Mapping) {
	for _, m := range list {
		if m.Kind == wire.Shared {
			continue
		}
		if k.list == nil {
			k.list = make([]wire.Mapping, k.places)
		}
		for i := range min(block.Chunk(m.Len), k.places) {
			one := wire.Mapping{Chunk: m.Chunk + i, Len: 1, Kind: m.Kind, Owned: m.Owned, Slot: m.Slot + block.Slot(i)}
			k.list[one.Chunk%k.places] = one
		}
	}
}

// forget drops all.
func (k *mappings) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.version++
	clear(k.list)
}
