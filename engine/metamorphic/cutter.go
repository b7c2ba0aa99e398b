// SPDX-License-Identifier: Apache-2.0

package metamorphic

import (
	"fmt"
	"math/rand/v2"

	"zumastor.org/zumastor/engine/check"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/metamorphic/rig"
)

// cutter cuts the power of copies of a runner's machine while the runner works,
// and has each copy recover. With depth, the power of the copies fails again
// while they recover.
type cutter struct {
	of    *Runner
	rng   *rand.Rand
	draws int // power cuts at each begin and end of a flush
	depth int
	every int // of the events at which it may cut, one in so many is taken; 0: all
	most  int // power cuts in all; 0: no limit
	cuts  int
	again int // of those, in recoveries
	err   error
}

// fates are what power cuts do, in turn.
func (c *cutter) fate() memdev.Fate {
	switch c.cuts % 4 {
	case 0:
		return memdev.Fate{}
	case 1:
		return memdev.Fate{Tear: 1}
	case 2:
		return memdev.Fate{Keep: 1}
	}
	return memdev.RandomFate(c.rng)
}

// watch makes c cut at the events of its runner's machine.
func (c *cutter) watch() { c.of.Rig.Machine.SetHook(c.event) }

func (c *cutter) event(e memdev.Event) {
	if (e.Kind == memdev.Wrote || e.Kind == memdev.Discarded) && c.rng.IntN(8) > 0 {
		return
	}
	if c.every > 0 && c.rng.IntN(c.every) > 0 {
		return
	}
	for n := 0; n < c.draws && (c.most == 0 || c.cuts < c.most) && c.err == nil; n++ {
		if err := c.cut(); err != nil {
			c.err = fmt.Errorf("power cut %d, depth %d: %w", c.cuts, c.depth, err)
		}
	}
}

// cut cuts the power of a copy, and lets it recover.
func (c *cutter) cut() error {
	fate := c.fate()
	c.cuts++
	left := c.of.Rig.Crash(c.rng, fate)
	r := &Runner{Rig: left, Model: c.of.Model.Clone()}
	if c.rng.IntN(5) == 0 {
		r.Check = checkStore
	}
	again := &cutter{of: r, rng: c.rng, draws: 1, every: c.every}
	if c.depth > 0 && c.rng.IntN(7) == 0 {
		again.depth = c.depth - 1
		again.watch()
	}
	err := r.Crash(left)
	left.Machine.SetHook(nil)
	left.Abandon()
	c.again += again.cuts + again.again
	if err == nil {
		err = again.err
	}
	if err != nil {
		return fmt.Errorf("%+v: %w", fate, err)
	}
	return nil
}

// checkStore has the independent checker judge what is on a rig's devices. The
// content of preserved chunks is left to the comparison with the model.
func checkStore(r *rig.Rig) error {
	text, n := "", 0
	devices := check.Devices{Store: r.Devices.Store, Meta: r.Devices.Meta, Journal: r.Devices.Journal}
	for v := range check.Check(devices, check.Options{}) {
		if v.Severity >= check.Leak {
			text += "\n  " + v.String()
			n++
		}
	}
	if n > 0 {
		return fmt.Errorf("store has %d violations:%s", n, text)
	}
	return nil
}
