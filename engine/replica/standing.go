// SPDX-License-Identifier: Apache-2.0

package replica

import (
	"context"
	"fmt"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/store"
)

// Standing says how far a volume is on the way to a newer state.
type Standing struct {
	Size     int64  // of the origin, bytes
	There    bool   // it has the newer state as a snapshot
	Newest   *Copy  // of the origin; nil: there is no snapshot
	Applying string // identity of the delta that is half applied to Newest; empty: of none
	Applied  int64  // offset up to which the origin durably holds what that makes; zero: nobody knows
	Restore  bool   // the origin is being restored
}

// Copy is a snapshot, and where it was made first.
type Copy struct {
	admin.Source
	Tag  block.Tag
	Name string
}

// Standing returns how far the volume is on the way to the state that to names. If it is
// there, it does not say any more that a delta is being applied to make it.
func (v Volume) Standing(ctx context.Context, to admin.Source) (Standing, error) {
	s, err := v.state(ctx)
	if err != nil {
		return Standing{}, err
	}
	st := Standing{Size: s.size, Restore: s.restore != nil}
	for i := range s.list {
		st.There = st.There || s.list[i].Parent == 0 && s.identity(&s.list[i]) == to
	}
	if st.There && s.marked != nil && s.marked != s.newest {
		if err := v.mark(ctx, s.marked, ""); err != nil {
			return st, err
		}
	}
	if s.newest != nil {
		st.Newest = &Copy{s.identity(s.newest), s.newest.Tag, s.newest.Name}
		st.Applying, st.Applied = s.newest.Applying, s.newest.Applied
	}
	return st, nil
}

// Applied notes durably, by the base of a delta that is being applied, up to which offset
// the origin holds what the delta makes. All before must be durable. The note goes with
// the one that the delta is being applied, and with the first step of a restore. It is an
// error if another delta is being applied, or none.
func (v Volume) Applied(ctx context.Context, base block.Tag, id string, durable int64) error {
	_, err := v.Manager.Do(ctx, admin.Request{
		Verb: admin.VerbChange, Snapshot: &admin.Ref{Tag: base}, Change: &admin.Change{Applying: &id, Applied: durable},
	})
	return err
}

// Find returns the newest snapshot of the origin that is the one that to names. The error
// wraps store.ErrNoSnapshot if none is.
func (v Volume) Find(ctx context.Context, to admin.Source) (*admin.Snapshot, error) {
	s, err := v.state(ctx)
	if err != nil {
		return nil, err
	}
	var found *admin.Snapshot
	for i := range s.list {
		if snap := &s.list[i]; snap.Parent == 0 && s.identity(snap) == to && (found == nil || snap.Generation > found.Generation) {
			found = snap
		}
	}
	if found == nil {
		return nil, fmt.Errorf("%w: none is generation %d of store %s", store.ErrNoSnapshot, to.Generation, to.Store)
	}
	return found, nil
}

// identity returns where a snapshot was made first.
func (s *state) identity(snap *admin.Snapshot) admin.Source {
	if snap.Source != nil {
		return *snap.Source
	}
	return admin.Source{Store: s.store, Generation: snap.Generation}
}
