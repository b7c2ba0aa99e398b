// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/wire"
)

// remoteOrigin is an origin client at the other end of a connection.
type remoteOrigin struct{ *conn }

var _ wire.Restorer = remoteOrigin{}

// Restores implements wire.Restorer.
func (r remoteOrigin) Restores() bool {
	return r.features&wire.FeatureRestore != 0 || r.features&wire.FeatureHold != 0 && r.l.opts.Origin != nil
}

// Quiesce implements wire.Client. Where the connection ends before the client has
// heard of the new state, it holds its writes until it has resumed.
func (r remoteOrigin) Quiesce(change func() (wire.State, error)) error {
	zero := func(dst []byte) []byte { return wire.AppendNumbers(dst, 0) }
	if err := r.ask(wire.TypeQuiesce, r.l.opts.Quiet, zero); err != nil {
		return err
	}
	state, err := change()
	_ = r.send(wire.TypeState, 0, 0, func(dst []byte) []byte { return wire.AppendState(zero(dst), state) })
	if state.Restoring != 0 && r.features&wire.FeatureHold != 0 && r.features&wire.FeatureFit != 0 {
		// It is reverted when this returns: the answer says that the state was taken in.
		_ = r.ask(wire.TypeFit, r.l.opts.Quiet, func(dst []byte) []byte { return wire.AppendNumbers(dst, uint64(state.Size)) })
	}
	r.beginRestore(state)
	return err
}

// Update implements wire.Client.
func (r remoteOrigin) Update(s wire.State) {
	_ = r.send(wire.TypeUpdate, 0, 0, func(dst []byte) []byte { return wire.AppendState(dst, s) })
}

// Settle implements wire.Client.
func (r remoteOrigin) Settle(first, end block.Chunk) error {
	return r.ask(wire.TypeSettle, 0, func(dst []byte) []byte {
		return wire.AppendNumbers(dst, uint64(first), uint64(end))
	})
}

// remoteSnapshot is a snapshot's client at the other end of a connection.
type remoteSnapshot struct {
	*conn
	handle wire.Handle
	opened chan struct{} // closed when the client is about to be told of the handle
}

var _ wire.SnapshotClient = (*remoteSnapshot)(nil)

// Quiesce implements wire.SnapshotClient.
func (r *remoteSnapshot) Quiesce(change func() (wire.SnapshotState, error)) error {
	select {
	case <-r.opened:
	case <-r.done:
		return fmt.Errorf("client %s: %w: its connection has ended", r.name, wire.ErrAway)
	}
	handle := func(dst []byte) []byte { return wire.AppendNumbers(dst, uint64(r.handle)) }
	if err := r.ask(wire.TypeQuiesce, r.l.opts.Quiet, handle); err != nil {
		return err
	}
	state, err := change()
	_ = r.send(wire.TypeState, 0, 0, func(dst []byte) []byte { return wire.AppendSnapshotState(handle(dst), state) })
	return err
}
