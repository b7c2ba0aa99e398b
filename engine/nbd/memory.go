// SPDX-License-Identifier: Apache-2.0

package nbd

import (
	"math/bits"
	"slices"
	"sync"

	"zumastor.org/zumastor/engine/device"
)

// Payload buffers come in powers of two.
const (
	minBufferShift = 12 // 4 KiB
	maxBufferShift = 25 // 32 MiB, wire.MaxPayload
)

// buffers recycles page-aligned payload buffers by size. What lies unused goes
// to the garbage collector.
type buffers struct {
	pools [maxBufferShift - minBufferShift + 1]sync.Pool
}

// bufferClass returns which pool serves n bytes.
func bufferClass(n int) int { return max(bits.Len(uint(n-1)), minBufferShift) - minBufferShift }

// get returns a page-aligned buffer of at least n bytes, 1 to wire.MaxPayload,
// with arbitrary content.
func (b *buffers) get(n int) *[]byte {
	class := bufferClass(n)
	if p, ok := b.pools[class].Get().(*[]byte); ok {
		return p
	}
	p := device.Buffer(1 << (class + minBufferShift))
	return &p
}

func (b *buffers) put(p *[]byte) { b.pools[bufferClass(len(*p))].Put(p) }

// budget bounds the payload memory of all connections. Waiters are served in
// order, so that a large request is not starved by small ones.
type budget struct {
	mu      sync.Mutex
	left    int64
	waiters []*waiter
}

type waiter struct {
	need  int64
	ready chan struct{} // closed under mu when need has been taken
}

// try takes n bytes if that needs no waiting.
func (b *budget) try(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiters) > 0 || b.left < n {
		return false
	}
	b.left -= n
	return true
}

// take waits for n bytes; it gives up, returning false, when done is closed.
func (b *budget) take(n int64, done <-chan struct{}) bool {
	b.mu.Lock()
	if len(b.waiters) == 0 && b.left >= n {
		b.left -= n
		b.mu.Unlock()
		return true
	}
	w := &waiter{need: n, ready: make(chan struct{})}
	b.waiters = append(b.waiters, w)
	b.mu.Unlock()
	select {
	case <-w.ready:
		return true
	case <-done:
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := slices.Index(b.waiters, w); i >= 0 {
		b.waiters = slices.Delete(b.waiters, i, i+1)
	} else {
		b.left += n // granted at the last moment
	}
	b.grant()
	return false
}

func (b *budget) give(n int64) {
	b.mu.Lock()
	b.left += n
	if len(b.waiters) > 0 {
		b.grant()
	}
	b.mu.Unlock()
}

// grant serves waiters from the front. The caller holds mu.
func (b *budget) grant() {
	for len(b.waiters) > 0 && b.waiters[0].need <= b.left {
		b.left -= b.waiters[0].need
		close(b.waiters[0].ready)
		b.waiters = b.waiters[1:]
	}
}
