// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"container/list"
	"sync"
)

// cache keeps what was loaded, up to a number of bytes, and forgets what was not used for
// longest. Whoever asks for what is being loaded waits for that. Safe for concurrent use.
type cache[K comparable] struct {
	mu      sync.Mutex
	room    int64 // bytes
	used    int64
	entries map[K]*list.Element
	recent  list.List // of *cached[K], the newest first
}

type cached[K comparable] struct {
	key   K
	ready chan struct{} // closed when p and err are there
	p     []byte
	err   error
	size  int64 // in used
}

// entrySize is what an entry takes beside its bytes, about.
const entrySize = 256

func newCache[K comparable](room int64) *cache[K] {
	return &cache[K]{room: room, entries: make(map[K]*list.Element)}
}

// get returns what was loaded under the key, or loads it. What it returns must not be
// changed. Errors are not kept.
func (c *cache[K]) get(key K, load func() ([]byte, error)) ([]byte, error) {
	c.mu.Lock()
	if e, ok := c.entries[key]; ok {
		c.recent.MoveToFront(e)
		c.mu.Unlock()
		x := e.Value.(*cached[K])
		<-x.ready
		return x.p, x.err
	}
	x := &cached[K]{key: key, ready: make(chan struct{})}
	e := c.recent.PushFront(x)
	c.entries[key] = e
	c.mu.Unlock()
	x.p, x.err = load()
	c.mu.Lock()
	defer c.mu.Unlock()
	close(x.ready)
	if x.err != nil {
		c.drop(e)
		return nil, x.err
	}
	x.size = int64(cap(x.p)) + entrySize
	c.used += x.size
	for old := c.recent.Back(); old != nil && c.used > c.room; {
		before := old.Prev()
		if old.Value.(*cached[K]).size > 0 && old != e { // it is not being loaded
			c.drop(old)
		}
		old = before
	}
	return x.p, nil
}

// has returns what was loaded under the key, if it is there.
func (c *cache[K]) has(key K) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[key]
	if !ok || e.Value.(*cached[K]).size == 0 {
		return nil
	}
	c.recent.MoveToFront(e)
	return e.Value.(*cached[K]).p
}

// drop forgets an entry; mu is held.
func (c *cache[K]) drop(e *list.Element) {
	x := e.Value.(*cached[K])
	c.used -= x.size
	delete(c.entries, x.key)
	c.recent.Remove(e)
}
