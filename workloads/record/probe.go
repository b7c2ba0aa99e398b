// SPDX-License-Identifier: Apache-2.0

package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// eventKind says which tracepoint an event comes from.
type eventKind uint32

const (
	issued   eventKind = iota // a request is given to the driver
	requeued                  // the driver puts one back
	failed                    // one ends with an error
	queued                    // an empty bio is submitted
)

var tracepoints = [...]string{issued: "block_rq_issue", requeued: "block_rq_requeue", failed: "block_rq_error", queued: "block_bio_queue"}

// event is one passage of a request through a tracepoint. In the ring buffer:
//
//	offset  bytes  content
//	     0      8  nanoseconds of the monotonic clock
//	     8      8  first sector
//	    16      4  number of sectors
//	    20      4  eventKind
//	    24      4  error number, negative, zero unless failed
//	    28     10  operation and flags as letters, zero-terminated ("rwbs")
//	    38      2  zero
type event struct {
	time    int64
	sector  uint64
	sectors uint32
	kind    eventKind
	errno   int32
	rwbs    string
}

const (
	eventSize = 40
	atRWBS    = 28
	maxRWBS   = 10
	ringSize  = 64 << 20
)

func decodeEvent(b []byte) (event, error) {
	if len(b) != eventSize {
		return event{}, fmt.Errorf("event of %d bytes instead of %d", len(b), eventSize)
	}
	rwbs, _, _ := strings.Cut(string(b[atRWBS:atRWBS+maxRWBS]), "\x00")
	return event{
		time:    int64(binary.NativeEndian.Uint64(b)),
		sector:  binary.NativeEndian.Uint64(b[8:]),
		sectors: binary.NativeEndian.Uint32(b[16:]),
		kind:    eventKind(binary.NativeEndian.Uint32(b[20:])),
		errno:   int32(binary.NativeEndian.Uint32(b[24:])),
		rwbs:    rwbs,
	}, nil
}

// probe gathers the events of one device. The eBPF programs are assembled here,
// against the field offsets that this kernel's tracefs names: they are a dozen
// instructions, and the build needs no compiler for them.
//
// Note: completions are not probed. They come in interrupts, and the kernel
// skips a tracepoint's program while another one runs on that processor; issues
// come from threads. What was skipped is counted, as is what found no room.
type probe struct {
	ring, lost *ebpf.Map
	programs   []*ebpf.Program
	reader     *ringbuf.Reader
	closers    []func() error
	done       chan struct{}
	events     []event // owned by the reading goroutine until done is closed
	readErr    error
}

func startProbe(dev uint32) (p *probe, err error) {
	p = &probe{done: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("%w: %w", ErrNotSupported, err), p.close())
		}
	}()
	dir, err := tracefs()
	if err != nil {
		return p, err
	}
	p.ring, err = ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.RingBuf, MaxEntries: ringSize})
	if err != nil {
		return p, fmt.Errorf("making a ring buffer: %w", err)
	}
	p.closers = append(p.closers, p.ring.Close)
	p.lost, err = ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		return p, fmt.Errorf("making the counter of lost events: %w", err)
	}
	p.closers = append(p.closers, p.lost.Close)
	if p.reader, err = ringbuf.NewReader(p.ring); err != nil {
		return p, err
	}
	go p.read()
	p.closers = append(p.closers, func() error { err := p.reader.Close(); <-p.done; return err })
	for kind := range tracepoints {
		if err := p.attach(dir, eventKind(kind), dev); err != nil {
			return p, fmt.Errorf("probing %s: %w", tracepoints[kind], err)
		}
	}
	return p, nil
}

// attach puts a program on one tracepoint.
func (p *probe) attach(dir string, kind eventKind, dev uint32) error {
	format, err := os.ReadFile(filepath.Join(dir, "events/block", tracepoints[kind], "format"))
	if err != nil {
		return err
	}
	fields, err := parseFormat(string(format))
	if err != nil {
		return err
	}
	ins, err := program(kind, dev, fields, p.ring.FD(), p.lost.FD())
	if err != nil {
		return err
	}
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.TracePoint, Instructions: ins, License: "Apache-2.0"})
	if err != nil {
		return err
	}
	p.closers = append(p.closers, prog.Close)
	p.programs = append(p.programs, prog)
	l, err := link.Tracepoint("block", tracepoints[kind], prog, nil)
	if err != nil {
		return err
	}
	p.closers = append(p.closers, l.Close)
	return nil
}

// read drains the ring buffer until it is flushed or closed.
func (p *probe) read() {
	defer close(p.done)
	var r ringbuf.Record
	for {
		if err := p.reader.ReadInto(&r); err != nil {
			if !errors.Is(err, ringbuf.ErrFlushed) && !errors.Is(err, ringbuf.ErrClosed) {
				p.readErr = err
			}
			return
		}
		e, err := decodeEvent(r.RawSample)
		if err != nil {
			p.readErr = err
			return
		}
		p.events = append(p.events, e)
	}
}

// stop returns all events up to now, in the order in which they happened. It
// fails if a single one was lost.
func (p *probe) stop() ([]event, error) {
	if err := p.reader.Flush(); err != nil {
		return nil, err
	}
	<-p.done
	if p.readErr != nil {
		return nil, fmt.Errorf("reading events: %w", p.readErr)
	}
	var lost uint64
	if err := p.lost.Lookup(uint32(0), &lost); err != nil {
		return nil, fmt.Errorf("reading the counter of lost events: %w", err)
	}
	for _, prog := range p.programs {
		stats, err := prog.Stats()
		if err != nil {
			return nil, fmt.Errorf("reading the counter of skipped events: %w", err)
		}
		lost += stats.RecursionMisses
	}
	if lost > 0 {
		return nil, fmt.Errorf("%w: %d events were lost", ErrInexact, lost)
	}
	return p.events, nil
}

// close releases everything, newest first.
func (p *probe) close() error {
	var errs []error
	for i := len(p.closers) - 1; i >= 0; i-- {
		errs = append(errs, p.closers[i]())
	}
	p.closers = nil
	return errors.Join(errs...)
}

// tracefs returns where tracefs is mounted, mounting it (in the private
// namespace) if it is nowhere.
func tracefs() (string, error) {
	const dir = "/sys/kernel/tracing"
	if _, err := os.Stat(dir + "/events/block"); err == nil {
		return dir, nil
	}
	if err := unix.Mount("tracefs", dir, "tracefs", 0, ""); err != nil {
		return "", fmt.Errorf("mounting tracefs on %s: %w", dir, err)
	}
	if _, err := os.Stat(dir + "/events/block"); err != nil {
		return "", fmt.Errorf("the kernel has no block tracepoints: %w", err)
	}
	return dir, nil
}
