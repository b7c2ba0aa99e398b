// SPDX-License-Identifier: Apache-2.0

package nvramsim

import (
	"sync/atomic"
	"time"
)

// Clock is virtual time, shared by the models of one stack. The zero value is
// ready and reads zero. It is safe for concurrent use.
type Clock struct {
	ns atomic.Int64
}

// Now returns the virtual time since the clock's start.
func (c *Clock) Now() time.Duration { return time.Duration(c.ns.Load()) }

// Advance lets d pass, for time that a host spends thinking. Negative d counts
// as zero.
func (c *Clock) Advance(d time.Duration) { c.ns.Add(int64(max(d, 0))) }

// reach advances to t nanoseconds unless it is later already.
func (c *Clock) reach(t int64) {
	for {
		now := c.ns.Load()
		if now >= t || c.ns.CompareAndSwap(now, t) {
			return
		}
	}
}
