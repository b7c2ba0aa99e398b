// SPDX-License-Identifier: Apache-2.0

package replicate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"zumastor.org/zumastor/engine/delta"
	"zumastor.org/zumastor/engine/digest"
	"zumastor.org/zumastor/engine/store"
)

// ErrDigest is wrapped when the digest that a store keeps is not of the content.
var ErrDigest = errors.New("a digest is not that of the content")

// Original is a snapshot that a copy is compared with.
type Original struct {
	To      Copy
	Size    int64         // of the volume, bytes
	Chunk   int           // bytes; what differs is told in whole chunks
	Content delta.Content // is kept meanwhile
	Digest  digest.Sum
	Tree    digest.Tree // nil: all content is compared, and no digest
}

// VerifyOptions say how it is compared. The zero value is valid.
type VerifyOptions struct {
	Idle     time.Duration            // see DefaultIdle
	Progress func(done, total int64)  // bytes that are known to be the same or not; may be nil
	Differs  func(delta.Extent) error // is told what differs, in ascending order; may be nil
}

// Verified says how a copy compares.
type Verified struct {
	Digest    digest.Sum // that the copy has; zero where all content was compared
	Differing int64      // bytes of whole chunks
	Exchanged int64      // bytes of questions and answers
}

// Verify compares a snapshot with the copy that the receiver at the other end of a
// connection has of it, and closes the connection. With a tree, bytes are exchanged and
// content is read in proportion to what differs, but what became different after the
// digests were computed is not found; without, all of both is read, and 28 bytes are
// exchanged for each MiB. Nothing is written. A [*Refusal] says why the receiver cannot
// compare; one with CodeAbsent that it has no such copy.
func Verify(ctx context.Context, conn io.ReadWriteCloser, o Original, opts VerifyOptions) (Verified, error) {
	return (&verifying{original: o, opts: opts}).serve(ctx, conn)
}

// serve has the session.
func (v *verifying) serve(ctx context.Context, conn io.ReadWriteCloser) (Verified, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l := newLink(ctx, conn, v.opts.Idle)
	v.sending = sending{link: l, answers: make(chan answer, 1), cancel: cancel}
	err := v.run(ctx)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	_ = v.giveUp(err)
	l.close()
	v.reading.Wait()
	return v.result, err
}

// verifying is one session of a sender that compares.
type verifying struct {
	sending
	original Original
	opts     VerifyOptions
	repair   []delta.Extent // what differed when the copy was compared; nil: compare
	result   Verified
	found    delta.Extent // what differs and was not told: more may follow
}

func (v *verifying) run(ctx context.Context) error {
	to := proposal{To: v.original.To, Size: v.original.Size, Verify: byContent}
	if v.original.Tree != nil {
		to.Verify = byDigest
	}
	if v.repair != nil {
		to.Verify, to.Repair = byContent, true
		if v.original.Digest != (digest.Sum{}) {
			to.Digest = v.original.Digest.String()
		}
	}
	st, err := v.propose(ctx, to)
	if err != nil {
		return err
	}
	if st.Size != v.original.Size {
		return fmt.Errorf("%w: the copy has %d bytes, and the snapshot %d", store.ErrSize, st.Size, v.original.Size)
	}
	switch {
	case v.repair != nil:
		err = v.byContent(ctx, v.repair)
	case v.original.Tree == nil:
		err = v.byContent(ctx, []delta.Extent{{Length: v.original.Size}})
	default:
		err = v.byDigest(ctx, st)
	}
	if err == nil {
		err = v.report()
	}
	if err == nil {
		err = v.link.write(kindDone, encodeJSON(doneWith{v.original.To.Tag}))
	}
	if err == nil {
		_, err = v.ask(ctx, kindDone)
	}
	return err
}

// question asks, and counts what it takes.
func (v *verifying) question(ctx context.Context, k kind, p []byte, want kind) ([]byte, error) {
	if err := v.link.write(k, p); err != nil {
		return nil, err
	}
	got, err := v.ask(ctx, want)
	v.result.Exchanged += int64(len(p) + len(got))
	return got, err
}

// byDigest compares the content of those leaves whose sums differ.
func (v *verifying) byDigest(ctx context.Context, st standing) error {
	sum, err := digest.ParseSum(st.Digest)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	size := v.original.Size
	if v.result.Digest = sum; sum == v.original.Digest {
		v.passed(size)
		return nil
	}
	theirs := remoteTree{leaves: digest.Leaves(size), ask: func(p []byte) ([]byte, error) {
		return v.question(ctx, kindNodes, p, kindSums)
	}}
	for i, err := range digest.Diff(v.original.Tree, theirs) {
		if err != nil {
			return err
		}
		before := v.result.Differing
		leaf := delta.Extent{Offset: int64(i) * digest.LeafSize}
		leaf.Length = min(digest.LeafSize, size-leaf.Offset)
		if err := v.within(ctx, leaf); err != nil {
			return err
		}
		if v.result.Differing == before {
			return fmt.Errorf("%w, here or there, at offset %d: compare the content", ErrDigest, leaf.Offset)
		}
		v.passed(leaf.Offset + leaf.Length)
	}
	if v.result.Differing == 0 {
		return fmt.Errorf("%w: the digests differ, and their trees do not", ErrDigest)
	}
	v.passed(size)
	return nil
}

// byContent compares all of the extents.
func (v *verifying) byContent(ctx context.Context, extents []delta.Extent) error {
	batch := make([]delta.Extent, 0, mostPieces)
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		equal, err := v.compare(ctx, batch)
		if err != nil {
			return err
		}
		for i, x := range batch {
			if !equal(i) {
				if err := v.within(ctx, x); err != nil {
					return err
				}
			}
			v.passed(x.Offset + x.Length)
		}
		batch = batch[:0]
		return nil
	}
	for x := range pieces(extents, 0, pieceSize) {
		if batch = append(batch, x); len(batch) == mostPieces {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// within finds out which chunks of a piece differ.
func (v *verifying) within(ctx context.Context, piece delta.Extent) error {
	var chunks []delta.Extent
	for x := range pieces([]delta.Extent{piece}, 0, int64(v.original.Chunk)) {
		chunks = append(chunks, x)
	}
	equal, err := v.compare(ctx, chunks)
	if err != nil {
		return err
	}
	for i, x := range chunks {
		if equal(i) {
			continue
		}
		v.result.Differing += x.Length
		if v.found.Offset+v.found.Length == x.Offset {
			v.found.Length += x.Length
			continue
		}
		if err := v.report(); err != nil {
			return err
		}
		v.found = x
	}
	return nil
}

// compare returns which pieces, of at most pieceSize, the copy has the same.
func (v *verifying) compare(ctx context.Context, list []delta.Extent) (equal func(int) bool, err error) {
	frame, err := probes(v.original.Content, list)
	if err != nil {
		return nil, err
	}
	p, err := v.question(ctx, kindCompare, frame, kindEqual)
	if err == nil && len(p) != (len(list)+7)/8 {
		err = fmt.Errorf("%w: %d bytes on %d pieces", ErrProtocol, len(p), len(list))
	}
	bits := append([]byte(nil), p...)
	return func(i int) bool { return bits[i/8]>>(i%8)&1 == 1 }, err
}

// report tells what differs.
func (v *verifying) report() error {
	x := v.found
	v.found = delta.Extent{}
	if x.Length == 0 || v.opts.Differs == nil {
		return nil
	}
	return v.opts.Differs(x)
}

func (v *verifying) passed(done int64) {
	if v.opts.Progress != nil {
		v.opts.Progress(done, v.original.Size)
	}
}
