// SPDX-License-Identifier: Apache-2.0

package nbd

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"zumastor.org/zumastor/engine/nbd/wire"
)

// maxHead is the longest header of a reply: that of a hole.
const maxHead = wire.ChunkSize + 12

// writeUnit is how many bytes of replies are sent before the stall clock starts
// anew.
const writeUnit = 1 << 20

// setSimple makes r's reply a simple one, with r.body as its data.
func (r *request) setSimple(e wire.Errno) {
	wire.PutSimple(r.head[:], e, r.Cookie)
	r.headLen = wire.SimpleSize
}

// setChunk makes r's reply a chunk of which n bytes of r.head, from
// wire.ChunkSize on, and r.body are the payload.
func (r *request) setChunk(t wire.ChunkType, flags uint16, n int) {
	c := wire.Chunk{Flags: flags, Type: t, Cookie: r.Cookie, Length: uint32(n + len(r.body))}
	c.Put(r.head[:])
	r.headLen = wire.ChunkSize + n
}

// setData makes r's reply a chunk with the data in r.body that was read at off.
func (r *request) setData(off int64, flags uint16) {
	binary.BigEndian.PutUint64(r.head[wire.ChunkSize:], uint64(off))
	r.setChunk(wire.ChunkData, flags, 8)
}

// setHole makes r's reply a chunk saying that n bytes at off are zeroes.
func (r *request) setHole(off int64, n int, flags uint16) {
	r.body = nil
	binary.BigEndian.PutUint64(r.head[wire.ChunkSize:], uint64(off))
	binary.BigEndian.PutUint32(r.head[wire.ChunkSize+8:], uint32(n))
	r.setChunk(wire.ChunkHole, flags, 12)
}

// setError makes r's reply an error, or success without data, of the form that
// r's command asks for.
func (r *request) setError(e wire.Errno, structured bool) {
	r.body = nil
	switch {
	case !structured || r.Type != wire.CmdRead && r.Type != wire.CmdBlockStatus:
		r.setSimple(e)
	case e == wire.OK:
		r.setChunk(wire.ChunkNone, wire.ChunkFlagDone, 0)
	default:
		binary.BigEndian.PutUint32(r.head[wire.ChunkSize:], uint32(e))
		binary.BigEndian.PutUint16(r.head[wire.ChunkSize+4:], 0)
		r.setChunk(wire.ChunkError, wire.ChunkFlagDone, 6)
	}
}

// mark is the time since when something has been under way.
type mark struct{ since atomic.Int64 }

func (m *mark) begin() { m.since.Store(time.Now().UnixNano()) }
func (m *mark) end()   { m.since.Store(0) }

func (m *mark) stalled(now time.Time, timeout time.Duration) bool {
	since := m.since.Load()
	return since != 0 && now.UnixNano()-since > int64(timeout)
}

// outbox sends replies. Whoever flushes while nobody is sending sends all that
// are queued, and those that others queue meanwhile, so that many replies share
// a system call.
type outbox struct {
	w    io.Writer // the connection, or a bufio.Writer on it where it cannot gather
	sent func(*request)
	fail func(error) // called at the first error, after which nothing is sent
	busy mark

	mu      sync.Mutex
	queue   []*request
	spare   []*request // the array that queue takes turns with
	sending bool

	// Of the sender only:
	failed bool
	heads  []byte
	gather net.Buffers
	parts  [][]byte // the array that gather walks along
}

func (o *outbox) init(nc net.Conn, inFlight int, sent func(*request), fail func(error)) {
	switch nc.(type) {
	case *net.TCPConn, *net.UnixConn:
		o.w = nc
	default: // TLS: records as large as they come
		o.w = bufio.NewWriterSize(nc, 64<<10)
	}
	o.sent, o.fail = sent, fail
	o.heads = make([]byte, 0, inFlight*maxHead)
}

// post queues r's reply, to be sent by whoever flushes next.
func (o *outbox) post(r *request) {
	o.mu.Lock()
	o.queue = append(o.queue, r)
	o.mu.Unlock()
}

// queued returns how many replies wait.
func (o *outbox) queued() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.queue)
}

// flush sends what is queued, unless another goroutine is at it.
func (o *outbox) flush() {
	o.mu.Lock()
	if o.sending {
		o.mu.Unlock()
		return
	}
	o.sending = true
	for len(o.queue) > 0 {
		batch := o.queue
		o.queue = o.spare[:0]
		o.mu.Unlock()
		o.send(batch)
		o.mu.Lock()
		clear(batch)
		o.spare = batch
	}
	o.sending = false
	o.mu.Unlock()
}

// send writes one batch, in units of about writeUnit, and lets its requests go.
func (o *outbox) send(batch []*request) {
	for len(batch) > 0 {
		n, size := 0, 0
		for n < len(batch) && size < writeUnit {
			size += len(batch[n].body)
			n++
		}
		if !o.failed {
			o.busy.begin()
			err := o.write(batch[:n])
			o.busy.end()
			if err != nil {
				o.failed = true
				o.fail(err)
			}
		}
		for _, r := range batch[:n] {
			o.sent(r)
		}
		batch = batch[n:]
	}
}

// write writes the replies with one gathering write where the connection can.
// Headers with no data between them become one part.
func (o *outbox) write(batch []*request) error {
	o.heads, o.parts = o.heads[:0], o.parts[:0]
	start := 0
	for _, r := range batch {
		o.heads = append(o.heads, r.head[:r.headLen]...)
		if len(r.body) > 0 {
			o.parts = append(o.parts, o.heads[start:], r.body)
			start = len(o.heads)
		}
	}
	var err error
	if len(o.parts) == 0 {
		_, err = o.w.Write(o.heads)
	} else {
		if start < len(o.heads) {
			o.parts = append(o.parts, o.heads[start:])
		}
		o.gather = o.parts
		_, err = o.gather.WriteTo(o.w)
		clear(o.parts)
	}
	if b, ok := o.w.(*bufio.Writer); ok && err == nil {
		return b.Flush()
	}
	return err
}
