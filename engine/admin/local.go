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

// Create implements [Manager].
func (l Local) Create(_ context.Context, tag block.Tag) (Snapshot, error) {
	s, err := l.Store.CreateSnapshot(tag)
	if err != nil {
		return Snapshot{}, err
	}
	return describe(store.SnapshotInfo{Snapshot: s}), nil
}

// Delete implements [Manager].
func (l Local) Delete(_ context.Context, tag block.Tag) error { return l.Store.DeleteSnapshot(tag) }

// List implements [Manager].
func (l Local) List(context.Context) ([]Snapshot, error) {
	infos := l.Store.Snapshots()
	list := make([]Snapshot, len(infos))
	for i, s := range infos {
		list[i] = describe(s)
	}
	return list, nil
}

// Status implements [Manager].
func (l Local) Status(context.Context) (Status, error) { return describeStatus(l.Store.Status()), nil }

// Sharing implements [Manager].
func (l Local) Sharing(context.Context) ([]Sharing, error) {
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
