// SPDX-License-Identifier: Apache-2.0

// Package hostile is a metadata server that means ill: it serves the kernel's targets
// of a store with messages that are nearly right, with garbage, and with rings whose
// indices it changes at will.
//
// It owns the malice, and no judgement: the kernel must neither crash nor hang, which
// whoever runs it, in a virtual machine that may be lost, sees from the kernel's log and
// from the targets that can still be removed. Only devices without a worth may be behind
// the targets. Run uses the calling goroutine and one more.
package hostile

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/engine/ring"
	"zumastor.org/zumastor/engine/wire"
)

// The kernel's interface, see kernel/include/ddsnap_dev.h.
const (
	version   = 1
	ioctlBind = 0x4020dd02
	ioctlKick = 0x0000dd03

	toServer  = 1 << 16
	toKernel  = 1 << 16
	page      = 4096
	outHead   = 0   // of the ring to the server
	outTail   = 64  //
	inHead    = 128 // of the ring to the kernel
	inTail    = 192
	settleFor = 30 * time.Millisecond
)

// Report says what was done.
type Report struct {
	Connections int `json:"connections"`
	Messages    int `json:"messages"` // that were sent
	Heard       int `json:"heard"`    // messages of the kernel
	Refused     int `json:"refused"`  // connections that the kernel ended
}

// Run serves the store's targets badly until ctx ends. The same seed does the same as
// far as the kernel does. An error is one of the device, not of the kernel's behaviour.
func Run(ctx context.Context, uuid ring.UUID, seed uint64) (Report, error) {
	rng := rand.New(rand.NewPCG(seed, 1))
	var r Report
	for ctx.Err() == nil {
		if err := r.connect(ctx, uuid, rng); err != nil {
			return r, err
		}
	}
	return r, nil
}

// conn is one connection: the mapped rings.
type conn struct {
	fd     int
	memory []byte
	rng    *rand.Rand
	uuid   ring.UUID
	tail   uint32 // of the ring to the server
	head   uint32 // of the ring to the kernel
}

func (r *Report) connect(ctx context.Context, uuid ring.UUID, rng *rand.Rand) error {
	fd, err := unix.Open(ring.Device, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening %s: %w", ring.Device, err)
	}
	defer func() { _ = unix.Close(fd) }() // the connection ends either way
	request := make([]byte, 32)
	binary.LittleEndian.PutUint32(request, version)
	copy(request[8:], uuid[:])
	binary.LittleEndian.PutUint32(request[24:], toServer)
	binary.LittleEndian.PutUint32(request[28:], toKernel)
	if err := control(fd, ioctlBind, unsafe.Pointer(&request[0])); err != nil {
		return fmt.Errorf("binding %s: %w", ring.Device, err)
	}
	memory, err := unix.Mmap(fd, 0, page+toServer+toKernel, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("mapping %s: %w", ring.Device, err)
	}
	defer func() { _ = unix.Munmap(memory) }()
	r.Connections++
	c := &conn{fd: fd, memory: memory, rng: rng, uuid: uuid}
	r.serve(ctx, c)
	return nil
}

// serve answers for a while, then does its worst.
func (r *Report) serve(ctx context.Context, c *conn) {
	rounds := 1 + c.rng.IntN(40)
	for range rounds {
		h, heard := c.hear()
		switch {
		case ctx.Err() != nil || c.closed():
			r.Refused++
			return
		case heard:
			r.Heard++
			c.answer(h)
			r.Messages++
		case c.rng.IntN(3) == 0:
			c.demand()
			r.Messages++
		default:
			time.Sleep(time.Millisecond)
		}
	}
	if c.rng.IntN(2) == 0 {
		c.scribble()
		r.Messages++
	}
	if c.closed() {
		r.Refused++
	}
}

func (c *conn) u32(at int) uint32 { return binary.LittleEndian.Uint32(c.memory[at:]) }

func (c *conn) set(at int, v uint32) { binary.LittleEndian.PutUint32(c.memory[at:], v) }

func (c *conn) closed() bool { return c.u32(256) != 0 }

