// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/alloc"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/volume"
	"zumastor.org/zumastor/engine/wire"
)

// hoarder is a snapshot's client that writes nothing.
type hoarder struct {
	rig.Passive
	revoked int
}

func (h *hoarder) Quiesce(change func() (wire.SnapshotState, error)) error {
	s, err := change()
	if s.Revoked {
		h.revoked++
	}
	return err
}

// Slots that lie idle in the leases of a snapshot's client are taken back before a
// snapshot is dropped for space, or a write fails.
func TestIdleLeasesAreTakenBack(t *testing.T) {
	for _, policy := range []string{"drop", "fail-writes"} {
		t.Run(policy, func(t *testing.T) {
			r := fullRig(t, 4, 32, policy)
			for tag := block.Tag(1); tag <= 2; tag++ {
				_, err := r.Server.CreateSnapshot(tag)
				require.NoError(t, err)
			}
			client := &hoarder{}
			o, err := r.Server.OpenSnapshot(wire.SnapshotRef{Tag: 1}, true, client)
			require.NoError(t, err)
			for err == nil {
				_, err = r.Server.LeaseBranch(o.Handle, 1000)
			}
			require.ErrorIs(t, err, alloc.ErrNoSpace)
			require.NoError(t, overwrite(r, 1, 4))
			require.Equal(t, 1, client.revoked)
			require.Empty(t, gone(r))
		})
	}
}

// Slots that lie idle in the leases of the origin's client are taken back before a write
// to a snapshot waits or fails, and the origin goes on after that, with others.
func TestIdleLeasesOfTheOriginAreTakenBack(t *testing.T) {
	for _, policy := range []string{"drop", "block", "fail-writes"} {
		for _, p := range []layout.Placement{layout.PlacementInline, layout.PlacementDisk} {
			t.Run(fmt.Sprint(policy, "/", p), func(t *testing.T) {
				o := options(fullChunk, 40)
				o.OriginSize, o.Policy, o.Placement = 8*fullChunk, policy, p
				r := newRunner(t, o, rig.Wrappers{}).Rig
				_, err := r.Server.CreateSnapshot(1)
				require.NoError(t, err)
				require.NoError(t, overwrite(r, 1, 2))
				for err == nil {
					_, err = r.Server.Lease(1000)
				}
				require.ErrorIs(t, err, alloc.ErrNoSpace)
				v, err := volume.OpenSnapshotRef(r.Source(), wire.SnapshotRef{Tag: 1}, true)
				require.NoError(t, err)
				_, err = v.WriteAt(device.Buffer(8*fullChunk), 0)
				require.NoError(t, err)
				require.NoError(t, v.Flush())
				require.NoError(t, v.Close())
				require.NoError(t, overwrite(r, 2, 8))
				require.Empty(t, gone(r))
				require.NoError(t, r.Maintain())
				again := r.Flushed()
				require.NoError(t, again.Open())
				defer again.Abandon()
				got, err := again.ReadSnapshot(1, 0, 8*fullChunk)
				require.NoError(t, err)
				require.Equal(t, make([]byte, 8*fullChunk), got)
			})
		}
	}
}

// A lease is small where little is free, so that one client does not get all.
func TestLeaseIsInProportionToWhatIsFree(t *testing.T) {
	r := fullRig(t, 4, 64, "fail-writes")
	_, err := r.Server.CreateSnapshot(1)
	require.NoError(t, err)
	o, err := r.Server.OpenSnapshot(wire.SnapshotRef{Tag: 1}, true, &hoarder{})
	require.NoError(t, err)
	runs, err := r.Server.LeaseBranch(o.Handle, 1000)
	require.NoError(t, err)
	slots := uint64(0)
	for _, run := range runs {
		slots += run.Len
	}
	require.LessOrEqual(t, slots, uint64(8))
}
