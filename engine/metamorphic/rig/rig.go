// SPDX-License-Identifier: Apache-2.0

// Package rig puts a store of any placement, its origin and its server together
// on simulated devices that lose power at one instant.
//
// It owns the choice of devices for a placement, opening, closing, and the power
// cut; it does not own what is done with the volume (package metamorphic) or what
// must come of it (package model). Tests of the store, the data plane and the
// placements call it. A Rig belongs to one goroutine; its volume is safe for
// concurrent use. Errors are those of the layers beneath.
package rig

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/journal"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/server"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
	"zumastor.org/zumastor/engine/wire"
	"zumastor.org/zumastor/nvramsim"
)

// Names of a machine's parts.
const (
	Origin  = "origin"
	Store   = "store"
	Meta    = "meta"
	Journal = "journal"
)

// Options say what to build. Sizes are in bytes.
type Options struct {
	OriginSize  int64
	ChunkSize   int
	Placement   layout.Placement
	Separate    bool // the metadata has a device of its own
	StoreSize   int64
	MetaSize    int64 // of a separate metadata device
	JournalSize int64 // of an NVRAM or persistent memory

	ClientWait time.Duration // see store.Options
	// Policy is the name of what a full store does. If it is empty, writes fail, so
	// that a test which says nothing loses no snapshot.
	Policy string
	// Failing says what a store whose devices take no writes does. By default, unlike
	// that of the store, writes fail: a rig has one caller.
	Failing Failing

	CacheBytes, CheckpointBytes, StoreLeaseBytes     int64 // see store.Options
	BatchBytes, AheadBytes, LeaseBytes, SettledBytes int64 // see volume.Options
	Background                                       bool  // the server works by itself
	Unreadable                                       volume.UnreadablePolicy
}

// Failing is a policy of a store whose devices fail.
type Failing uint8

// The policies.
const (
	Fails Failing = iota
	Holds
	LetsGo
)

// Wrappers put something between a rig's layers. A nil field puts nothing.
type Wrappers struct {
	Device func(name string, d device.Device) device.Device
	Medium func(m journal.Medium) journal.Medium
	Server func(s wire.Server) wire.Server // as the volumes see it
}

// Rig is a volume with its store on a machine. Server and Volume are nil while it
// is closed.
type Rig struct {
	Options
	Wrappers
	Machine *memdev.Machine
	Origin  device.Device // as the volumes see it
	Devices placement.Devices
	Server  *server.Server
	Volume  *volume.Origin
	seen    wire.Server // by the volumes
	now     atomic.Int64
}

// New builds a machine, formats the store and opens it.
func New(o Options, w Wrappers) (*Rig, error) {
	m := memdev.NewMachine()
	m.NewVolatile(Origin, o.OriginSize)
	m.NewVolatile(Store, o.StoreSize)
	if o.Separate {
		m.NewVolatile(Meta, o.MetaSize)
	}
	switch o.Placement {
	case layout.PlacementNVRAM:
		m.New(Journal, o.JournalSize)
	case layout.PlacementPMem:
		nvramsim.NewPMem(m, Journal, new(nvramsim.Clock), o.JournalSize, nvramsim.PMemParams{})
	}
	r := &Rig{Options: o, Wrappers: w, Machine: m}
	r.connect()
	policy, err := layout.ParsePolicy(cmp.Or(o.Policy, layout.PolicyFailWrites.String()))
	if err != nil {
		return nil, err
	}
	_, err = store.Format(r.Devices, store.FormatOptions{
		OriginSize: o.OriginSize, ChunkSize: o.ChunkSize, Placement: o.Placement, JournalSize: o.JournalSize,
		UUID: layout.UUID{1}, Policy: policy,
	})
	if err != nil {
		return nil, fmt.Errorf("formatting: %w", err)
	}
	return r, r.Open()
}

// connect names the machine's parts as the engine wants them.
func (r *Rig) connect() {
	r.Origin = r.device(Origin)
	r.Devices = placement.Devices{Store: r.device(Store)}
	if r.Separate {
		r.Devices.Meta = r.device(Meta)
	}
	switch r.Placement {
	case layout.PlacementNVRAM:
		r.Devices.Journal = journal.OnDevice{Device: r.device(Journal)}
	case layout.PlacementPMem:
		r.Devices.Journal = r.Machine.Part(Journal).(device.Region)
	}
	if r.Devices.Journal != nil && r.Medium != nil {
		r.Devices.Journal = r.Medium(r.Devices.Journal)
	}
}

func (r *Rig) device(name string) device.Device {
	d := r.Machine.Device(name)
	if r.Device == nil {
		return d
	}
	return r.Device(name, d)
}

