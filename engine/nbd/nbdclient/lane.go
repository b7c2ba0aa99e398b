// SPDX-License-Identifier: Apache-2.0

package nbdclient

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"zumastor.org/zumastor/engine/nbd/wire"
)

// lane is one connection and the requests in flight on it.
type lane struct {
	nc         net.Conn
	structured bool
	contexts   map[string]uint32 // IDs by name

	slots []slot
	free  chan *slot

	// turn holds a token while some waiting caller reads replies. What follows
	// is the reader's.
	turn chan struct{}
	br   *bufio.Reader
	err  error // why the connection is lost

	mu      sync.Mutex // guards the rest
	queue   []*slot    // requests to send
	spare   []*slot
	sending bool
	idle    sync.Cond // on mu: sending has ended
	gather  net.Buffers
	parts   [][]byte
	scratch []byte // queued requests that fit are joined here
}

// slot is a request in flight. It belongs to its caller until it is queued, to
// the reader from then until done.
type slot struct {
	wire.Request
	index   uint16
	head    [wire.RequestSize]byte
	data    []byte // to be written, or to be read into
	status  *status
	got     int           // bytes of a structured read that have come
	live    atomic.Uint64 // the cookie while a reply is due, else zero
	failure error
	done    chan struct{}
}

// status collects the extents of one context.
type status struct {
	id      uint32
	extents []Extent
}

// joinSize is the size of payload up to which copying is cheaper than one more
// part of a gathering write.
const joinSize = 4 << 10

func newLane(nc net.Conn, br *bufio.Reader, inFlight int) *lane {
	inFlight = min(inFlight, 1<<15)
	l := &lane{
		nc: nc, br: br, slots: make([]slot, inFlight), free: make(chan *slot, inFlight),
		turn: make(chan struct{}, 1), scratch: make([]byte, 0, 64<<10),
	}
	l.idle.L = &l.mu
	for i := range l.slots {
		l.slots[i].index, l.slots[i].done = uint16(i), make(chan struct{}, 1)
		l.free <- &l.slots[i]
	}
	return l
}

// do sends one request and waits for its reply.
func (l *lane) do(cmd wire.Command, flags uint16, off int64, n int, data []byte, st *status) error {
	s := <-l.free
	s.Request = wire.Request{
		Flags: flags, Type: cmd, Offset: uint64(off), Length: uint32(n),
		Cookie: (s.Cookie>>16+1)<<16 | uint64(s.index), // a new number at each use
	}
	s.data, s.status, s.got, s.failure = data, st, 0, nil
	s.Put(s.head[:])
	l.send(s)
	err := l.wait(s)
	s.data, s.status = nil, nil
	l.free <- s
	return err
}

// send sends s, unless another caller is sending, who then sends s too.
func (l *lane) send(s *slot) {
	s.live.Store(s.Cookie)
	l.mu.Lock()
	l.queue = append(l.queue, s)
	if l.sending {
		l.mu.Unlock()
		return
	}
	l.sending = true
	for len(l.queue) > 0 {
		batch := l.queue
		l.queue = l.spare[:0]
		l.mu.Unlock()
		if l.write(batch) != nil {
			_ = l.nc.Close() // the reader finds out, and fails every request
		}
		l.mu.Lock()
		l.spare = batch
	}
	l.sending = false
	l.mu.Unlock()
	l.idle.Broadcast()
}

// write sends a batch. Headers and small payloads are joined, large payloads go
// from where they are.
func (l *lane) write(batch []*slot) error {
	l.parts, l.scratch = l.parts[:0], l.scratch[:0]
	start := 0
	for _, s := range batch {
		payload := s.data
		if s.Type != wire.CmdWrite {
			payload = nil
		}
		if need := len(s.head) + min(len(payload), joinSize); cap(l.scratch)-len(l.scratch) < need {
			if err := l.writeParts(start); err != nil {
				return err
			}
			start = 0
		}
		l.scratch = append(l.scratch, s.head[:]...)
		if len(payload) <= joinSize {
			l.scratch = append(l.scratch, payload...)
			continue
		}
		l.parts = append(l.parts, l.scratch[start:], payload)
		start = len(l.scratch)
	}
	return l.writeParts(start)
}

