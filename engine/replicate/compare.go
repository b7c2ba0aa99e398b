// SPDX-License-Identifier: Apache-2.0

package replicate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/delta"
	"zumastor.org/zumastor/engine/digest"
	"zumastor.org/zumastor/engine/digest/compute"
	"zumastor.org/zumastor/engine/replica"
)

// compared is the snapshot that a session compares.
type compared struct {
	snapshot *admin.Snapshot
	content  delta.Content
	close    func() error // may be called again
	tree     digest.Tree  // nil: all content is compared
	repair   *replica.Repair
}

// compare answers what the sender asks of a snapshot, until that says done.
func (s *receiving) compare(ctx context.Context, to proposal) (err error) {
	c, st, err := s.openCompared(ctx, to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	if to.Repair {
		if c.repair, err = s.repairs(ctx, c, to); err != nil {
			return err
		}
	}
	if err := s.link.write(kindStanding, encodeJSON(st)); err != nil {
		return err
	}
	buf := make([]byte, pieceSize)
	for {
		k, p, err := s.link.read()
		switch {
		case err != nil:
			return err
		case k == kindNodes && c.tree != nil:
			err = s.sums(c.tree, p)
		case k == kindCompare:
			err = s.equal(c.content, p, buf)
		case k == kindRepair && c.repair != nil:
			err = s.mend(ctx, c.repair, p)
		case k == kindDone:
			if err := c.close(); err != nil {
				return err
			}
			if c.repair != nil {
				if err := s.repaired(ctx, c.repair, to); err != nil {
					return err
				}
			}
			return s.link.write(kindDone, encodeJSON(doneWith{to.To.Tag}))
		case k == kindRefuse:
			return s.link.fail(decodeRefusal(p))
		default:
			err = fmt.Errorf("%w: a %v frame while a copy is compared", ErrProtocol, k)
		}
		if err != nil {
			return err
		}
	}
}

// openCompared opens the snapshot that the sender names, and has its digest computed if that is
// to be compared.
func (s *receiving) openCompared(ctx context.Context, to proposal) (c *compared, st standing, err error) {
	c = &compared{}
	if c.snapshot, err = s.volume.Find(ctx, admin.Source{Store: to.To.Store, Generation: to.To.Generation}); err != nil {
		return c, st, err
	}
	content, closer, err := s.volume.Open(*c.snapshot)
	if err != nil {
		return c, st, fmt.Errorf("opening snapshot %d: %w", c.snapshot.Tag, err)
	}
	c.content, c.close = content, sync.OnceValue(closer.Close)
	s.size, s.result.There = c.snapshot.Size, true
	st = standing{Size: s.size, There: true}
	if to.Verify != byDigest {
		return c, st, nil
	}
	res, err := compute.Run(ctx, s.volume.Manager, admin.Ref{Tag: c.snapshot.Tag}, content, compute.Options{})
	if err != nil {
		return c, st, errors.Join(fmt.Errorf("the digest of snapshot %d: %w", c.snapshot.Tag, err), c.close())
	}
	st.Digest, c.tree = res.Sum.String(), digest.TreeOf(compute.TreeOf(ctx, s.volume.Manager, c.snapshot))
	return c, st, nil
}

// sums answers a frame of nodes.
func (s *receiving) sums(tree digest.Tree, frame []byte) error {
	nodes, err := decodeNodes(frame)
	if err != nil {
		return err
	}
	sums, err := tree.Children(nodes)
	if err != nil {
		return err
	}
	return s.link.write(kindSums, encodeSums(sums))
}

// equal answers which pieces of a frame the snapshot has.
func (s *receiving) equal(content io.ReaderAt, frame, buf []byte) error {
	list, err := decodeProbes(frame, s.size)
	if err != nil {
		return err
	}
	bits := make([]byte, (len(list)+7)/8)
	for i, b := range list {
		p := buf[:b.Length]
		if got, err := content.ReadAt(p, b.Offset); got < len(p) {
			return fmt.Errorf("reading %d bytes at offset %d of the snapshot: %w", len(p), b.Offset, err)
		}
		if delta.SumOf(p) == b.sum {
			bits[i/8] |= 1 << (i % 8)
		}
	}
	return s.link.write(kindEqual, bits)
}