// Open opens the store, which recovers it if need be, and the volume.
func (r *Rig) Open() (err error) {
	r.Server, err = server.Open(r.Devices, server.Options{
		Manual: !r.Background,
		Store: store.Options{
			CacheBytes: r.CacheBytes, CheckpointBytes: r.CheckpointBytes, LeaseBytes: r.StoreLeaseBytes, Now: r.tick, ClientWait: r.ClientWait,
			OnFailure: [...]store.FailurePolicy{Fails: store.FailWrites, Holds: store.HoldWrites, LetsGo: store.LetGo}[r.Failing],
			Retry:     time.Millisecond,
		},
	})
	if err != nil {
		return fmt.Errorf("opening the store: %w", err)
	}
	r.seen = r.Server
	if r.Wrappers.Server != nil {
		r.seen = r.Wrappers.Server(r.Server)
	}
	r.Volume, err = volume.OpenOrigin(r.seen, r.Origin, r.Devices, volume.Options{
		BatchBytes: r.BatchBytes, AheadBytes: r.AheadBytes, LeaseBytes: r.LeaseBytes, SettledBytes: r.SettledBytes,
		Manual: !r.Background, Unreadable: r.Unreadable,
	})
	if err != nil {
		return fmt.Errorf("opening the volume: %w", err)
	}
	return nil
}

// tick is a clock that goes on by a nanosecond whenever it is read.
func (r *Rig) tick() int64 { return r.now.Add(1) }

// Close closes volume and store in order.
func (r *Rig) Close() error {
	err := r.Volume.Close()
	if cerr := r.Server.Close(); err == nil {
		err = cerr
	}
	r.Volume, r.Server = nil, nil
	return err
}

// Abandon ends the server of a rig that is of no more use, whatever state it is
// in. Its devices may be written to.
func (r *Rig) Abandon() {
	if r.Server == nil {
		return
	}
	if r.Volume != nil {
		_ = r.Volume.Close()
	}
	_ = r.Server.Close()
	r.Volume, r.Server = nil, nil
}

// Crash returns the rig as a power cut at this instant leaves it, closed. The rig
// itself goes on unharmed.
func (r *Rig) Crash(rng *rand.Rand, fate memdev.Fate) *Rig {
	to := &Rig{Options: r.Options, Wrappers: r.Wrappers, Machine: r.Machine.Crash(rng, fate)}
	to.now.Store(r.now.Load())
	to.connect()
	return to
}

// Flushed returns the rig after a power cut that lost nothing, closed, and without
// wrappers: as it is when its devices are taken to a healthy machine.
func (r *Rig) Flushed() *Rig {
	fate := memdev.Fate{Keep: 1}
	to := &Rig{Options: r.Options, Machine: r.Machine.Crash(rand.New(rand.NewPCG(0, 0)), fate)}
	to.now.Store(r.now.Load())
	to.connect()
	return to
}

// Source says where the rig's snapshots are read.
func (r *Rig) Source() volume.SnapshotSource {
	return volume.SnapshotSource{
		Server: r.seen, Origin: r.Origin, Store: r.Devices,
		ChunkSize: r.Server.Geometry().ChunkSize(), DataOffset: r.Server.DataOffset(),
	}
}

// ReadOrigin reads the whole origin.
func (r *Rig) ReadOrigin() ([]byte, error) {
	p := make([]byte, r.Volume.Size())
	_, err := r.Volume.ReadAt(p, 0)
	return p, err
}

// ReadSnapshot reads n bytes at off of a snapshot.
func (r *Rig) ReadSnapshot(tag block.Tag, off, n int64) ([]byte, error) {
	s, err := volume.OpenSnapshot(r.Source(), tag)
	if err != nil {
		return nil, err
	}
	p := make([]byte, n)
	_, err = s.ReadAt(p, off)
	if cerr := s.Close(); err == nil {
		err = cerr
	}
	return p, err
}

// Map returns where the chunks [first, end) of a snapshot are.
func (r *Rig) Map(tag block.Tag, first, end block.Chunk) ([]wire.Mapping, error) {
	s, err := r.Server.OpenSnapshot(wire.SnapshotRef{Tag: tag}, false, Passive{})
	if err != nil {
		return nil, err
	}
	list, err := r.Server.Map(s.Handle, first, end, nil)
	return list, errors.Join(err, r.Server.CloseSnapshot(s.Handle))
}

// Passive is a snapshot's client that has nothing to quiesce.
type Passive struct{}

// Quiesce implements wire.SnapshotClient.
func (Passive) Quiesce(change func() (wire.SnapshotState, error)) error {
	_, err := change()
	return err
}

// Live returns the tags of the live snapshots, oldest first.
func (r *Rig) Live() []block.Tag {
	var tags []block.Tag
	for _, s := range r.Server.Snapshots() {
		tags = append(tags, s.Tag)
	}
	return tags
}

// Maintain does all the background work that is due.
func (r *Rig) Maintain() error {
	for {
		if more, err := r.Server.Maintain(); err != nil || !more {
			return err
		}
	}
}
