// SPDX-License-Identifier: Apache-2.0

package store

import (
	"slices"

	"zumastor.org/zumastor/engine/wire"
)

// takeIdle takes back what the clients of snapshots have leased and not used, and
// reports whether that was anything: it may be leased again after a checkpoint. A
// client that does not answer keeps what it has. The caller must keep no client
// waiting; it holds dropping, and not admin.
func (s *Store) takeIdle() (any bool) {
	s.admin.Lock()
	defer s.admin.Unlock()
	for _, o := range s.lessees() {
		returned, err := s.takeLeases(o)
		if err != nil && s.opts.Logger != nil {
			s.opts.Logger.Warn("a client does not give back the slots that it does not use", "snapshot", o.snap.Tag, "error", err)
		}
		any = any || returned
	}
	return any
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