// hear takes the next message of the kernel.
func (c *conn) hear() (wire.Header, bool) {
	have := c.u32(outHead) - c.tail
	if have < wire.HeaderSize {
		return wire.Header{}, false
	}
	h, err := wire.DecodeHeader(c.at(c.tail, wire.HeaderSize))
	if err != nil {
		return h, false
	}
	c.tail += wire.HeaderSize + h.Length
	c.set(outTail, c.tail)
	c.kick()
	return h, true
}

// at copies bytes out of the ring to the server.
func (c *conn) at(from uint32, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = c.memory[page+(from+uint32(i))%toServer]
	}
	return p
}

// send puts a message into the ring to the kernel.
func (c *conn) send(p []byte) {
	if c.head-c.u32(inTail) > toKernel-uint32(len(p)) {
		return // no room: the kernel does not take anything
	}
	for i, b := range p {
		c.memory[page+toServer+int(c.head+uint32(i))%toKernel] = b
	}
	c.head += uint32(len(p))
	c.set(inHead, c.head)
	c.kick()
}

func (c *conn) kick() { _ = control(c.fd, ioctlKick, nil) } // it may be closed by now

// answer replies to a request, in one of many wrong ways or nearly right.
func (c *conn) answer(h wire.Header) {
	if h.ID == 0 {
		return
	}
	flags := wire.FlagReply
	var body []byte
	switch c.rng.IntN(8) {
	case 0:
		body = c.garbage()
	case 1:
		flags |= wire.FlagError
		body = wire.AppendFault(nil, wire.Fault{Code: wire.Code(c.rng.IntN(30)), Text: "no"})
	default:
		body = c.plausible(h.Type)
		if c.rng.IntN(2) == 0 {
			c.spoil(body)
		}
	}
	p := append(wire.AppendHeader(nil, h.Type, flags, h.ID), body...)
	wire.Seal(p)
	c.send(p)
}

// demand sends a request of a server, or what looks like one.
func (c *conn) demand() {
	types := []wire.Type{wire.TypeQuiesce, wire.TypeState, wire.TypeUpdate, wire.TypeSettle, wire.TypeFit, wire.Type(c.rng.IntN(50))}
	t := types[c.rng.IntN(len(types))]
	var body []byte
	switch t {
	case wire.TypeQuiesce, wire.TypeFit:
		body = wire.AppendNumbers(nil, uint64(c.rng.IntN(3)))
	case wire.TypeState:
		body = append(wire.AppendNumbers(nil, uint64(c.rng.IntN(2))), c.state()...)
	case wire.TypeUpdate:
		body = c.state()
	default:
		body = wire.AppendNumbers(nil, c.rng.Uint64()>>c.rng.IntN(64), c.rng.Uint64()>>c.rng.IntN(64))
	}
	if c.rng.IntN(4) == 0 {
		c.spoil(body)
	}
	p := append(wire.AppendHeader(nil, t, 0, c.rng.Uint64N(5)), body...)
	wire.Seal(p)
	c.send(p)
}

func (c *conn) garbage() []byte {
	p := make([]byte, c.rng.IntN(2000))
	for i := range p {
		p[i] = byte(c.rng.Uint32())
	}
	return p
}

// spoil changes some bytes.
func (c *conn) spoil(p []byte) {
	for range min(len(p), 1+c.rng.IntN(3)) {
		p[c.rng.IntN(len(p))] = byte(c.rng.Uint32() >> c.rng.IntN(24))
	}
}

// scribble writes over the rings, indices and all, while the kernel is made to look.
func (c *conn) scribble() {
	var kicker sync.WaitGroup
	done := make(chan struct{})
	kicker.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				c.kick()
			}
		}
	})
	for begun := time.Now(); time.Since(begun) < settleFor; {
		switch c.rng.IntN(3) {
		case 0:
			c.set([]int{outHead, outTail, inHead, inTail}[c.rng.IntN(4)], c.rng.Uint32()>>c.rng.IntN(32))
		case 1:
			c.memory[c.rng.IntN(320)] = byte(c.rng.Uint32())
		default:
			copy(c.memory[page+toServer+c.rng.IntN(toKernel-2000):], c.garbage())
		}
	}
	close(done)
	kicker.Wait()
}

func control(fd int, number uintptr, argument unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), number, uintptr(argument)); errno != 0 {
		return errors.New(errno.Error())
	}
	return nil
}
