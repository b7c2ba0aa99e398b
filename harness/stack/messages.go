// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"sync/atomic"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/wire"
)

// MessageMeter counts what the volumes of a stack ask its server: each call is a
// message and its answer when the server is in another process. The zero value is
// ready. It is safe for concurrent use.
type MessageMeter struct{ n atomic.Int64 }

// Count returns how many messages were sent.
func (m *MessageMeter) Count() int64 { return m.n.Load() }

// counted is a server whose messages of the data path are counted.
type counted struct {
	wire.Server
	meter *MessageMeter
}

func (s *counted) Lease(want uint64) ([]layout.SlotRun, error) {
	s.meter.n.Add(1)
	return s.Server.Lease(want)
}

func (s *counted) Report(b wire.Batch) (layout.Position, error) {
	s.meter.n.Add(1)
	return s.Server.Report(b)
}

func (s *counted) Checkpoint() (layout.Position, error) {
	s.meter.n.Add(1)
	return s.Server.Checkpoint()
}

func (s *counted) Unsettled(first, end block.Chunk, dst []block.Chunk) ([]block.Chunk, error) {
	s.meter.n.Add(1)
	return s.Server.Unsettled(first, end, dst)
}

func (s *counted) OpenSnapshot(ref wire.SnapshotRef, write bool, c wire.SnapshotClient) (*wire.SnapshotSession, error) {
	s.meter.n.Add(1)
	return s.Server.OpenSnapshot(ref, write, c)
}

func (s *counted) CloseSnapshot(h wire.Handle) error {
	s.meter.n.Add(1)
	return s.Server.CloseSnapshot(h)
}

func (s *counted) Map(h wire.Handle, first, end block.Chunk, dst []wire.Mapping) ([]wire.Mapping, error) {
	s.meter.n.Add(1)
	return s.Server.Map(h, first, end, dst)
}

func (s *counted) LeaseBranch(h wire.Handle, want uint64) ([]layout.SlotRun, error) {
	s.meter.n.Add(1)
	return s.Server.LeaseBranch(h, want)
}

func (s *counted) ReportBranch(h wire.Handle, g block.Generation, copies []layout.Copy) error {
	s.meter.n.Add(1)
	return s.Server.ReportBranch(h, g, copies)
}

func (s *counted) SyncBranch(h wire.Handle) error {
	s.meter.n.Add(1)
	return s.Server.SyncBranch(h)
}
