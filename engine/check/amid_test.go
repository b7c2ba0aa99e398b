// SPDX-License-Identifier: Apache-2.0

package check_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/check/checktest"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/layout"
)

// crowded returns a store whose trees are far larger than its server's cache, so
// that most changes of a tree read pages, and let others in meanwhile.
func crowded(t testing.TB) *rig {
	r := newRig(t, shape{layout.PlacementInline, true})
	for tag := block.Tag(1); tag <= 8; tag++ {
		r.snapshot(tag)
		r.scribble(60)
	}
	r.close()
	r.cache = 1
	r.open()
	return r
}

// atRead runs f during the n-th read of metadata from now on, and reports through
// the result whether there was one.
func (r *rig) atRead(n int, f func()) (reached *bool) {
	reached = new(bool)
	r.onRead = func() {
		if n--; n == 0 {
			r.onRead = nil
			*reached = true
			f()
		}
	}
	return reached
}

// tryCheckpoint begins a checkpoint and waits for its end, but not for long: it
// may have to wait for the caller.
func (r *rig) tryCheckpoint() (done chan error) {
	return try(func() error {
		_, err := r.server.Checkpoint()
		return err
	})
}

// try begins something and waits for its end, but not for long.
func try(f func() error) (done chan error) {
	done = make(chan error, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		done <- f()
	}()
	select {
	case <-ended:
	case <-time.After(10 * time.Millisecond):
	}
	return done
}

// crashAtWrite returns where the rig will be as a power cut leaves it at the next
// write of metadata.
func (r *rig) crashAtWrite() *atomic.Pointer[rig] {
	var crashed atomic.Pointer[rig]
	r.meta.SetHook(func(e memdev.Event) {
		if e.Kind == memdev.Wrote && crashed.Load() == nil {
			crashed.CompareAndSwap(nil, r.crash(memdev.Fate{}))
		}
	})
	return &crashed
}

// spread overwrites chunks all over the origin in one batch.
func (r *rig) spread() {
	var ops []device.Op
	for off := int64(0); off < originSize; off += 31 * chunkSize {
		ops = append(ops, device.Op{Kind: device.Write, Off: off, Data: make([]byte, block.SectorSize)})
	}
	require.NoError(r.t, r.volume.Do(ops))
}

// A checkpoint that began amid a report held a part of the batch, and placed the
// log before it. Recovery replayed the batch, and when its snapshot was deleted by
// then freed its slots, though exceptions of the checkpoint were still in them.
func TestCheckpointAmidReport(t *testing.T) {
	for n := 1; ; n += 3 {
		r := crowded(t)
		r.snapshot(9)
		var done, deleted chan error
		var crashed *atomic.Pointer[rig]
		reached := r.atRead(n, func() {
			done = r.tryCheckpoint()
			// The read may be of a checkpoint that the report takes, and that a deletion waits for.
			deleted = try(func() error { return r.server.DeleteSnapshot(9) })
			crashed = r.crashAtWrite()
		})
		r.spread()
		if !*reached {
			require.Greater(t, n, 10)
			return
		}
		require.NoError(t, <-done)
		require.NoError(t, <-deleted)
		_, err := r.server.Checkpoint()
		require.NoError(t, err)
		if c := crashed.Load(); c != nil {
			checktest.MustBeClean(t, c.checked())
			c.open()
			checktest.MustBeClean(t, c.checked())
			c.close()
			checktest.MustBeClean(t, c.checked())
		}
	}
}

// Nor does a checkpoint amid a deletion, which takes an exception from one tree and
// then from the other, leave anything behind.
func TestCheckpointAmidDeletion(t *testing.T) {
	for n := 1; ; n += 5 {
		r := crowded(t)
		require.NoError(t, r.server.DeleteSnapshot(4))
		var done chan error
		var crashed *atomic.Pointer[rig]
		reached := r.atRead(n, func() {
			done = r.tryCheckpoint()
			crashed = r.crashAtWrite()
		})
		r.maintain()
		if !*reached {
			require.Greater(t, n, 10)
			return
		}
		require.NoError(t, <-done)
		_, err := r.server.Checkpoint()
		require.NoError(t, err)
		if c := crashed.Load(); c != nil {
			require.Empty(t, checktest.Violations(c.checked(), 0))
			c.open()
			c.maintain()
			c.close()
			require.Empty(t, checktest.Violations(c.checked(), 0))
		}
	}
}
