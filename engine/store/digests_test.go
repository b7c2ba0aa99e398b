// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/digest"
	"zumastor.org/zumastor/engine/metamorphic"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/wire"
)

// leaves is what a snapshot has, by leaf; zeroes are left out.
type leaves map[uint64]digest.Sum

// digested is a store of which digests are taken, and what they must say. The content
// is made up: that it changes from snapshot to snapshot is all that matters.
type digested struct {
	t    *testing.T
	r    *metamorphic.Runner
	rng  *rand.Rand
	now  leaves
	was  map[block.Tag]leaves
	gens map[block.Tag]block.Generation
	had  map[block.Tag]bool          // whose digest is whole
	all  map[block.Generation]leaves // of deleted snapshots too
}

func (d *digested) store() *store.Store { return d.r.Rig.Server.Store }

// snapshot changes some leaves, and takes a snapshot.
func (d *digested) snapshot(tag block.Tag) {
	for range d.rng.IntN(6) {
		i := d.rng.Uint64N(1 << d.rng.IntN(19))
		if old := slices.Sorted(maps.Keys(d.now)); len(old) > 0 && d.rng.IntN(2) == 0 {
			i = old[d.rng.IntN(len(old))]
		}
		if d.rng.IntN(3) == 0 {
			delete(d.now, i)
		} else {
			d.now[i] = digest.Sum{byte(d.rng.IntN(3)), 1} // few, so that old sums come back
		}
	}
	require.NoError(d.t, d.r.Do(metamorphic.Op{Kind: metamorphic.Snapshot, Tag: tag}))
	s, err := d.store().Digest(wire.SnapshotRef{Tag: tag})
	require.NoError(d.t, err)
	require.False(d.t, s.Known)
	d.was[tag], d.gens[tag] = maps.Clone(d.now), s.Snapshot.Generation
	d.all[s.Snapshot.Generation] = d.was[tag]
}

// base is the tree that the store says to begin with.
type base struct {
	s *store.Store
	g block.Generation
}

func (b base) Children(n digest.Node, sums *[digest.Fanout]digest.Sum) error {
	return b.s.DigestChildren(b.g, n, sums)
}

// take takes the digest of a snapshot, and gives up after some sums if it is to be cut.
func (d *digested) take(tag block.Tag, cut int) {
	snap, from, err := d.store().BeginDigest(wire.SnapshotRef{Tag: tag})
	require.NoError(d.t, err)
	content, changed := d.was[tag], map[uint64]bool{}
	var tree digest.Base = digest.Nothing{}
	if from == 0 {
		for i := range content {
			changed[i] = true
		}
	} else {
		for g, content := range d.all {
			if g >= from && g <= snap.Generation { // all that changed since, and came back
				for i := range content {
					changed[i] = true
				}
			}
		}
		tree = base{d.store(), from}
	}
	var batch []store.DigestNode
	u := digest.NewUpdate(tree, func(n digest.Node, s digest.Sum) error {
		batch = append(batch, store.DigestNode{Node: n, Sum: s})
		return nil
	})
	for _, i := range slices.Sorted(maps.Keys(changed)) {
		s, ok := content[i]
		if !ok {
			s = digest.Zero(0)
		}
		require.NoError(d.t, u.Leaf(i, s))
	}
	_, err = u.Top()
	require.NoError(d.t, err)
	if cut > 0 && cut < len(batch) {
		batch = batch[:cut]
	} else {
		d.had[tag] = true
	}
	for len(batch) > 0 {
		n := min(len(batch), 1+d.rng.IntN(20))
		require.NoError(d.t, d.store().PutDigests(snap.Generation, batch[:n]))
		batch = batch[n:]
	}
	d.store().EndDigest(snap.Generation)
}

// verify compares all digests with what they must say, node by node.
func (d *digested) verify() {
	for tag, content := range d.was {
		got, err := d.store().Digest(wire.SnapshotRef{Tag: tag})
		require.NoError(d.t, err)
		require.Equal(d.t, d.had[tag], got.Known, "snapshot %d", tag)
		if !got.Known {
			continue
		}
		u := digest.NewUpdate(digest.Nothing{}, func(n digest.Node, s digest.Sum) error {
			if n == digest.Top {
				return nil
			}
			var sums [digest.Fanout]digest.Sum
			parent, i := n.Parent()
			require.NoError(d.t, d.store().DigestChildren(d.gens[tag], parent, &sums))
			require.Equal(d.t, s, sums[i], "snapshot %d, %v", tag, n)
			return nil
		})
		for _, i := range slices.Sorted(maps.Keys(content)) {
			require.NoError(d.t, u.Leaf(i, content[i]))
		}
		top, err := u.Top()
		require.NoError(d.t, err)
		require.Equal(d.t, digest.Of(got.Snapshot.Size, top), got.Sum)
	}
}

