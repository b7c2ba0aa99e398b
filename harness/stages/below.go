// SPDX-License-Identifier: Apache-2.0

package stages

import (
	"slices"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/journal"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/wire"
)

// Origin stands before the origin's device.
func (r *Recorder) Origin(d device.Device) device.Device { return &below{d, r, origin} }

// Store stands before the store's device.
func (r *Recorder) Store(d device.Device) device.Device { return &below{d, r, store} }

// below is a device that does the work of requests.
type below struct {
	device.Device
	r    *Recorder
	role role
}

var (
	_ device.Doer      = (*below)(nil)
	_ device.Zeroer    = (*below)(nil)
	_ device.Refresher = (*below)(nil)
)

// count adds an operation to the traffic.
func (d *below) count(k kind, off, n int64) {
	switch {
	case d.role == store && k != flushes && off < d.r.data:
		d.r.traffic.add(metadata, k, off+d.r.o.Origin, n)
	case d.role == store:
		d.r.traffic.add(store, k, off+d.r.o.Origin, n)
	default:
		d.r.traffic.add(d.role, k, off, n)
	}
}

// ReadAt reads for a request, or metadata.
func (d *below) ReadAt(p []byte, off int64) (int, error) {
	if !d.r.on.Load() {
		return d.Device.ReadAt(p, off)
	}
	d.count(reads, off, int64(len(p)))
	var n int
	err := d.timed(d.r.find(p), func() (err error) {
		n, err = d.Device.ReadAt(p, off)
		return err
	})
	return n, err
}

// WriteAt writes for a request, a copy, or metadata.
func (d *below) WriteAt(p []byte, off int64) (int, error) {
	if !d.r.on.Load() {
		return d.Device.WriteAt(p, off)
	}
	d.count(writes, off, int64(len(p)))
	s := d.r.find(p)
	if s == nil && d.role == store && off+int64(len(p)) > d.r.data {
		began := d.r.o.Now()
		n, err := d.Device.WriteAt(p, off)
		d.r.wrote(span{began, d.r.o.Now()})
		d.idle(span{began, d.r.o.Now()})
		return n, err
	}
	var n int
	err := d.timed(s, func() (err error) {
		n, err = d.Device.WriteAt(p, off)
		return err
	})
	return n, err
}

// timed carries out an operation of a request that is looked at; s is nil if it is of
// none.
func (d *below) timed(s *slot, do func() error) error {
	if s == nil && !d.r.o.Virtual {
		return do()
	}
	began := d.r.o.Now()
	err := do()
	ended := d.r.o.Now()
	if err == nil {
		s.own(began, ended, d.role == store)
	}
	d.idle(span{began, ended})
	return err
}

// idle adds to what is between requests, on a virtual clock.
func (d *below) idle(s span) {
	if d.r.o.Virtual && d.r.active.Load() == 0 && s.end > s.begin {
		d.r.aside(between, stageBehind, s)
	}
}

// Do carries out a group: of a leader's reads, of the writes of a batch, or of requests.
func (d *below) Do(ops []device.Op) error {
	if !d.r.on.Load() || len(ops) == 0 {
		return device.Do(d.Device, ops)
	}
	data := false
	for _, op := range ops {
		k := reads
		if op.Kind == device.Write {
			k = writes
		}
		d.count(k, op.Off, int64(len(op.Data)))
		data = data || k == writes && op.Off+int64(len(op.Data)) > d.r.data
	}
	began := d.r.o.Now()
	err := device.Do(d.Device, ops)
	took := span{began, d.r.o.Now()}
	d.idle(took)
	if s := d.r.find(ops[0].Data); s != nil {
		if err == nil {
			s.own(took.begin, took.end, d.role == store)
		}
		return err
	}
	switch {
	case d.role == store && data:
		d.r.wrote(took)
	case d.role == origin && !slices.ContainsFunc(ops, func(op device.Op) bool { return op.Kind != device.Read }):
		d.r.read(ops[0].Off, took)
	}
	return err
}

func (d *below) Flush() error {
	if !d.r.on.Load() {
		return d.Device.Flush()
	}
	d.count(flushes, 0, 0)
	err := d.timed(nil, d.Device.Flush)
	if d.r.o.Bound && d.role == store {
		d.r.copied(d.r.o.Now())
	}
	return err
}

// WriteZeroes keeps the zeroing of the device below.
func (d *below) WriteZeroes(off, n int64) error {
	if !d.r.on.Load() {
		return device.WriteZeroes(d.Device, off, n)
	}
	return d.timed(nil, func() error { return device.WriteZeroes(d.Device, off, n) })
}

// Refresh keeps the changes of size of the device below.
func (d *below) Refresh() error { return device.Refresh(d.Device) }

// Journal stands before the journal of placements nvram and pmem.
func (r *Recorder) Journal(m journal.Medium) journal.Medium { return &medium{m, r} }

type medium struct {
	journal.Medium
	r *Recorder
}

func (m *medium) WriteAt(p []byte, off int64) (int, error) {
	if m.r.on.Load() {
		m.r.traffic.add(journalRole, writes, off, int64(len(p)))
	}
	return m.Medium.WriteAt(p, off)
}

func (m *medium) Persist(off, n int64) error {
	if m.r.on.Load() {
		m.r.traffic.add(journalRole, flushes, off, n)
	}
	return m.Medium.Persist(off, n)
}

// Server stands before the server, as volumes ask it.
func (r *Recorder) Server(s wire.Server) wire.Server { return &server{s, r} }

type server struct {
	wire.Server
	r *Recorder
}

func (s *server) Unsettled(first, end block.Chunk, dst []block.Chunk) ([]block.Chunk, error) {
	if !s.r.on.Load() {
		return s.Server.Unsettled(first, end, dst)
	}
	began := s.r.o.Now()
	dst, err := s.Server.Unsettled(first, end, dst)
	s.r.gathered(span{began, s.r.o.Now()}, false)
	return dst, err
}

func (s *server) Lease(want uint64) ([]layout.SlotRun, error) {
	if !s.r.on.Load() {
		return s.Server.Lease(want)
	}
	began := s.r.o.Now()
	runs, err := s.Server.Lease(want)
	s.r.gathered(span{began, s.r.o.Now()}, true)
	return runs, err
}

func (s *server) Report(b wire.Batch) (layout.Position, error) {
	if !s.r.on.Load() {
		return s.Server.Report(b)
	}
	began := s.r.o.Now()
	at, err := s.Server.Report(b)
	s.r.reported(b.Copies, span{began, s.r.o.Now()})
	return at, err
}
