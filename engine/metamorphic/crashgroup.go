// SPDX-License-Identifier: Apache-2.0

package metamorphic

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/group"
	"zumastor.org/zumastor/engine/model"
)

// groupTag is the tag of a group's snapshots.
const groupTag block.Tag = 10

// groupCutter cuts the power of two volumes at one instant while a snapshot of both
// is made. What has begun an event waits, so while one machine is cut off, and then
// the other, neither goes on beyond what it has of the other.
type groupCutter struct {
	of    [2]*Runner
	mu    sync.Mutex
	rng   *rand.Rand
	every int
	most  int
	cuts  int
	again int
	err   error
}

// groupRun is crashRun for a snapshot of two volumes.
func groupRun(rng *rand.Rand, verb Verb, most int, b *breaker) (cuts, again int, err error) {
	b.broken.Store(false)
	c := &groupCutter{rng: rng, every: 1 + rng.IntN(2), most: most}
	for i := range c.of {
		r, err := NewRunner(pick(rng, setups()...), b.Wrappers)
		if err != nil {
			return 0, 0, err
		}
		c.of[i] = r
		defer func() { r.Rig.Abandon() }()
		if err := r.All(past(rng, r.Rig.Options, verb)); err != nil {
			return 0, 0, fmt.Errorf("before: %w", err)
		}
		r.Model.Creating(groupTag, model.Parent{}, model.Attributes{})
	}
	b.broken.Store(true)
	for _, r := range c.of {
		r.Rig.Machine.SetHook(c.event)
	}
	_, err = group.Create(context.Background(), members(c.of), group.Options{Tag: groupTag})
	for _, r := range c.of {
		r.Rig.Machine.SetHook(nil)
	}
	if err = errors.Join(err, c.err); err != nil {
		return c.cuts, c.again, err
	}
	for _, r := range c.of {
		r.Model.Created(groupTag)
		if err := r.Compare(); err != nil {
			return c.cuts, c.again, err
		}
	}
	return c.cuts, c.again, nil
}

func members(of [2]*Runner) []group.Named {
	return []group.Named{{Name: "a", Member: of[0].Rig.Server.Store}, {Name: "b", Member: of[1].Rig.Server.Store}}
}

func (c *groupCutter) event(memdev.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil || c.cuts >= c.most || c.rng.IntN(c.every) > 0 {
		return
	}
	c.cuts++
	if err := c.cut(); err != nil {
		c.err = fmt.Errorf("power cut %d: %w", c.cuts, err)
	}
}

// cut cuts the power of copies of both and has the group resolved: both have its
// snapshot then, or none has.
func (c *groupCutter) cut() error {
	var left [2]*Runner
	for i, r := range c.of {
		left[i] = &Runner{Rig: r.Rig.Crash(c.rng, memdev.RandomFate(c.rng)), Model: r.Model.Clone()}
		defer func() { left[i].Rig.Abandon() }()
	}
	if c.cuts%5 == 0 { // the power fails again while the first recovers
		again := left[0].Rig
		if err := again.Open(); err != nil {
			return err
		}
		left[0].Rig = again.Crash(c.rng, memdev.RandomFate(c.rng))
		again.Abandon()
		c.again++
	}
	for _, r := range left {
		if err := checkStore(r.Rig); err != nil {
			return err
		}
		if err := r.Rig.Open(); err != nil {
			return fmt.Errorf("after a power cut: %w", err)
		}
	}
	if _, err := group.Resolve(members(left), false); err != nil {
		return err
	}
	for _, r := range left {
		if err := r.Recovered(); err != nil {
			return err
		}
	}
	if a, b := left[0].Model.Snapshot(groupTag), left[1].Model.Snapshot(groupTag); (a == nil) != (b == nil) {
		return fmt.Errorf("one volume has its snapshot of the group: %t, the other: %t", a != nil, b != nil)
	}
	return nil
}
