// SPDX-License-Identifier: Apache-2.0

package check_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/check"
	"zumastor.org/zumastor/engine/check/checktest"
	"zumastor.org/zumastor/engine/device/memdev"
)

func TestNewStoreIsClean(t *testing.T) {
	for _, s := range shapes() {
		r := newRig(t, s)
		r.close()
		require.Empty(t, r.find(check.Options{Data: true}), s)
	}
}

func TestClosedStoreIsClean(t *testing.T) {
	for _, s := range shapes() {
		t.Run(s.String(), func(t *testing.T) {
			r := newRig(t, s)
			r.fill()
			r.close()
			require.Empty(t, r.find(check.Options{Data: true}))
			r.open()
			require.NoError(t, r.server.DeleteSnapshot(4))
			r.close()
			checktest.MustBeClean(t, r.checked())
			r.open()
			r.maintain()
			r.scribble(5)
			r.close()
			require.Empty(t, r.find(check.Options{Data: true}))
		})
	}
}

// A store is judged by what recovery would make of it: whatever a crash leaves is
// well before recovery, and after.
func TestCrashedStoreIsClean(t *testing.T) {
	for _, s := range shapes() {
		t.Run(s.String(), func(t *testing.T) {
			r := newRig(t, s)
			r.fill()
			require.NoError(t, r.server.DeleteSnapshot(5))
			for range 2 {
				r.scribble(3)
				for _, fate := range []memdev.Fate{{}, {Keep: 1}, memdev.RandomFate(r.rng)} {
					crashed := r.crash(fate)
					checktest.MustBeClean(t, crashed.checked())
					crashed.open()
					checktest.MustBeClean(t, crashed.checked())
					crashed.maintain()
					crashed.scribble(2)
					crashed.close()
					require.Empty(t, crashed.find(check.Options{Data: true}))
				}
			}
		})
	}
}

// At every write and flush of some work.
func TestCrashAnywhereIsClean(t *testing.T) {
	for _, s := range shapes() {
		t.Run(s.String(), func(t *testing.T) {
			r := newRig(t, s)
			r.fill()
			n := 0
			hook := func(memdev.Event) {
				if n++; n%8 == 0 {
					checktest.MustBeClean(t, r.crash(memdev.RandomFate(r.rng)).checked())
				}
			}
			r.data.SetHook(hook)
			if r.meta != nil {
				r.meta.SetHook(hook)
			}
			r.snapshot(8)
			r.scribble(4)
			require.NoError(t, r.server.DeleteSnapshot(3))
			r.maintain()
			r.scribble(4)
			_, err := r.server.Checkpoint()
			require.NoError(t, err)
			r.close()
			require.NotZero(t, n)
		})
	}
}
