// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/store"
)

// Store is what a [Local] needs of an open store; *server.Server is one.
type Store interface {
	CreateSnapshot(tag block.Tag) (layout.Snapshot, error)
	DeleteSnapshot(tag block.Tag) error
	Snapshots() []store.SnapshotInfo
	Status() store.Status
	Sharing() ([]store.Sharing, error)
}

// Local manages a store that is open in this process. Its calls do not heed the
// end of their context: none of them can be broken off half-way.
type Local struct{ Store Store }

var _ Manager = Local{}

// Do implements [Manager].
func (l Local) Do(_ context.Context, r Request) (Response, error) {
	if err := r.check(); err != nil {
		return Response{}, err
	}
	return l.do(r)
}

func (l Local) do(r Request) (a Response, err error) {
	switch r.Verb {
	case VerbCreate:
		a.Snapshot, err = l.create(r)
	case VerbDelete:
		err = l.Store.DeleteSnapshot(r.Snapshot.Tag)
	case VerbList:
		for _, s := range l.Store.Snapshots() {
			a.List = append(a.List, describe(s))
		}
	case VerbStatus:
		status := describeStatus(l.Store.Status())
		a.Status = &status
	case VerbSharing:
		a.Sharing, err = l.sharing()
	}
	return a, err
}

func (l Local) create(r Request) (*Snapshot, error) {
	s, err := l.Store.CreateSnapshot(r.Snapshot.Tag)
	if err != nil {
		return nil, err
	}
	made := describe(store.SnapshotInfo{Snapshot: s})
	return &made, nil
}

func (l Local) sharing() ([]Sharing, error) {
	rows, err := l.Store.Sharing()
	if err != nil {
		return nil, err
	}
	list := make([]Sharing, len(rows))
	for i := range rows {
		list[i] = Sharing{Tag: rows[i].Tag, Chunks: rows[i].Chunks[:], Total: rows[i].Total}
	}
	return list, nil
}