// writeParts writes what write has gathered, the scratch from start on included.
func (l *lane) writeParts(start int) error {
	var err error
	if len(l.parts) == 0 {
		_, err = l.nc.Write(l.scratch)
	} else {
		if start < len(l.scratch) {
			l.parts = append(l.parts, l.scratch[start:])
		}
		l.gather = l.parts
		_, err = l.gather.WriteTo(l.nc)
		clear(l.parts)
	}
	l.parts, l.scratch = l.parts[:0], l.scratch[:0]
	return err
}

// wait waits until s is done, and reads replies, its own and others', if nobody
// else does. Replies that have come along are handled before the turn passes on.
func (l *lane) wait(s *slot) error {
	select {
	case <-s.done:
		return s.failure
	case l.turn <- struct{}{}:
	}
	finished := false
	for {
		if !finished {
			select {
			case <-s.done: // perhaps by the reader before, just now
				finished = true
			default:
			}
		}
		if l.err != nil || finished && l.br.Buffered() < wire.ChunkSize {
			break
		}
		if l.err = l.receive(); l.err != nil {
			_ = l.nc.Close()
		}
	}
	err := l.err
	<-l.turn
	if finished {
		return s.failure
	}
	return l.abandon(s, err)
}

// abandon returns the outcome of s on a connection that is lost because of err,
// as soon as no sender can still be looking at it.
func (l *lane) abandon(s *slot, err error) error {
	l.mu.Lock()
	for l.sending {
		l.idle.Wait()
	}
	l.mu.Unlock()
	s.live.Store(0)
	select {
	case <-s.done: // in the nick of time
		return s.failure
	default:
		return err
	}
}

// receive reads one simple reply or one chunk.
func (l *lane) receive() error {
	b, err := l.br.Peek(wire.SimpleSize)
	if err != nil {
		return lost(err)
	}
	switch magic := binary.BigEndian.Uint32(b); {
	case magic == wire.MagicSimple:
		e, cookie := wire.Errno(binary.BigEndian.Uint32(b[4:])), binary.BigEndian.Uint64(b[8:])
		_, _ = l.br.Discard(wire.SimpleSize)
		return l.simple(e, cookie)
	case magic == wire.MagicChunk && l.structured:
		return l.chunk()
	default:
		return fmt.Errorf("%w: reply magic %#x", wire.ErrProtocol, magic)
	}
}

// lost makes an error of reading one of a lost connection.
func lost(err error) error {
	switch {
	case errors.Is(err, net.ErrClosed): // by who could not send
		return ErrLost
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%w: %w", ErrLost, err)
}

// find returns the request that a reply is for.
func (l *lane) find(cookie uint64) (*slot, error) {
	i := cookie & 0xffff
	if i >= uint64(len(l.slots)) || cookie == 0 || l.slots[i].live.Load() != cookie {
		return nil, fmt.Errorf("%w: reply to no request, cookie %#x", wire.ErrProtocol, cookie)
	}
	return &l.slots[i], nil
}

// complete lets the caller of s go on. The first failure is the one it gets.
func (s *slot) complete() {
	s.live.Store(0)
	s.done <- struct{}{}
}

func (l *lane) simple(e wire.Errno, cookie uint64) error {
	s, err := l.find(cookie)
	if err != nil {
		return err
	}
	if e != wire.OK {
		s.failure = e
	} else if s.Type == wire.CmdRead {
		if l.structured {
			return fmt.Errorf("%w: simple reply to a read", wire.ErrProtocol)
		}
		if _, err := io.ReadFull(l.br, s.data); err != nil {
			return lost(err)
		}
	}
	s.complete()
	return nil
}

// close says goodbye and closes the connection.
func (l *lane) close() error {
	l.mu.Lock()
	if !l.sending {
		var b [wire.RequestSize]byte
		(&wire.Request{Type: wire.CmdDisc}).Put(b[:])
		_ = l.nc.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = l.nc.Write(b[:]) // a courtesy
	}
	l.mu.Unlock()
	err := l.nc.Close()
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		return nil // the server was quicker, and TLS could not say goodbye
	}
	return err
}
