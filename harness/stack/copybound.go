// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"slices"
	"sync"

	"zumastor.org/zumastor/engine/device"
)

// CopyBound is the least that copy-before-write costs: for each group of ops it
// reads the chunks that are overwritten for the first time, writes them one
// behind the other to the store in one write, flushes once, then submits the
// ops. It keeps no index, checks nothing and recovers nothing; what comes after
// the store's end overwrites its beginning.
type CopyBound struct {
	origin, store device.Device
	chunk         int64

	mu     sync.Mutex
	copied []uint64 // a bit a chunk; nil before the first snapshot
	next   int64    // of the store
	buf    []byte
}

var (
	_ device.Device = (*CopyBound)(nil)
	_ device.Doer   = (*CopyBound)(nil)
)

// maxCopy bounds one write to the store, in bytes, as a batch of the engine is
// bounded.
const maxCopy = 32 << 20

// NewCopyBound returns a CopyBound in chunks of the given size. Until the first
// Snapshot no chunk needs copying.
func NewCopyBound(origin, store device.Device, chunk int64) *CopyBound {
	return &CopyBound{origin: origin, store: store, chunk: chunk}
}

// Snapshot makes every chunk need copying, again.
func (c *CopyBound) Snapshot() {
	c.mu.Lock()
	defer c.mu.Unlock()
	chunks := (c.origin.Size() + c.chunk - 1) / c.chunk
	c.copied = make([]uint64, (chunks+63)/64)
}

// Size implements [device.Device].
func (c *CopyBound) Size() int64 { return c.origin.Size() }

// ReadAt implements [device.Device].
func (c *CopyBound) ReadAt(p []byte, off int64) (int, error) { return c.origin.ReadAt(p, off) }

// WriteAt implements [device.Device]: it is a group of one.
func (c *CopyBound) WriteAt(p []byte, off int64) (int, error) {
	if err := c.Do([]device.Op{{Kind: device.Write, Off: off, Data: p}}); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Flush implements [device.Device].
func (c *CopyBound) Flush() error { return c.origin.Flush() }

// Discard implements [device.Device].
func (c *CopyBound) Discard(off, n int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.copyOut(c.unsettled(nil, off, n)); err != nil {
		return err
	}
	return c.origin.Discard(off, n)
}

// Do implements [device.Doer]: ops are one group.
func (c *CopyBound) Do(ops []device.Op) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var chunks []int64
	for _, op := range ops {
		if op.Kind == device.Write {
			chunks = c.unsettled(chunks, op.Off, int64(len(op.Data)))
		}
	}
	if err := c.copyOut(chunks); err != nil {
		return err
	}
	return device.Do(c.origin, ops)
}

// unsettled appends the chunks of a range that need copying, and marks them.
func (c *CopyBound) unsettled(chunks []int64, off, n int64) []int64 {
	for i := off / c.chunk; c.copied != nil && i*c.chunk < off+n; i++ {
		if c.copied[i/64]>>(i%64)&1 == 0 {
			c.copied[i/64] |= 1 << (i % 64)
			chunks = append(chunks, i)
		}
	}
	return chunks
}

func (c *CopyBound) copyOut(chunks []int64) error {
	slices.Sort(chunks)
	for batch := range slices.Chunk(chunks, int(max(1, min(maxCopy, c.store.Size())/c.chunk))) {
		if err := c.copyBatch(batch); err != nil {
			return err
		}
	}
	return nil
}

// copyBatch copies chunks, which ascend. Neighbours are read together, up to
// 1 MiB at a time.
func (c *CopyBound) copyBatch(chunks []int64) error {
	n := int64(len(chunks)) * c.chunk
	if int64(len(c.buf)) < n {
		c.buf = device.Buffer(int(n))
	}
	var reads []device.Op
	for i, chunk := range chunks {
		off := chunk * c.chunk
		data := c.buf[int64(i)*c.chunk:][:min(c.chunk, c.origin.Size()-off)]
		if last := len(reads) - 1; last >= 0 && reads[last].Off+int64(len(reads[last].Data)) == off && len(reads[last].Data)+len(data) <= 1<<20 {
			reads[last].Data = reads[last].Data[:len(reads[last].Data)+len(data)]
			continue
		}
		reads = append(reads, device.Op{Kind: device.Read, Off: off, Data: data})
	}
	if err := device.Do(c.origin, reads); err != nil {
		return err
	}
	if c.next+n > c.store.Size() {
		c.next = 0
	}
	if _, err := c.store.WriteAt(c.buf[:n], c.next); err != nil {
		return err
	}
	c.next += n
	return c.store.Flush()
}
