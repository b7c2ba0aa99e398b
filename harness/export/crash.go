// SPDX-License-Identifier: Apache-2.0

package export

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/harness/stack"
)

// A log is longest just before the checkpoint that is due begins. The writer watches
// crashCycles of them, and is ready when the log is nearly as long as it was; or, so
// that a small store does not fill, once it has a crashShare of the free slots.
const (
	crashCycles = 2
	crashNearly = 0.9
	crashShare  = 1.0 / 32
)

// writeOn writes blocks at random places of an origin with an existing store, one after
// the other so that each has a record of its own in the log, until it is killed. It says
// "ready" when the log is as long as checkpoints let it become.
func writeOn(ctx context.Context, origin, path string, seed uint64, out io.Writer) (err error) {
	bed, err := stack.OpenPaths(origin, path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bed.Close()) }()
	st, err := bed.OpenAll()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	rng := rand.New(rand.NewPCG(seed, 1))
	v, buf := st.Device(), device.Buffer(block.PageSize)
	begin := st.Status()
	most := int64(crashShare * float64(begin.Slots-begin.SlotsUsed) * float64(st.ChunkSize))
	var before, longest int64
	for cycles, ready := 0, false; ctx.Err() == nil; {
		if _, err := v.WriteAt(buf, rng.Int64N(v.Size()/block.PageSize)*block.PageSize); err != nil {
			return err
		}
		now := st.Status().UnsavedBytes
		if now < before {
			cycles++
			longest = max(longest, before)
		}
		before = now
		if long := cycles >= crashCycles && float64(now) >= crashNearly*float64(longest); !ready && (long || now >= most) {
			ready = true
			if _, err := fmt.Fprintln(out, "ready"); err != nil {
				return err
			}
		}
	}
	return context.Cause(ctx)
}
