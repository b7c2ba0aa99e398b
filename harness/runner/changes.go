// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/check/checktest"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/wire"
	"zumastor.org/zumastor/results"
)

// changes lists what changed between snapshots of a store of very many exceptions,
// spread evenly over its snapshots. Each list is of other snapshots, of which nothing
// is in the store's cache; the file may be in that of the kernel.
type changes struct {
	bench
	tmp   string
	file  *device.File
	store *store.Store
}

// changesChunk makes a volume of 19 TiB of ten million exceptions.
const changesChunk = 512 << 10

func (x *changes) prepare(context.Context) (err error) {
	if x.tmp, err = os.MkdirTemp(x.dir, "zbench-"); err != nil {
		return err
	}
	contents := checktest.Synthetic{Exceptions: x.Exceptions, Snapshots: x.Snapshots[0], ChunkSize: changesChunk, Seed: x.seed}
	if x.file, err = device.OpenFile(filepath.Join(x.tmp, "store"), device.FileOptions{Create: contents.StoreSize()}); err != nil {
		return err
	}
	if err := contents.Write(x.file); err != nil {
		return fmt.Errorf("making a store of %d exceptions: %w", x.Exceptions, err)
	}
	x.store, err = store.Open(placement.Devices{Store: x.file}, store.Options{})
	return err
}

func (x *changes) close() (err error) {
	if x.store != nil {
		err = x.store.Close()
	}
	if x.file != nil {
		err = errors.Join(err, x.file.Close())
	}
	if x.tmp != "" {
		err = errors.Join(err, os.RemoveAll(x.tmp))
	}
	return err
}

func (x *changes) round(ctx context.Context, n int) (all []results.Sample, err error) {
	rng := x.random(n)
	each := x.Exceptions / x.Snapshots[0]
	for _, apart := range []int{1, 10} {
		var t tally
		for range x.MinOps {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			from := block.Tag(1 + rng.IntN(x.Snapshots[0]-apart))
			to := from + block.Tag(apart)
			began := time.Now()
			list, err := x.store.ChangeList(store.ChangeQuery{From: &wire.SnapshotRef{Tag: from}, To: &wire.SnapshotRef{Tag: to}})
			if err != nil {
				return nil, err
			}
			t.elapsed, t.ops = t.elapsed+time.Since(began), t.ops+1
			if len(list.Runs) < each*apart*9/10 {
				return nil, fmt.Errorf("the list from snapshot %d to %d has %d runs only", from, to, len(list.Runs))
			}
		}
		all = append(all, t.sample(x.Name, results.Measured, n, config("list", "", 0, 0, noSnapshots, "").
			With("exceptions", strconv.Itoa(x.Exceptions)).With("changed", strconv.Itoa(each*apart))))
	}
	return all, nil
}