// TestDigests takes digests of snapshots in any order, gives some up, deletes snapshots and
// has the store recover.
func TestDigests(t *testing.T) {
	for seed := range uint64(6) {
		d := &digested{
			t: t, r: newRunner(t, options(4<<10, 4000), rig.Wrappers{}), rng: rand.New(rand.NewPCG(seed, 5)),
			now: leaves{}, was: map[block.Tag]leaves{}, gens: map[block.Tag]block.Generation{}, had: map[block.Tag]bool{},
			all: map[block.Generation]leaves{},
		}
		for tag := block.Tag(1); tag <= 30; tag++ {
			d.snapshot(tag)
			tags := slices.Sorted(maps.Keys(d.was))
			any := func() block.Tag { return tags[d.rng.IntN(len(tags))] }
			switch d.rng.IntN(8) {
			case 0:
				gone := any()
				require.NoError(t, d.r.Do(metamorphic.Op{Kind: metamorphic.Delete, Tag: gone}))
				delete(d.was, gone)
				delete(d.had, gone)
				delete(d.gens, gone)
			case 1:
				d.take(any(), 1+d.rng.IntN(9))
			case 2:
				require.NoError(t, d.r.Rig.Maintain())
			case 3:
				require.NoError(t, d.store().Checkpoint())
				require.NoError(t, d.r.Do(metamorphic.Op{Kind: metamorphic.Reopen}))
			default:
				d.take(any(), 0)
			}
			if d.rng.IntN(4) == 0 {
				d.verify()
			}
		}
		d.verify()
		before := d.store().Status()
		for tag := range d.was {
			require.NoError(t, d.r.Do(metamorphic.Op{Kind: metamorphic.Delete, Tag: tag}))
		}
		require.NoError(t, d.r.Rig.Maintain())
		require.NoError(t, d.store().Checkpoint())
		after := d.store().Status()
		require.Less(t, after.Digests, before.Digests)
		require.Zero(t, after.Digests, "nothing is kept of digests that nobody can ask for")
		require.NoError(t, d.r.Do(metamorphic.Op{Kind: metamorphic.Reopen}))
	}
}

func TestDigestsOfOthers(t *testing.T) {
	r := newRunner(t, options(4<<10, 4000), rig.Wrappers{})
	s := r.Rig.Server.Store
	require.NoError(t, r.Do(metamorphic.Op{Kind: metamorphic.Snapshot, Tag: 1}))
	snap, from, err := s.BeginDigest(wire.SnapshotRef{Tag: 1})
	require.NoError(t, err)
	require.Zero(t, from)
	top := []store.DigestNode{{Node: digest.Top, Sum: digest.Zero(digest.Height)}}
	s.EndDigest(snap.Generation)
	require.ErrorIs(t, s.PutDigests(snap.Generation, top), store.ErrNoDigest, "it was ended")
	var sums [digest.Fanout]digest.Sum
	require.ErrorIs(t, s.DigestChildren(snap.Generation, digest.Top, &sums), store.ErrNoDigest)

	_, _, err = s.BeginDigest(wire.SnapshotRef{Tag: 1})
	require.NoError(t, err)
	require.NoError(t, s.PutDigests(snap.Generation, top))
	got, err := s.Digest(wire.SnapshotRef{Tag: 1})
	require.NoError(t, err)
	require.True(t, got.Known)
	require.Equal(t, digest.Of(snap.Size, digest.Zero(digest.Height)), got.Sum)

	require.NoError(t, s.DigestChildren(snap.Generation, digest.Top, &sums))
	require.Equal(t, digest.Zero(digest.Height-1), sums[255])
	require.Error(t, s.DigestChildren(snap.Generation, digest.Node{}, &sums), "a leaf has no children")

	// What is written to a snapshot is not in its digest.
	require.NoError(t, r.Do(metamorphic.Op{Kind: metamorphic.WriteSnap, Tag: 1, Len: block.SectorSize, Seed: 1}))
	_, err = s.Digest(wire.SnapshotRef{Tag: 1})
	require.ErrorIs(t, err, store.ErrWritten)
	_, _, err = s.BeginDigest(wire.SnapshotRef{Tag: 1})
	require.ErrorIs(t, err, store.ErrWritten)
}
