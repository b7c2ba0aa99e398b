// SPDX-License-Identifier: Apache-2.0

package nbd

import (
	"bytes"
	"encoding/binary"
	"time"

	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/nbd/wire"
)

// chunkSize is how much of a long read is read and sent at a time, where the
// client takes chunks.
const chunkSize = 1 << 20

// minHole is the smallest chunk that is looked through for being all zeroes,
// which are then not sent.
const minHole = 64 << 10

// maxExtents bounds the extents of one context in one reply.
const maxExtents = 4096

// allowed are the flags that each command takes.
var allowed = [...]uint16{
	wire.CmdRead:        wire.CmdFlagFUA | wire.CmdFlagDF,
	wire.CmdWrite:       wire.CmdFlagFUA,
	wire.CmdDisc:        wire.CmdFlagFUA,
	wire.CmdFlush:       wire.CmdFlagFUA,
	wire.CmdTrim:        wire.CmdFlagFUA,
	wire.CmdWriteZeroes: wire.CmdFlagFUA | wire.CmdFlagNoHole | wire.CmdFlagFastZero,
	wire.CmdBlockStatus: wire.CmdFlagFUA | wire.CmdFlagReqOne,
}

// known reports whether the server serves command t with flags.
func known(t wire.Command, flags uint16) bool {
	return int(t) < len(allowed) && t != wire.CmdCache && flags&^allowed[t] == 0
}

func writes(t wire.Command) bool {
	return t == wire.CmdWrite || t == wire.CmdTrim || t == wire.CmdWriteZeroes
}

// check returns the error of a request that must not reach the device.
func (c *conn) check(r *request) wire.Errno {
	size, unit := uint64(c.export.Device.Size()), uint64(c.export.BlockSizes.Min)
	length := uint64(r.Length)
	switch {
	case c.draining.Load():
		return wire.ESHUTDOWN
	case !known(r.Type, r.Flags), r.Flags&wire.CmdFlagDF != 0 && !c.structured:
		return wire.EINVAL
	case c.export.ReadOnly && writes(r.Type):
		return wire.EPERM
	case r.Type == wire.CmdFlush:
		return wire.OK
	case r.Type == wire.CmdBlockStatus && len(c.contexts) == 0:
		return wire.EINVAL
	case r.Offset > size || length > size-r.Offset:
		if writes(r.Type) {
			return wire.ENOSPC
		}
		return wire.EINVAL
	case length == 0, (r.Offset|length)%unit != 0:
		return wire.EINVAL
	case r.Type == wire.CmdRead && length > wire.MaxPayload:
		if r.Flags&wire.CmdFlagDF != 0 {
			return wire.EOVERFLOW
		}
		return wire.EINVAL
	}
	return wire.OK
}

// perform does what r asks for and makes its reply.
func (c *conn) perform(r *request) {
	small := r.Length <= inlineSize && r.Flags == 0
	switch r.Type {
	case wire.CmdRead:
		if c.chunked(r) {
			c.readChunks(r)
			return
		}
		c.timed(r, small, c.readWhole)
	case wire.CmdWrite:
		c.timed(r, small, c.write)
	case wire.CmdFlush:
		c.answer(r, c.export.Device.Flush())
	case wire.CmdTrim:
		c.answer(r, c.durable(r, c.export.Device.Discard(int64(r.Offset), int64(r.Length))))
	case wire.CmdWriteZeroes:
		c.answer(r, c.durable(r, c.writeZeroes(r)))
	case wire.CmdBlockStatus:
		c.blockStatus(r)
	}
}

// timed runs do and, where small, learns from it how fast the device is: soon
// that it is slow, by and by that it is fast.
func (c *conn) timed(r *request, small bool, do func(*request)) {
	if !small {
		do(r)
		return
	}
	start := time.Now()
	do(r)
	took, pace := int64(time.Since(start)), c.pace.Load()
	if took > pace {
		c.pace.Store(pace + (took-pace)/4)
	} else {
		c.pace.Store(pace - (pace-took)/8)
	}
}

// answer makes r's reply, one without data.
func (c *conn) answer(r *request, err error) {
	e := errnoOf(err)
	if e != wire.OK && e != wire.ENOTSUP { // the latter is how clients probe
		c.log.Warn("nbd: request failed", "export", c.export.Name, "type", r.Type, "offset", r.Offset, "length", r.Length, "err", err)
	}
	r.setError(e, c.structured)
}

// durable flushes after a successful command that asks for it.
func (c *conn) durable(r *request, err error) error {
	if err != nil || r.Flags&wire.CmdFlagFUA == 0 {
		return err
	}
	return c.export.Device.Flush()
}

func (c *conn) write(r *request) {
	_, err := c.export.Device.WriteAt(r.data, int64(r.Offset))
	c.answer(r, c.durable(r, err))
}

