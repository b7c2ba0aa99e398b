// SPDX-License-Identifier: Apache-2.0

// Package compute makes digests of snapshots, and has their stores keep them.
//
// It owns what is read for a digest: what changed since an older snapshot that has one, or
// all of the snapshot. It does not own the tree's shape (package digest), nor the sums
// (package store), which it asks an admin.Manager for: so it is the same for a running
// server and for an idle store. Command ddsnap calls it, and its serving process has a
// [Background] compute those of new snapshots. Digests of several snapshots may
// be computed at a time, and one by several processes. One that fails, or is cut, leaves
// none, and what other digests say as it was; it is computed anew.
package compute

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/digest"
	"zumastor.org/zumastor/engine/store"
)

// Options say how a digest is computed. The zero value is valid.
type Options struct {
	Rate     int64                    // most bytes to read in a second; zero: no limit
	Progress func(done, total uint64) // is told how many leaves; may be nil
	batch    int                      // sums that are put at once; zero: admin.MaxDigests
	// generation is that of the snapshot whose content it is, which a tag may not name any
	// more; zero: the content is kept, and the tag with it.
	generation block.Generation
}

// Result is a digest, and what it took.
type Result struct {
	Sum   digest.Sum
	There bool // the store had it already, or somebody else was first
	Base  *admin.Snapshot
	Read  int64 // bytes
}

// Run computes the digest of a snapshot, whose content must be kept until it returns. It
// reads what changed since the newest older snapshot that has a digest, or all. The
// digest is durable with the store's next checkpoint. The errors of the store, such as
// store.ErrWritten, are wrapped. It holds 1 MiB, and 16 bytes for each changed extent.
func Run(ctx context.Context, m admin.Manager, ref admin.Ref, content io.ReaderAt, o Options) (res Result, err error) {
	if res.Sum, res.There, err = Known(ctx, m, ref); err != nil || res.There {
		return res, err
	}
	begun, err := m.Do(ctx, admin.Request{Verb: admin.VerbDigestBegin, Snapshot: &ref})
	if err != nil {
		return res, err
	}
	d := begun.Digest
	defer func() {
		_, ending := m.Do(context.WithoutCancel(ctx), admin.Request{Verb: admin.VerbDigestEnd, Digest: &admin.DigestSums{Generation: d.Generation}})
		err = errors.Join(err, ending)
	}()
	if o.generation != 0 && d.Generation != o.generation {
		return res, fmt.Errorf("snapshot %d is another one now: %w", ref.Tag, store.ErrNoSnapshot)
	}
	res.Base = d.Base
	ranges, err := leavesSince(ctx, m, d, ref)
	if err != nil {
		return res, err
	}
	p := putter{ctx: ctx, m: m, batch: cmp.Or(o.batch, admin.MaxDigests), sums: admin.DigestSums{Generation: d.Generation}}
	w := work{Options: o, content: content, size: d.Size, update: digest.NewUpdate(TreeOf(ctx, m, d.Base), p.add)}
	top, err := w.run(ctx, ranges)
	if err == nil {
		err = p.flush()
	}
	if errors.Is(err, store.ErrNoDigest) { // whoever else computed it was first, and ended it
		if sum, known, asking := Known(ctx, m, ref); asking == nil && known {
			return Result{Sum: sum, There: true, Base: d.Base, Read: w.read}, nil
		}
	}
	res.Read, res.Sum = w.read, digest.Of(d.Size, top)
	return res, err
}

// Known returns a snapshot's digest, if its store has it.
func Known(ctx context.Context, m admin.Manager, ref admin.Ref) (sum digest.Sum, known bool, err error) {
	r, err := m.Do(ctx, admin.Request{Verb: admin.VerbDigest, Snapshot: &ref})
	if err != nil || r.Digest == nil || !r.Digest.Known {
		return sum, false, err
	}
	sum, err = digest.ParseSum(r.Digest.Sum)
	return sum, err == nil, err
}

// Without reports whether an error of Known says that the snapshot can have no digest, or
// that its server knows of none.
func Without(err error) bool {
	return errors.Is(err, store.ErrNoDigest) || errors.Is(err, store.ErrWritten) || errors.Is(err, admin.ErrRequest)
}

