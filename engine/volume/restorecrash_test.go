// SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"context"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device/errdev"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/metamorphic/rig"
)

// restores are what is cut and disturbed: a revert to an old snapshot, one to a
// snapshot of a snapshot, merges of a snapshot of a snapshot and of a plain one.
var restores = []struct {
	target block.Tag
	merge  bool
}{{1, false}, {2, false}, {5, true}, {3, true}}

// soak says that everything is tried, and not only a part of it in each run.
var soak = os.Getenv("ZUMASTOR_SOAK") != ""

// cutting cuts the power of copies of a rig at its flushes while it restores, and of
// these again while they recover.
type cutting struct {
	h      *history
	target block.Tag
	merge  bool
	rng    *rand.Rand
	cuts   int
}

// watch cuts r's power at the events of its flushes. What r held at last may be the
// target only if sure is set.
func (c *cutting) watch(r *rig.Rig, depth int, sure *bool) {
	r.Machine.SetHook(func(e memdev.Event) {
		if e.Kind == memdev.Wrote && c.rng.IntN(6) > 0 || depth == 0 && !soak && c.rng.IntN(6) > 0 {
			return
		}
		c.cut(r, depth, *sure)
	})
}

func (c *cutting) cut(r *rig.Rig, depth int, sure bool) {
	c.cuts++
	fate := [...]memdev.Fate{{}, {Keep: 1}, {Tear: 1}, {Keep: 0.5, Tear: 0.5}}[c.cuts%4]
	left := r.Crash(c.rng, fate)
	defer left.Abandon()
	if c.cuts%3 == 0 {
		mustBeClean(c.h.t, left)
	}
	if depth > 0 && c.cuts%5 == 0 {
		c.watch(left, depth-1, &sure)
		defer left.Machine.SetHook(nil)
	}
	require.NoError(c.h.t, left.Open())
	may := []block.Tag{0, c.target}
	if sure {
		may = may[1:]
	}
	is := c.h.verify(left, may...)
	restoring := left.Server.Status().Restore != nil
	require.Equal(c.h.t, c.merge && is == c.target && !restoring, !slices.Contains(left.Live(), c.target), "a merge ends with the snapshot")
	nowSure := is == c.target
	if depth > 0 && c.cuts%5 == 0 {
		c.watch(left, depth-1, &nowSure)
	}
	require.NoError(c.h.t, left.Volume.Restore(context.Background()))
	left.Machine.SetHook(nil)
	c.h.finish(left, is)
}

// A power cut at any flush of a revert or merge, and of its recovery, leaves the
// origin as it was or as the target, the latter for good once the call has returned,
// and all snapshots as they were.
func TestRestorePowerCuts(t *testing.T) {
	for i, o := range placements() {
		for j, restore := range restores {
			if !soak && i%len(restores) != j {
				continue
			}
			h := newHistory(t, o, rig.Wrappers{})
			c := &cutting{h: h, target: restore.target, merge: restore.merge, rng: rand.New(rand.NewPCG(1, uint64(o.Placement)))}
			sure := false
			c.watch(h.r, 1, &sure)
			require.NoError(t, begin(h.r, c.target, c.merge))
			sure = true
			require.NoError(t, h.r.Volume.Restore(context.Background()))
			h.r.Machine.SetHook(nil)
			h.finish(h.r, c.target)
			require.Greater(t, c.cuts, 10)
			mustBeCleanClosed(t, h.r)
		}
	}
}

func mustBeCleanClosed(t *testing.T, r *rig.Rig) {
	require.NoError(t, r.Close())
	mustBeClean(t, r)
}

// Whatever I/O of a revert or merge fails, once or for ever, reads of origin and
// snapshots are right, and when the devices are well again all that was promised is
// there and can go on.
func TestRestoreNthIOFails(t *testing.T) {
	for _, o := range placements() {
		for i, restore := range restores {
			for _, part := range []string{rig.Origin, rig.Store, rig.Meta} {
				if part == rig.Meta && !o.Separate {
					continue
				}
				first, step := int64(1), int64(1)
				if !soak { // all are tried by one placement or the other
					step = 8
					first += int64(2*int(o.Placement)+i) % step
				}
				for n := first; failNth(t, o, part, n, restore.target, restore.merge); n += step {
				}
			}
		}
	}
}

// failNth lets the n-th operation of one part fail and reports whether there was one.
func failNth(t *testing.T, o rig.Options, part string, n int64, target block.Tag, merge bool) bool {
	var plan errdev.Plan
	h := newHistory(t, o, planned(part, &plan))
	defer h.r.Abandon()
	before := plan.Counts().Total()
	plan.Inject(errdev.Fault{Nth: n, Forever: n%2 == 0, Torn: n%3 == 0})
	err := begin(h.r, target, merge)
	committed := err == nil
	if committed {
		err = h.r.Volume.Restore(context.Background())
	}
	failed := plan.Counts().Total()-before >= n
	if !failed { // a batch that failed was written again
		require.NoError(t, err)
	}
	plan.Clear()
	may := []block.Tag{0, target}
	if committed {
		may = may[1:]
	}
	h.verify(h.r, may...)
	left := h.r.Flushed()
	defer left.Abandon()
	mustBeClean(t, left)
	require.NoError(t, left.Open())
	h.finish(left, h.verify(left, may...))
	if committed { // without opening again, if the store has not failed
		if err := h.r.Volume.Restore(context.Background()); err == nil {
			h.finish(h.r, target)
		}
	}
	return failed
}
