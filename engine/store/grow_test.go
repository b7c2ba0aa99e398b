// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/metamorphic/rig"
)

// TestNewSlotsWaitForTheirCheckpoint asks for slots while the first checkpoint of a
// store that grows is being written, when hardly an old one is left. A new one must not
// be given out: a batch there would be lost in a crash.
func TestNewSlotsWaitForTheirCheckpoint(t *testing.T) {
	for _, o := range resizeSetups() {
		t.Run(setupName(o), func(t *testing.T) {
			z := newResizable(t, o, rig.Wrappers{})
			old := z.Server.Status()
			left := func() uint64 {
				s := z.Server.Status()
				return s.Slots - s.SlotsUsed - s.SlotsLeased - s.SlotsWaiting
			}
			for left() > 16 {
				_, err := z.Server.Lease(left() - 8)
				require.NoError(t, err)
			}
			asked := false
			z.Machine.SetHook(func(e memdev.Event) {
				if asked || e.Kind == memdev.Wrote {
					return
				}
				asked = true
				runs, err := z.Server.Lease(64)
				require.NoError(t, err)
				for _, r := range runs {
					require.LessOrEqual(t, uint64(r.First)+r.Len, old.Slots, "a slot beyond the old end")
				}
			})
			require.NoError(t, z.Server.ResizeStore(context.Background(), o.StoreSize+o.StoreSize/2, 0, nil))
			z.Machine.SetHook(nil)
			require.True(t, asked)
			require.Greater(t, z.Server.Status().Slots, old.Slots)
			_, err := z.Server.Lease(64)
			require.NoError(t, err, "there are new ones now")
		})
	}
}