// tree is the digest of a snapshot, in its store.
type tree struct {
	ctx  context.Context
	m    admin.Manager
	base *admin.Snapshot
}

// TreeOf returns the tree that the store keeps of a snapshot, or, for nil, that of a
// volume of zeroes.
func TreeOf(ctx context.Context, m admin.Manager, s *admin.Snapshot) digest.Base {
	if s == nil {
		return digest.Nothing{}
	}
	return tree{ctx, m, s}
}

// Children implements digest.Base.
func (t tree) Children(n digest.Node, sums *[digest.Fanout]digest.Sum) error {
	ask := admin.DigestSums{Generation: t.base.Generation, Level: n.Level, Index: n.Index}
	r, err := t.m.Do(t.ctx, admin.Request{Verb: admin.VerbDigestChildren, Digest: &ask})
	if err != nil {
		return err
	}
	if len(r.Digest.Children) != len(sums)*len(sums[0]) {
		return fmt.Errorf("digest of snapshot %d: a node of %d bytes", t.base.Tag, len(r.Digest.Children))
	}
	for i := range sums {
		copy(sums[i][:], r.Digest.Children[i*len(sums[i]):])
	}
	return nil
}

// putter has the store keep sums, many at a time.
type putter struct {
	ctx  context.Context
	m    admin.Manager
	sums admin.DigestSums
	n    int // of them
	// batch is how many are put at once.
	batch int
}

func (p *putter) add(n digest.Node, s digest.Sum) error {
	p.sums.Sums = admin.AppendDigest(p.sums.Sums, n, s)
	if p.n++; p.n < p.batch {
		return nil
	}
	return p.flush()
}

func (p *putter) flush() error {
	if p.n == 0 {
		return nil
	}
	_, err := p.m.Do(p.ctx, admin.Request{Verb: admin.VerbDigestPut, Digest: &p.sums})
	p.sums.Sums, p.n = p.sums.Sums[:0], 0
	return err
}

// work reads leaves.
type work struct {
	Options
	content io.ReaderAt
	size    int64
	update  *digest.Update
	read    int64
	due     time.Time // when the rate allows for what was read
}

// run has the tree updated with the leaves of ranges.
func (w *work) run(ctx context.Context, ranges []leafRange) (digest.Sum, error) {
	var done, total uint64
	for _, r := range ranges {
		total += r.end - r.first
	}
	buf := make([]byte, digest.LeafSize)
	w.due = time.Now()
	for _, r := range ranges {
		for i := r.first; i < r.end; i++ {
			before := w.read
			s, err := w.leaf(i, buf)
			if err == nil {
				err = w.update.Leaf(i, s)
			}
			if err == nil {
				err = w.pause(ctx, w.read-before)
			}
			if err != nil {
				return digest.Sum{}, err
			}
			if done++; w.Progress != nil {
				w.Progress(done, total)
			}
		}
	}
	return w.update.Top()
}

// leaf returns the sum of a leaf; beyond the end all are of zeroes.
func (w *work) leaf(i uint64, buf []byte) (digest.Sum, error) {
	off := int64(i) * digest.LeafSize
	n := min(w.size-off, digest.LeafSize)
	if n <= 0 {
		return digest.Zero(0), nil
	}
	buf = buf[:n]
	if got, err := w.content.ReadAt(buf, off); got < len(buf) {
		return digest.Sum{}, fmt.Errorf("reading at offset %d for a digest: %w", off, err)
	}
	w.read += n
	for _, b := range buf {
		if b != 0 {
			return digest.OfLeaf(buf), nil
		}
	}
	return digest.Zero(0), nil
}

// catchUp bounds how long a reading that was held up goes on without pauses.
const catchUp = time.Second

// pause waits until the rate allows for the n bytes that were read.
func (w *work) pause(ctx context.Context, n int64) error {
	if w.Rate <= 0 || n == 0 {
		return context.Cause(ctx)
	}
	if now := time.Now(); now.Sub(w.due) > catchUp {
		w.due = now.Add(-catchUp)
	}
	w.due = w.due.Add(time.Duration(float64(n) / float64(w.Rate) * float64(time.Second)))
	wait := time.Until(w.due)
	if wait <= 0 {
		return context.Cause(ctx)
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(wait):
		return nil
	}
}
