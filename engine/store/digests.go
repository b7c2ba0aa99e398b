// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"zumastor.org/zumastor/engine/alloc"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/btree"
	"zumastor.org/zumastor/engine/digest"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/wire"
)

// The tree of digests says of nodes what their sums are in some generations. An entry
// is about the content of the origin as the snapshot of its generation has it, and so
// is true for ever. The sum of a node in a snapshot whose digest is whole is that of the
// node's last entry not after the snapshot: every change of the tree keeps that so, for
// all whole digests.

var (
	// ErrNoDigest is wrapped when a snapshot's digest was not computed, or is not being.
	ErrNoDigest = errors.New("no digest of the snapshot")
	// ErrWritten is wrapped when a snapshot was written to: digests are of the origin's
	// snapshots as they were taken.
	ErrWritten = errors.New("snapshot was written to")
)

// digestShare is the part of the metadata pages that may be in use with digests, in
// percent: less than snapshots may take, so that digests never keep them from being made.
const digestShare = 40

// digests are the sums that the store keeps.
type digests struct {
	tree  *btree.Tree[layout.DigestSum]
	whole []block.Generation // of the digests that are whole, ascending, of deleted snapshots too
	begun map[block.Generation]bool
	sweep layout.DigestSum // where the sweep under way goes on
	going bool             // there is one
}

// Digest is a snapshot's digest.
type Digest struct {
	Snapshot layout.Snapshot
	Known    bool
	Sum      digest.Sum // of the whole; only if Known
}

// DigestNode is the sum of a node of a digest.
type DigestNode struct {
	Node digest.Node
	Sum  digest.Sum
}

// load learns which digests are whole.
func (d *digests) load() error {
	d.begun = make(map[block.Generation]bool)
	return d.tree.Ascend(layout.DigestSum{Level: digest.Height}, func(e layout.DigestSum) bool {
		d.whole = append(d.whole, e.Generation)
		return true
	})
}

// has reports whether the digest of generation g is whole.
func (d *digests) has(g block.Generation) bool {
	_, ok := slices.BinarySearch(d.whole, g)
	return ok
}

// digested returns how many snapshots that are there have a digest. The lock is held.
func (s *Store) digested() (n int) {
	for _, g := range s.digests.whole {
		if s.digestNeeded(g) {
			n++
		}
	}
	return n
}

// next returns the first whole digest after g.
func (d *digests) next(g block.Generation) (block.Generation, bool) {
	i, found := slices.BinarySearch(d.whole, g)
	if found {
		i++
	}
	if i == len(d.whole) {
		return 0, false
	}
	return d.whole[i], true
}

// at returns the node's last entry that is not after g.
func (d *digests) at(n digest.Node, g block.Generation) (e layout.DigestSum, ok bool, err error) {
	e, ok, err = d.tree.Floor(layout.DigestSum{Level: n.Level, Index: n.Index, Generation: g})
	return e, ok && e.Level == n.Level && e.Index == n.Index, err
}

// sum returns the node's sum in generation g.
func (d *digests) sum(n digest.Node, g block.Generation) (digest.Sum, error) {
	e, ok, err := d.at(n, g)
	if err != nil || !ok {
		return digest.Zero(n.Level), err
	}
	return e.Sum, nil
}

// put sets the node's sum in generation g, and keeps that of later whole digests. It may
// be done again.
func (d *digests) put(n digest.Node, g block.Generation, s digest.Sum) error {
	old, err := d.sum(n, g)
	if err != nil || old == s && n != digest.Top {
		return err
	}
	if next, ok := d.next(g); ok {
		e, found, err := d.at(n, next)
		if err != nil {
			return err
		}
		if !found || e.Generation <= g {
			if err := d.insert(n, next, old); err != nil {
				return err
			}
		}
	}
	return d.insert(n, g, s)
}

