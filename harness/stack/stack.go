// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/server"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
	"zumastor.org/zumastor/engine/wire"
	"zumastor.org/zumastor/harness/spec"
	"zumastor.org/zumastor/harness/stages"
)

// Config says which stack to build.
type Config struct {
	Variant   string // spec.Raw, spec.CopyBound or a placement
	ChunkSize int64  // bytes; unused by raw
	Origin    int64  // how much of the bed's origin it has, bytes
	StoreOff  int64  // where on the bed its store begins, bytes; unless it is a share
	StoreSize int64
	Share     Share // of the room for stores, which its store is
	// CacheBytes bounds the metadata cache; zero means the engine's default.
	CacheBytes int64
	// Meter, if not nil, counts the time that flushes take.
	Meter *FlushMeter
	// Messages, if not nil, counts what the volumes ask the server.
	Messages *MessageMeter
	// Through, if not nil, returns what stands before the origin and the store.
	Through func(device.Device) device.Device
	// Account has the stack find out where the time and the traffic of requests go: see
	// [Stack.Look].
	Account bool
}

// Stack is one variant, ready for a workload.
type Stack struct {
	Config
	bed     *Bed
	origin  device.Device // without snapshots
	devs    placement.Devices
	bound   *CopyBound
	server  *server.Server
	volume  *volume.Origin
	look    *stages.Recorder // nil without Account
	closers []func() error
}

// Build builds a stack on the bed. What was at its store's place is lost.
func (b *Bed) Build(c Config) (*Stack, error) {
	s := &Stack{Config: c, bed: b}
	if err := s.build(); err != nil {
		return nil, fmt.Errorf("building %s: %w", c.Variant, errors.Join(err, s.Close()))
	}
	return s, nil
}

func (s *Stack) build() error {
	var err error
	if s.origin, err = cut(s.bed.origin, 0, s.Origin); err != nil {
		return err
	}
	if s.Variant == spec.Raw {
		s.openLook()
		return nil
	}
	if s.devs.Store, err = s.storeDevice(); err != nil {
		return err
	}
	if s.Variant == spec.CopyBound {
		s.openLook()
		s.bound = NewCopyBound(s.origin, s.devs.Store, s.ChunkSize)
		return nil
	}
	if s.Meter != nil {
		s.origin, s.devs.Store = s.Meter.wrap(s.origin), s.Meter.wrap(s.devs.Store)
	}
	if s.Through != nil {
		s.origin, s.devs.Store = s.Through(s.origin), s.Through(s.devs.Store)
	}
	s.openLook()
	return s.buildEngine()
}

// storeDevice returns the part of the bed that is the stack's store.
func (s *Stack) storeDevice() (device.Device, error) {
	if s.Share.Of > 0 {
		return share(s.bed.stores, s.Share, s.StoreSize)
	}
	return cut(s.bed.stores, s.StoreOff, s.StoreSize)
}

func (s *Stack) buildEngine() error {
	where, err := layout.ParsePlacement(s.Variant)
	if err != nil {
		return err
	}
	size, err := s.openJournal(where)
	if err != nil {
		return err
	}
	if s.look != nil && s.devs.Journal != nil {
		s.devs.Journal = s.look.Journal(s.devs.Journal)
	}
	_, err = store.Format(s.devs, store.FormatOptions{
		OriginSize: s.Origin, ChunkSize: int(s.ChunkSize), Placement: where, JournalSize: size,
	})
	if err != nil {
		return err
	}
	return s.openEngine()
}

// openEngine opens the store that is on the devices, and attaches the origin.
func (s *Stack) openEngine() (err error) {
	s.server, err = server.Open(s.devs, server.Options{
		Store: store.Options{CacheBytes: s.CacheBytes}, Manual: s.bed.Modelled(),
	})
	if err != nil {
		return err
	}
	s.onClose(s.server.Close)
	if s.look != nil {
		s.look.DataAt(s.server.DataOffset())
	}
	s.volume, err = volume.OpenOrigin(s.asked(), s.origin, s.devs, volume.Options{})
	if err != nil {
		return err
	}
	s.onClose(s.volume.Close)
	return nil
}

