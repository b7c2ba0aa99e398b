// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/store"
)

// ChangeQuery asks in which chunks To may differ from From.
type ChangeQuery struct {
	From  *Ref        `json:"from,omitempty"` // nil: nothing, so that all of To is listed
	To    *Ref        `json:"to,omitempty"`   // nil: the origin as it is now
	First block.Chunk `json:"first,omitempty"`
}

// ChangeList says in which chunks To may differ from From; see
// [store.Store.ChangeList].
type ChangeList struct {
	From      *Snapshot `json:"from,omitempty"` // nil: nothing
	To        *Snapshot `json:"to,omitempty"`   // nil: the origin
	FromSize  int64     `json:"from_size_bytes"`
	Size      int64     `json:"size_bytes"`
	ChunkSize int       `json:"chunk_size_bytes"`
	// Runs are the first MaxRuns, ascending: of each the first chunk and the number of
	// chunks.
	Runs [][2]uint64 `json:"runs"`
	Next block.Chunk `json:"next,omitempty"` // where a query for the rest is to begin; zero: there is none
}

// MaxRuns is how many runs of changed chunks are answered with.
const MaxRuns = 1 << 20

// changes answers a query.
func (l Local) changes(q *ChangeQuery) (*ChangeList, error) {
	ask := store.ChangeQuery{First: q.First, Limit: MaxRuns}
	if q.From != nil {
		from := q.From.wire()
		ask.From = &from
	}
	if q.To != nil {
		to := q.To.wire()
		ask.To = &to
	}
	found, err := l.Store.ChangeList(ask)
	if err != nil {
		return nil, err
	}
	list := &ChangeList{FromSize: found.FromSize, Size: found.Size, ChunkSize: found.ChunkSize, Runs: make([][2]uint64, len(found.Runs)), Next: found.Next}
	for i, r := range found.Runs {
		list.Runs[i] = [2]uint64{uint64(r.Chunk), r.Len}
	}
	if q.From != nil {
		from := describe(store.SnapshotInfo{Snapshot: found.From})
		list.From = &from
	}
	if q.To != nil {
		to := describe(store.SnapshotInfo{Snapshot: found.To})
		list.To = &to
	}
	return list, nil
}
