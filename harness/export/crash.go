// SPDX-License-Identifier: Apache-2.0

package export

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/harness/stack"
)

// What is written before a part says that it is ready to be killed.
const (
	crashGroups = 64
	crashGroup  = 32 // writes at once
)

// writeOn writes blocks at random places of an origin with an existing store, again
// and again at the same ones so that the store does not fill, until it is killed. It
// says "ready" when there is something to recover from.
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
	var rng *rand.Rand
	v := st.Device()
	for n := 0; ctx.Err() == nil; n++ {
		if n == crashGroups {
			if _, err := fmt.Fprintln(out, "ready"); err != nil {
				return err
			}
		}
		if n%crashGroups == 0 {
			rng = rand.New(rand.NewPCG(seed, 1))
		}
		var wg sync.WaitGroup
		errs := make([]error, crashGroup)
		for i := range errs {
			off := rng.Int64N(v.Size()/block.PageSize) * block.PageSize
			wg.Go(func() { _, errs[i] = v.WriteAt(device.Buffer(block.PageSize), off) })
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}