func (d *digests) insert(n digest.Node, g block.Generation, s digest.Sum) error {
	_, err := d.tree.Insert(layout.DigestSum{Level: n.Level, Index: n.Index, Generation: g, Sum: s})
	return err
}

// Digest returns the digest of a snapshot.
func (s *Store) Digest(ref wire.SnapshotRef) (d Digest, err error) {
	err = s.resolve(func() error {
		snap, err := s.present(ref)
		if err == nil {
			err = s.digestible(snap)
		}
		if err != nil {
			return err
		}
		d = Digest{Snapshot: snap.Snapshot}
		if d.Known = s.digests.has(snap.Generation); !d.Known {
			return nil
		}
		top, err := s.digests.sum(digest.Top, snap.Generation)
		d.Sum = digest.Of(snap.Size, top)
		return err
	})
	return d, err
}

// digestible returns the reason why a live snapshot can have no digest, or nil. The lock
// is held.
func (s *Store) digestible(snap *snapshot) error {
	if snap.Parent != 0 {
		return fmt.Errorf("snapshot %d is one of a snapshot: %w: only those of the origin have one", snap.Tag, ErrNoDigest)
	}
	written, err := s.hasEntries(snap)
	if err == nil && written {
		err = fmt.Errorf("snapshot %d: %w", snap.Tag, ErrWritten)
	}
	return err
}

// BeginDigest lets the sums of a snapshot be put. Base is the generation of the
// snapshot to begin with, which has a digest and is older: what [Store.Changed] does not
// list since base has the sums that it has there. Zero: there is none, and all leaves
// are to be put.
func (s *Store) BeginDigest(ref wire.SnapshotRef) (snap layout.Snapshot, base block.Generation, err error) {
	if err := s.mutable(); err != nil {
		return snap, 0, err
	}
	err = s.resolve(func() error {
		found, err := s.present(ref)
		if err == nil {
			err = s.digestible(found)
		}
		if err != nil {
			return err
		}
		snap, base = found.Snapshot, 0
		for _, g := range s.digests.whole {
			if of := s.snaps.get(g); g < snap.Generation && of != nil && of.State == layout.SnapshotLive {
				base = g
			}
		}
		s.digests.begun[snap.Generation] = true
		return nil
	})
	return snap, base, err
}

// DigestLeaves returns how many leaves there are up to the last one that a sum is kept
// of, in any generation: that of a state which was larger than the snapshot that a digest
// is begun for is to be put too.
func (s *Store) DigestLeaves() (n uint64, err error) {
	err = s.resolve(func() error {
		last, ok, err := s.digests.tree.Floor(layout.DigestSum{Index: math.MaxUint64, Generation: math.MaxUint64})
		if n = 0; err == nil && ok {
			n = last.Index + 1
		}
		return err
	})
	return n, err
}

// DigestChildren sets sums to those of the children of n in the snapshot of generation
// g, whose digest is whole, or was begun: then of what was put, and of its base.
func (s *Store) DigestChildren(g block.Generation, n digest.Node, sums *[digest.Fanout]digest.Sum) error {
	if n.Level == 0 || n.Level > digest.Height {
		return fmt.Errorf("a digest's node of level %d has no children", n.Level)
	}
	return s.resolve(func() error {
		if !s.digests.has(g) && !s.digests.begun[g] {
			return fmt.Errorf("generation %d: %w", g, ErrNoDigest)
		}
		for i := range sums {
			sum, err := s.digests.sum(n.Child(i), g)
			if err != nil {
				return err
			}
			sums[i] = sum
		}
		return nil
	})
}

