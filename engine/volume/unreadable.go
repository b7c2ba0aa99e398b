// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"errors"
	"fmt"
	"slices"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/copylog"
	"zumastor.org/zumastor/engine/device"
)

// UnreadablePolicy says what becomes of a write to a chunk whose old content snapshots
// need, and which cannot be read from the origin.
type UnreadablePolicy uint8

// The policies.
const (
	// LoseChunk lets the write go on, which on many devices heals the place. The chunk,
	// as a whole, is lost to the snapshots that need it: reads of it there are errors.
	LoseChunk UnreadablePolicy = iota
	// FailWrite has the write fail, and the chunk stay as it is.
	FailWrite
)

// String returns the policy's name, which [ParseUnreadablePolicy] reads.
func (p UnreadablePolicy) String() string { return [...]string{"lose-chunk", "fail-write"}[p] }

// ParseUnreadablePolicy returns the policy of a name.
func ParseUnreadablePolicy(name string) (UnreadablePolicy, error) {
	for p := LoseChunk; p <= FailWrite; p++ {
		if p.String() == name {
			return p, nil
		}
	}
	return 0, fmt.Errorf("policy %q is neither %v nor %v", name, LoseChunk, FailWrite)
}

// unreadable is what a copier knows of chunks that cannot be read.
type unreadable struct {
	policy UnreadablePolicy
	lost   map[block.Chunk]bool // of those that are being copied out
	// avoided are not read ahead of anybody: to try takes a bad device seconds.
	avoided map[block.Chunk]bool
}

// maxAvoided bounds how many chunks are known to be bad; an origin with more is
// not read ahead any more.
const maxAvoided = 1 << 10

// badChunks is the error of chunks that cannot be read, ascending, of a device that
// can be read elsewhere.
type badChunks struct {
	error
	chunks []block.Chunk
}

// Unwrap returns why the first of them cannot be read.
func (e badChunks) Unwrap() error { return e.error }

// errSilent is wrapped when nothing can be read from a device. Then no chunk is lost:
// it may all be there again later.
var errSilent = errors.New("the device cannot be read at all")

// readAgain reads a batch whose reads have failed once more, in parts, so that what
// one bad sector takes along is one chunk. The format knows no smaller loss. The
// error is a badChunks, or wraps errSilent.
func (c *copier) readAgain(b *copylog.Batch) error {
	var bad badChunks
	size := int64(c.v.geometry().ChunkSize())
	for _, op := range c.reads(b) {
		if _, err := c.v.dev.ReadAt(op.Data, op.Off); err == nil {
			continue
		}
		for at := int64(0); at < int64(len(op.Data)); at += size {
			part := op.Data[at:min(at+size, int64(len(op.Data)))]
			err := readChunk(c.v.dev, part, op.Off+at)
			if errors.Is(err, errSilent) {
				return err
			}
			if err != nil {
				bad.chunks = append(bad.chunks, c.v.geometry().ChunkOf(op.Off+at))
				bad.error = errors.Join(bad.error, err)
			}
		}
	}
	if len(bad.chunks) == 0 {
		return nil
	}
	return bad
}

// readChunk reads a chunk whose read has failed, page by page if need be: a device
// may succeed with little where it gave up on much. Before it believes in a bad
// place it makes sure that the device answers.
func readChunk(d device.Device, p []byte, off int64) error {
	_, first := d.ReadAt(p, off)
	if first == nil {
		return nil
	}
	if !answers(d, p[:min(len(p), block.PageSize)]) {
		return fmt.Errorf("%w: %w", errSilent, first)
	}
	for at := 0; at < len(p); at += block.PageSize {
		if _, err := d.ReadAt(p[at:min(at+block.PageSize, len(p))], off+int64(at)); err != nil {
			return err
		}
	}
	return nil
}

// answers reports whether anything can be read from the device: at its begin, middle
// or end. It reads into buf.
func answers(d device.Device, buf []byte) bool {
	last := d.Size() - int64(len(buf))
	for _, off := range []int64{0, last / 2 / block.PageSize * block.PageSize, last} {
		if _, err := d.ReadAt(buf, off); err == nil {
			return true
		}
	}
	return false
}

// judge decides about chunks that cannot be read, and returns what is left: the
// chunks still to be copied out, among them those that are now to be lost, and the
// requests that did not fail. A chunk is lost only if it is to be written to; one that
// was to be copied ahead of a writer is left alone.
func (c *copier) judge(bad badChunks, reqs []*request, chunks []block.Chunk) ([]*request, []block.Chunk) {
	for _, chunk := range bad.chunks {
		needs := func(r *request) bool { return r.first <= chunk && chunk < r.end }
		if c.unreadable.policy == LoseChunk && slices.ContainsFunc(reqs, func(r *request) bool { return needs(r) && !r.keep }) {
			c.unreadable.lose(chunk)
			continue
		}
		c.avoid(chunk)
		chunks = slices.DeleteFunc(chunks, func(other block.Chunk) bool { return other == chunk })
		reqs = slices.DeleteFunc(reqs, func(r *request) bool {
			if !needs(r) {
				return false
			}
			r.finish(fmt.Errorf("copying out: chunk %d, which snapshots need, cannot be read: %w", chunk, bad.error))
			return true
		})
	}
	return reqs, chunks
}

func (u *unreadable) lose(chunk block.Chunk) {
	if u.lost == nil {
		u.lost = make(map[block.Chunk]bool)
	}
	u.lost[chunk] = true
}

// avoid has a chunk not be read ahead any more.
func (c *copier) avoid(chunk block.Chunk) {
	if c.unreadable.avoided == nil {
		c.unreadable.avoided = make(map[block.Chunk]bool)
	}
	c.unreadable.avoided[chunk] = true
	if len(c.unreadable.avoided) > maxAvoided {
		c.ahead.limit = 0
		clear(c.unreadable.avoided)
	}
}

// without returns the chunks, of which those from ahead on are to be copied ahead of
// somebody, without such as are to be avoided.
func (u *unreadable) without(chunks []block.Chunk, ahead int) []block.Chunk {
	if len(u.avoided) == 0 {
		return chunks
	}
	kept := slices.DeleteFunc(chunks[ahead:], func(chunk block.Chunk) bool { return u.avoided[chunk] })
	return chunks[:ahead+len(kept)]
}