// asked returns the server as the volumes see it.
func (s *Stack) asked() wire.Server {
	var asked wire.Server = s.server
	if s.Messages != nil {
		asked = &counted{s.server, s.Messages}
	}
	if s.look != nil {
		asked = s.look.Server(asked)
	}
	return asked
}

func (s *Stack) onClose(f func() error) { s.closers = append(s.closers, f) }

// Device returns what the workload goes to.
func (s *Stack) Device() device.Device {
	var d device.Device = s.origin
	switch {
	case s.volume != nil:
		d = s.volume
	case s.bound != nil:
		d = s.bound
	}
	if s.look != nil {
		return s.look.Volume(d)
	}
	return d
}

// Now returns the bed's time.
func (s *Stack) Now() time.Duration { return s.bed.Now() }

// Modelled reports whether time is virtual; background work is then done by
// Maintain only.
func (s *Stack) Modelled() bool { return s.bed.Modelled() }

// Bound reports whether the stack is a CopyBound, which wants whole groups of
// ops.
func (s *Stack) Bound() bool { return s.bound != nil }

// Snapshot makes a snapshot: all chunks need copying again. On the bare origin
// it does nothing.
func (s *Stack) Snapshot(tag block.Tag) error {
	switch {
	case s.bound != nil:
		s.bound.Snapshot()
		return s.origin.Flush()
	case s.server != nil:
		_, err := s.server.CreateSnapshot(tag)
		return err
	}
	return nil
}

// Delete deletes a snapshot. What only it needed is freed in the background.
func (s *Stack) Delete(tag block.Tag) error { return s.server.DeleteSnapshot(tag) }

// Idle waits until what deleted snapshots held is freed.
func (s *Stack) Idle() error {
	if !s.bed.Modelled() {
		return AwaitIdle(s.server)
	}
	for s.server.Status().SnapshotsGoing > 0 {
		if _, err := s.server.Maintain(); err != nil {
			return err
		}
	}
	return nil
}

// AwaitIdle waits until what deleted snapshots of a server held is freed.
func AwaitIdle(s *server.Server) error {
	for {
		st := s.Status()
		if st.SnapshotsGoing == 0 {
			return nil
		}
		if st.Mode != store.ReadWrite {
			return fmt.Errorf("store is %v: %w", st.Mode, store.ErrFailed)
		}
		time.Sleep(100 * time.Microsecond)
	}
}

// Maintain does the background work that is due, on a modelled bed; on others it
// goes on by itself.
func (s *Stack) Maintain() error {
	if s.server == nil || !s.bed.Modelled() {
		return nil
	}
	for {
		if more, err := s.server.Maintain(); err != nil || !more {
			return err
		}
	}
}

// Checkpoint waits for a checkpoint of all that was reported.
func (s *Stack) Checkpoint() error {
	_, err := s.server.Checkpoint()
	return err
}

// Status returns the store's status. Only placements have one.
func (s *Stack) Status() store.Status { return s.server.Status() }

// Server returns the embedded server. Only placements have one.
func (s *Stack) Server() *server.Server { return s.server }

// Open opens a snapshot for reading, and for writing too if write is set; the caller
// closes it.
func (s *Stack) Open(tag block.Tag, write bool) (*volume.Snapshot, error) {
	return volume.OpenSnapshotRef(volume.SnapshotSource{
		Server: s.asked(), Origin: s.origin, Store: s.devs,
		ChunkSize: s.server.Geometry().ChunkSize(), DataOffset: s.server.DataOffset(),
	}, wire.SnapshotRef{Tag: tag}, write)
}

// Close takes the stack down, last built first.
func (s *Stack) Close() error {
	var errs []error
	for _, f := range slices.Backward(s.closers) {
		errs = append(errs, f())
	}
	s.closers = nil
	return errors.Join(errs...)
}

// Bare returns the bare origin device under the stack.
func (s *Stack) Bare() device.Device { return s.origin }
