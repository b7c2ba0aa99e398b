// SPDX-License-Identifier: Apache-2.0

package replicate

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"

	"zumastor.org/zumastor/engine/delta"
	"zumastor.org/zumastor/engine/digest"
	"zumastor.org/zumastor/engine/replica"
	"zumastor.org/zumastor/engine/store"
)

// A frame of what is to be there has the offset in the volume, and then the bytes. Part of
// the protocol.
const (
	repairHead = 8
	repairStep = 64 << 10
)

// Repair has the receiver at the other end of a connection make its newest snapshot, a copy
// of the original, hold what that does, and returns when that is there for good. It closes
// the connection. The extents are what [Verify] found to differ, and may be none: then only
// what an earlier repair left is ended. Chunks that are right by now are not sent. If the
// original's digest is known, the copy is not changed unless it has that then. A repair
// that was cut is to be begun anew; until then the copy takes no other snapshot.
func Repair(ctx context.Context, conn io.ReadWriteCloser, o Original, extents []delta.Extent, opts VerifyOptions) (Verified, error) {
	v := &verifying{original: o, opts: opts, repair: append([]delta.Extent{}, extents...)}
	v.opts.Differs = func(x delta.Extent) error {
		if err := v.mend(x); err != nil || opts.Differs == nil {
			return err
		}
		return opts.Differs(x)
	}
	return v.serve(ctx, conn)
}

// mend sends what an extent is to hold.
func (v *verifying) mend(x delta.Extent) error {
	frame := make([]byte, repairHead+repairStep)
	for part := range pieces([]delta.Extent{x}, 0, repairStep) {
		p := frame[:repairHead+part.Length]
		binary.LittleEndian.PutUint64(p, uint64(part.Offset))
		if n, err := v.original.Content.ReadAt(p[repairHead:], part.Offset); int64(n) < part.Length {
			return fmt.Errorf("reading %d bytes at offset %d of the snapshot: %w", part.Length, part.Offset, err)
		}
		if err := v.link.write(kindRepair, p); err != nil {
			return err
		}
		v.result.Exchanged += int64(len(p))
	}
	return nil
}

// mend writes what a frame has.
func (s *receiving) mend(ctx context.Context, r *replica.Repair, frame []byte) error {
	off, p := binary.LittleEndian.Uint64(frame), frame[repairHead:]
	if size := uint64(s.size); off > size || uint64(len(p)) > size-off {
		return fmt.Errorf("%w: %d bytes at offset %d of a volume of %d", ErrProtocol, len(p), off, s.size)
	}
	if err := r.Write(ctx, p, int64(off)); err != nil {
		return err
	}
	s.result.Repaired += int64(len(p))
	return nil
}

// repaired ends a repair.
func (s *receiving) repaired(ctx context.Context, r *replica.Repair, to proposal) error {
	var want *digest.Sum
	if to.Digest != "" {
		sum, err := digest.ParseSum(to.Digest)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrProtocol, err)
		}
		want = &sum
	}
	return r.Finish(ctx, to.To.Tag, to.To.Name, want)
}

// repairs begins a repair.
func (s *receiving) repairs(ctx context.Context, c *compared, to proposal) (*replica.Repair, error) {
	if s.size != to.Size {
		return nil, fmt.Errorf("%w: the copy has %d bytes, and the snapshot %d", store.ErrSize, s.size, to.Size)
	}
	return s.volume.Repair(ctx, c.snapshot, c.content)
}
