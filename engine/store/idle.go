// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"slices"

	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/wire"
)

// takeIdle takes back what the clients of snapshots have leased and not used and, for
// one of them and if that was nothing, what the origin's has. It reports whether there
// was any: it may be leased again after a checkpoint. A client that does not answer
// keeps what it has. The caller must keep no client waiting; it holds dropping, and not
// admin.
func (s *Store) takeIdle(h wire.Handle) (any bool) {
	s.admin.Lock()
	defer s.admin.Unlock()
	for _, o := range s.lessees() {
		returned, err := s.takeLeases(o)
		if err != nil && s.opts.Logger != nil {
			s.opts.Logger.Warn("a client does not give back the slots that it does not use", "snapshot", o.snap.Tag, "error", err)
		}
		any = any || returned
	}
	if any || h == 0 {
		return any
	}
	any, err := s.takeIdleOrigin()
	if err != nil && s.opts.Logger != nil {
		s.opts.Logger.Warn("the origin's client does not give back the slots that it does not use", "error", err)
	}
	return any
}

// takeIdleOrigin takes back what the origin's client has leased and not used, where no
// slot is free. While the origin is being restored it is not idle.
func (s *Store) takeIdleOrigin() (any bool, err error) {
	s.mu.Lock()
	client := s.client
	none := len(s.originLeases()) == 0 || s.slots.Leasable() > 0 || s.restoring != 0
	s.mu.Unlock()
	if client == nil || none {
		return false, nil
	}
	return s.takeOriginLeases(client)
}

// takeOriginLeases takes the leases of the origin's client back, while it writes nothing,
// and reports whether it had any. The caller holds admin.
func (s *Store) takeOriginLeases(client wire.Client) (any bool, err error) {
	err = client.Quiesce(func() (wire.State, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		any = len(s.originLeases()) > 0
		s.takeBack()
		if s.headless = s.sb.Placement == layout.PlacementInline; s.headless {
			s.position.Place = 0
		}
		state := s.state()
		state.Revoked = true
		return state, nil
	})
	if err != nil {
		err = fmt.Errorf("taking back the origin's leases: %w", err)
	}
	return any, err
}

// lessees returns the clients of snapshots that have leases, those opened first at
// the front.
func (s *Store) lessees() (list []*opened) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.handles {
		if len(o.leases) > 0 {
			list = append(list, o)
		}
	}
	slices.SortFunc(list, func(a, b *opened) int { return int(a.handle) - int(b.handle) })
	return list
}

// takeLeases takes the leases of a snapshot's client back, while it writes nothing.
func (s *Store) takeLeases(o *opened) (any bool, err error) {
	err = o.client.Quiesce(func() (wire.SnapshotState, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		any = len(o.leases) > 0
		s.returnLeases(o)
		state := s.snapshotState(o.snap, o.write)
		state.Revoked = true
		return state, nil
	})
	return any, err
}
