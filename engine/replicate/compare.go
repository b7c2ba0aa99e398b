// SPDX-License-Identifier: Apache-2.0

package replicate

import (
	"context"
	"errors"
	"fmt"
	"io"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/delta"
	"zumastor.org/zumastor/engine/digest"
	"zumastor.org/zumastor/engine/digest/compute"
)

// compare answers what the sender asks of a snapshot, until that says done.
func (s *receiving) compare(ctx context.Context, to proposal) (err error) {
	snap, err := s.volume.Find(ctx, admin.Source{Store: to.To.Store, Generation: to.To.Generation})
	if err != nil {
		return err
	}
	content, closer, err := s.volume.Open(*snap)
	if err != nil {
		return fmt.Errorf("opening snapshot %d: %w", snap.Tag, err)
	}
	defer func() { err = errors.Join(err, closer.Close()) }()
	s.size, s.result.There = snap.Size, true
	st := standing{Size: snap.Size, There: true}
	var tree digest.Tree
	if to.Verify == byDigest {
		ref := admin.Ref{Tag: snap.Tag}
		res, err := compute.Run(ctx, s.volume.Manager, ref, content, compute.Options{})
		if err != nil {
			return fmt.Errorf("the digest of snapshot %d: %w", snap.Tag, err)
		}
		st.Digest, tree = res.Sum.String(), digest.TreeOf(compute.TreeOf(ctx, s.volume.Manager, snap))
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
		case k == kindNodes && tree != nil:
			err = s.sums(tree, p)
		case k == kindCompare:
			err = s.equal(content, p, buf)
		case k == kindDone:
			return s.link.write(kindDone, encodeJSON(doneWith{snap.Tag}))
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
