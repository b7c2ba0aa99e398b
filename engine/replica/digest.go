// SPDX-License-Identifier: Apache-2.0

package replica

import (
	"context"
	"fmt"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/delta"
	"zumastor.org/zumastor/engine/digest"
	"zumastor.org/zumastor/engine/digest/compute"
)

// sameDigest returns an error if the base is known to be another state than the one that
// the delta leads from. Where either side does not know its digest, the sums of the
// records say it of what changes, later.
func (v Volume) sameDigest(ctx context.Context, base *admin.Snapshot, from *delta.End) error {
	if base == nil || from.Algorithm != delta.DigestTree {
		return nil
	}
	sum, known, err := compute.Known(ctx, v.Manager, admin.Ref{Tag: base.Tag})
	switch {
	case compute.Without(err):
		return nil
	case err != nil:
		return fmt.Errorf("asking for the digest of the base: %w", err)
	case known && sum != digest.Sum(from.Digest):
		return fmt.Errorf("%w: snapshot %d has digest %v, and what the delta leads from has %v", delta.ErrBase, base.Tag, sum, digest.Sum(from.Digest))
	}
	return nil
}
