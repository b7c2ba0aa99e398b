// SPDX-License-Identifier: Apache-2.0

package metamorphic

import (
	"sync"
	"sync/atomic"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/wire"
)

// What breaks an ordering rule, for the tests that must notice.

// inTurn does the ops of a vectored submission one by one, as the memory devices do
// below: what watches them counts on it.
func inTurn(d device.Device, ops []device.Op) error {
	var first error
	for _, op := range ops {
		do := d.ReadAt
		if op.Kind == device.Write {
			do = d.WriteAt
		}
		if _, err := do(op.Data, op.Off); first == nil {
			first = err
		}
	}
	return first
}

// liar is a device that says that it has flushed, and has not, from when it is told
// to lie on.
type liar struct {
	device.Device
	lies *atomic.Bool
}

func (l liar) Do(ops []device.Op) error { return inTurn(l, ops) }

func (l liar) Flush() error {
	if l.lies.Load() {
		return nil
	}
	return l.Device.Flush()
}

// loser is a device that loses one write, and says that it is done.
type loser struct {
	device.Device
	nth int
}

func (l *loser) Do(ops []device.Op) error { return inTurn(l, ops) }

func (l *loser) WriteAt(p []byte, off int64) (int, error) {
	if l.nth--; l.nth == 0 {
		return len(p), nil
	}
	return l.Device.WriteAt(p, off)
}

// spy is a server that notes the numbers of the batches that are reported.
type spy struct {
	wire.Server
	session wire.Session
	seen    map[layout.Identity]bool
	next    layout.Position
	again   []layout.Identity // numbers used twice
}

func (s *spy) Attach(c wire.Client) (*wire.Session, error) {
	got, err := s.Server.Attach(c)
	if err == nil {
		s.session, s.next = *got, got.Position
	}
	return got, err
}

func (s *spy) Report(b wire.Batch) (layout.Position, error) {
	id := layout.Identity{UUID: s.session.UUID, Epoch: s.session.Epoch, Seq: b.Position.Seq - 1}
	if s.seen[id] {
		s.again = append(s.again, id)
	}
	s.seen[id] = true
	s.next = b.Position
	return s.Server.Report(b)
}

// hasty is a server that leases the slots of descriptors again as soon as their
// batches are reported.
type hasty struct {
	wire.Server
	mu    sync.Mutex
	freed []layout.SlotRun
}

func (h *hasty) Report(b wire.Batch) (layout.Position, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.freed = append(h.freed, layout.SlotRun{First: b.Head, Len: 1})
	return h.Server.Report(b)
}

func (h *hasty) Lease(want uint64) ([]layout.SlotRun, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if runs := h.freed; len(runs) > 0 {
		h.freed = nil
		return runs, nil
	}
	return h.Server.Lease(want)
}

// halfLiar is a device that does not flush what was written to its control ring.
type halfLiar struct {
	device.Device
	last int64 // where the last write went
}

func (l *halfLiar) Do(ops []device.Op) error { return inTurn(l, ops) }

func (l *halfLiar) WriteAt(p []byte, off int64) (int, error) {
	l.last = off / block.PageSize
	return l.Device.WriteAt(p, off)
}

func (l *halfLiar) Flush() error {
	if l.last >= layout.Superblocks && l.last < layout.Superblocks+256 {
		return nil
	}
	return l.Device.Flush()
}

// impatient is a server whose client does not wait for the writes under way.
type impatient struct{ wire.Server }

func (s impatient) Attach(c wire.Client) (*wire.Session, error) {
	return s.Server.Attach(impatientClient{c})
}

type impatientClient struct{ wire.Client }

func (c impatientClient) Quiesce(change func() (wire.State, error)) error {
	state, err := change()
	c.Update(state)
	return err
}

// blocker is a device that holds its next write until it is let go.
type blocker struct {
	device.Device
	once    sync.Once
	blocked chan struct{}
	release chan struct{}
}

func (b *blocker) WriteAt(p []byte, off int64) (int, error) {
	b.once.Do(func() {
		close(b.blocked)
		<-b.release
	})
	return b.Device.WriteAt(p, off)
}

// forgetful is a server that answers a second Map as the first.
type forgetful struct {
	wire.Server
	first []wire.Mapping
}

func (s *forgetful) Map(h wire.Handle, first, end block.Chunk, dst []wire.Mapping) ([]wire.Mapping, error) {
	if s.first == nil {
		got, err := s.Server.Map(h, first, end, nil)
		s.first = got
		return append(dst, got...), err
	}
	return append(dst, s.first...), nil
}

// overtaken is an origin that is written to just before it is read.
type overtaken struct {
	device.Device
	write func()
}

func (o overtaken) ReadAt(p []byte, off int64) (int, error) {
	o.write()
	return o.Device.ReadAt(p, off)
}

// stale is a server whose client keeps the first generation with a snapshot.
type stale struct{ wire.Server }

func (s stale) Attach(c wire.Client) (*wire.Session, error) {
	return s.Server.Attach(&staleClient{Client: c})
}

type staleClient struct {
	wire.Client
	first wire.State
}

func (c *staleClient) Quiesce(change func() (wire.State, error)) error {
	return c.Client.Quiesce(func() (wire.State, error) {
		state, err := change()
		if c.first.Generation == 0 {
			c.first = state
		}
		return c.first, err
	})
}

// careless is a server that says that writes to a snapshot are durable, and has not
// noted where they are.
type careless struct{ wire.Server }

func (careless) SyncBranch(wire.Handle) error { return nil }

// deaf is a server whose clients of snapshots do not hear of changes.
type deaf struct{ wire.Server }

func (s deaf) OpenSnapshot(ref wire.SnapshotRef, write bool, _ wire.SnapshotClient) (*wire.SnapshotSession, error) {
	return s.Server.OpenSnapshot(ref, write, rig.Passive{})
}