// PutDigests sets sums of a snapshot, which [Store.BeginDigest] was called for. The
// digest is whole with that of the topmost node, which comes last. The sums are durable
// with the next checkpoint. An error that wraps [alloc.ErrNoSpace] says that
// there is no room for more; [ErrNoDigest], that all is to begin anew.
func (s *Store) PutDigests(g block.Generation, sums []DigestNode) error {
	if err := s.mutable(); err != nil {
		return err
	}
	defer s.wake() // a checkpoint may be due
	return s.step(func() error {
		snap := s.snaps.get(g)
		if snap == nil || snap.State != layout.SnapshotLive || !s.digests.begun[g] {
			return fmt.Errorf("generation %d: %w", g, ErrNoDigest)
		}
		if err := s.digestible(snap); err != nil {
			return err
		}
		if used, all := s.pagesKept()+uint64(s.digests.tree.Dirty()), s.pages.Total(); 100*used > digestShare*all {
			return fmt.Errorf("digests find %d of %d metadata pages in use: %w", used, all, alloc.ErrNoSpace)
		}
		for _, n := range sums {
			if err := s.digests.put(n.Node, g, n.Sum); err != nil {
				return err
			}
			s.changed = true
			if n.Node == digest.Top {
				s.digests.ended(g)
			}
		}
		return nil
	})
}

// ended says that a digest is whole.
func (d *digests) ended(g block.Generation) {
	delete(d.begun, g)
	if i, ok := slices.BinarySearch(d.whole, g); !ok {
		d.whole = slices.Insert(d.whole, i, g)
	}
}

// EndDigest says that no more sums of a snapshot will be put. Those of a digest that is
// not whole are forgotten in time.
func (s *Store) EndDigest(g block.Generation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.digests.begun, g)
}

// sweepStep bounds how many digests are looked at under one holding of the lock.
const sweepStep = 128

// sweepDigests forgets what only the digests of snapshots that are gone needed, when
// there are as many of them as of others, and reports whether there is more to do.
func (s *Store) sweepDigests() (more bool, err error) {
	err = s.step(func() error {
		d := &s.digests
		if !d.going && !s.sweepDue() {
			return nil
		}
		if !d.going {
			d.going, d.sweep = true, layout.DigestSum{}
		}
		more = true
		entries, err := d.tree.Scan(d.sweep, sweepStep+1, nil)
		if err != nil {
			return err
		}
		for i, e := range entries {
			last := i == sweepStep
			if last {
				d.sweep = e
				return nil
			}
			if err := s.sweepOne(e, entries[i+1:]); err != nil {
				return err
			}
		}
		d.going, more = false, false
		return nil
	})
	return more, err
}

// sweepDue reports whether at least half of the whole digests are of snapshots that are
// gone.
func (s *Store) sweepDue() bool {
	gone := 0
	for _, g := range s.digests.whole {
		if !s.digestNeeded(g) {
			gone++
		}
	}
	return gone > 0 && 2*gone >= len(s.digests.whole)
}

// digestNeeded reports whether the snapshot of a digest is there.
func (s *Store) digestNeeded(g block.Generation) bool {
	snap := s.snaps.get(g)
	return snap != nil && snap.readable()
}

// sweepOne forgets an entry, which rest comes after, if nothing needs it.
func (s *Store) sweepOne(e layout.DigestSum, rest []layout.DigestSum) error {
	d := &s.digests
	if e.Level == digest.Height {
		if s.digestNeeded(e.Generation) || d.begun[e.Generation] {
			return nil
		}
		if i, ok := slices.BinarySearch(d.whole, e.Generation); ok {
			d.whole = slices.Delete(d.whole, i, i+1)
		}
		return s.forgetDigest(e)
	}
	within := func(g block.Generation) bool {
		return g >= e.Generation && (len(rest) == 0 || rest[0].Level != e.Level || rest[0].Index != e.Index || g < rest[0].Generation)
	}
	for g := range d.begun {
		if within(g) {
			return nil
		}
	}
	for _, g := range d.whole {
		if within(g) && s.digestNeeded(g) {
			return nil
		}
	}
	return s.forgetDigest(e)
}

func (s *Store) forgetDigest(e layout.DigestSum) error {
	s.changed = true
	_, err := s.digests.tree.Delete(e)
	return err
}
