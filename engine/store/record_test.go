// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/wire"
)

// intruder holds the next read of a page until a snapshot's record is written, and
// the writing of the record until what was read has had time to reach the cache.
type intruder struct {
	device.Device
	mu      sync.Mutex
	armed   bool
	reading chan struct{} // closed when the read is held
	writing chan struct{} // closed when the record is written
}

func (d *intruder) ReadAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	hold := d.armed
	d.armed = false
	d.mu.Unlock()
	if hold {
		close(d.reading)
		<-d.writing
	}
	return d.Device.ReadAt(p, off)
}

func (d *intruder) WriteAt(p []byte, off int64) (int, error) {
	n, err := d.Device.WriteAt(p, off)
	select {
	case <-d.reading:
		select {
		case <-d.writing:
		default:
			close(d.writing)
			time.Sleep(20 * time.Millisecond)
		}
	default:
	}
	return n, err
}

// A page that another goroutine loaded while a snapshot's record was written drove
// the snapshot tree's leaf out of the cache. The creation then began anew after
// its record was durable: after a power cut there were two snapshots of one tag.
func TestSnapshotIsRecordedOnce(t *testing.T) {
	for cache := int64(300); cache < 3000; cache += 300 { // one of them has room for one of the pages
		recordOnce(t, cache)
	}
}

func recordOnce(t *testing.T, cache int64) {
	var meta *intruder
	o := options(4<<10, 1000)
	o.Separate, o.MetaSize, o.CacheBytes = true, 16<<20, cache
	r, err := rig.New(o, rig.Wrappers{Device: func(name string, d device.Device) device.Device {
		if name != rig.Meta {
			return d
		}
		meta = &intruder{Device: d, reading: make(chan struct{}), writing: make(chan struct{})}
		return meta
	}})
	require.NoError(t, err)
	defer r.Abandon()
	create := func(tag block.Tag) layout.Snapshot {
		s, err := r.Server.CreateSnapshot(tag)
		require.NoError(t, err)
		return s
	}
	create(1)
	_, err = r.Volume.WriteAt(make([]byte, 4096), 0)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	require.NoError(t, r.Open())
	second := create(2)
	_, err = r.Server.Checkpoint() // the leaf with both is clean and in the cache, the exceptions' is not
	require.NoError(t, err)

	opened, err := r.Server.OpenSnapshot(wire.SnapshotRef{Tag: 1}, false, rig.Passive{})
	require.NoError(t, err)
	meta.mu.Lock()
	meta.armed = true
	meta.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := r.Server.Map(opened.Handle, 0, 1, []wire.Mapping{})
		if err != nil {
			t.Error(err)
		}
	})
	<-meta.reading
	third := create(3)
	wg.Wait()
	require.Equal(t, second.Generation+1, third.Generation)

	left := r.Crash(rand.New(rand.NewPCG(1, 1)), memdev.Fate{})
	require.NoError(t, left.Open())
	defer left.Abandon()
	require.Equal(t, []block.Tag{1, 2, 3}, left.Live())
}