// plain hides that a device can zero by itself.
type plain struct{ device.Device }

func (c *conn) writeZeroes(r *request) error {
	_, can := c.export.Device.(device.Zeroer)
	dev := c.export.Device
	if !can || r.Flags&wire.CmdFlagNoHole != 0 && !c.export.ZeroKeeps {
		can, dev = false, plain{dev}
	}
	if r.Flags&wire.CmdFlagFastZero != 0 && (!can || !c.export.FastZero) {
		return wire.ENOTSUP
	}
	return device.WriteZeroes(dev, int64(r.Offset), int64(r.Length))
}

// chunked reports whether the reply to r, a read, goes in chunks.
func (c *conn) chunked(r *request) bool {
	return c.structured && r.Length > chunkSize && r.Flags&wire.CmdFlagDF == 0
}

// readWhole answers a read with all its data at once.
func (c *conn) readWhole(r *request) {
	if _, err := c.export.Device.ReadAt(r.data, int64(r.Offset)); err != nil {
		c.answer(r, err)
		return
	}
	r.body = r.data
	if !c.structured {
		r.setSimple(wire.OK)
		return
	}
	c.setContent(r, int64(r.Offset), wire.ChunkFlagDone)
}

// setContent makes r's reply the chunk with r.body, or a hole where that is all
// zeroes and the client did not ask for bytes.
func (c *conn) setContent(r *request, off int64, flags uint16) {
	if len(r.body) >= minHole && r.Flags&wire.CmdFlagDF == 0 && allZero(r.body) {
		r.setHole(off, len(r.body), flags)
		return
	}
	r.setData(off, flags)
}

// allZero reports whether p, longer than a page, is all zeroes.
func allZero(p []byte) bool {
	for _, b := range p[:16] {
		if b != 0 {
			return false
		}
	}
	return bytes.Equal(p[16:], p[:len(p)-16])
}

// readChunks answers a long read chunk by chunk through one buffer. The last
// chunk, or the error, is left for the caller to send.
func (c *conn) readChunks(r *request) {
	off, left := int64(r.Offset), int(r.Length)
	partial := make(chan struct{}, 1)
	for {
		part := r.data[:min(left, len(r.data))]
		if _, err := c.export.Device.ReadAt(part, off); err != nil {
			c.answer(r, err)
			return
		}
		r.body = part
		if left -= len(part); left == 0 {
			c.setContent(r, off, wire.ChunkFlagDone)
			return
		}
		c.setContent(r, off, 0)
		r.partial = partial
		c.out.post(r)
		c.out.flush()
		<-partial
		r.partial = nil
		off += int64(len(part))
	}
}

// blockStatus answers with one chunk for each context that was negotiated.
func (c *conn) blockStatus(r *request) {
	var body []byte
	for i, ctx := range c.contexts {
		extents, err := ctx.status(int64(r.Offset), int64(r.Length), r.Flags&wire.CmdFlagReqOne != 0)
		if err != nil {
			c.answer(r, err)
			return
		}
		flags := uint16(0)
		if i == len(c.contexts)-1 {
			flags = wire.ChunkFlagDone
		}
		body = appendStatus(body, r, ctx.id, flags, extents)
	}
	r.headLen, r.body = 0, body
}

// appendStatus appends the chunk of one context. Neighbours of one status are
// joined, what lies beyond the request is cut off, and a context that knows
// nothing says so by a status of zero.
func appendStatus(b []byte, r *request, id uint32, flags uint16, extents []Extent) []byte {
	limit, left := maxExtents, int64(r.Length)
	if r.Flags&wire.CmdFlagReqOne != 0 {
		limit = 1
	}
	start := len(b)
	b = append(b, make([]byte, wire.ChunkSize)...)
	b = binary.BigEndian.AppendUint32(b, id)
	first := len(b)
	var run Extent
	emit := func() {
		if run.Length > 0 && (len(b)-first)/8 < limit {
			b = binary.BigEndian.AppendUint32(b, uint32(run.Length))
			b = binary.BigEndian.AppendUint32(b, run.Flags)
		}
	}
	for _, e := range extents {
		n := min(e.Length, left)
		if n <= 0 {
			continue
		}
		left -= n
		if run.Length > 0 && run.Flags == e.Flags {
			run.Length += n
			continue
		}
		emit()
		run = Extent{Length: n, Flags: e.Flags}
	}
	if run.Length == 0 {
		run = Extent{Length: int64(r.Length)}
	}
	emit()
	c := wire.Chunk{Flags: flags, Type: wire.ChunkBlockStatus, Cookie: r.Cookie, Length: uint32(len(b) - start - wire.ChunkSize)}
	c.Put(b[start:])
	return b
}
