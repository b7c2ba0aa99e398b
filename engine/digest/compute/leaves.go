// SPDX-License-Identifier: Apache-2.0

package compute

import (
	"context"
	"fmt"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/digest"
	"zumastor.org/zumastor/engine/store"
)

// leafRange is leaves from first up to before end.
type leafRange struct{ first, end uint64 }

// leafSet is ranges of leaves, ascending, which do not overlap.
type leafSet struct{ list []leafRange }

// add adds a range that begins in or after the last one.
func (s *leafSet) add(first, end uint64) {
	if n := len(s.list); n > 0 && first <= s.list[n-1].end {
		s.list[n-1].end = max(s.list[n-1].end, end)
		return
	}
	if first < end {
		s.list = append(s.list, leafRange{first, end})
	}
}

// changes adds the leaves in which something changed from one generation to another. Tags
// name the two snapshots, of which either may have gone, and another have its tag.
func (s *leafSet) changes(ctx context.Context, m admin.Manager, q admin.ChangeQuery, from, to block.Generation) error {
	for {
		r, err := m.Do(ctx, admin.Request{Verb: admin.VerbChanges, Changes: &q})
		if err != nil {
			return err
		}
		if a, b := r.Changes.From, r.Changes.To; a == nil || b == nil || a.Generation != from || b.Generation != to {
			return fmt.Errorf("what changed from snapshot %d to %d cannot be known any more: %w", q.From.Tag, q.To.Tag, store.ErrNoDigest)
		}
		chunk := uint64(r.Changes.ChunkSize)
		for _, run := range r.Changes.Runs {
			s.add(run[0]*chunk/digest.LeafSize, ((run[0]+run[1])*chunk+digest.LeafSize-1)/digest.LeafSize)
		}
		if r.Changes.Next <= q.First {
			return nil
		}
		q.First = r.Changes.Next
	}
}

// leavesSince returns what is to be read for a digest that was begun, and what is put as
// zeroes because it is beyond the end: an older, larger state may have left sums there.
func leavesSince(ctx context.Context, m admin.Manager, d *admin.Digest, ref admin.Ref) ([]leafRange, error) {
	var set leafSet
	if d.Base == nil {
		set.add(0, digest.Leaves(d.Size))
	} else if err := set.changes(ctx, m, admin.ChangeQuery{From: &admin.Ref{Tag: d.Base.Tag}, To: &ref}, d.Base.Generation, d.Generation); err != nil {
		return nil, err
	} else if d.Size < d.Base.Size { // the last leaf has less; a larger one's end is among the changes
		set.add(uint64(d.Size)/digest.LeafSize, digest.Leaves(d.Base.Size))
	}
	set.add(digest.Leaves(d.Size), d.Leaves)
	return set.list, nil
}
