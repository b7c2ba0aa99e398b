// SPDX-License-Identifier: Apache-2.0

package metamorphic

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/errdev"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/model"
)

// unit is the sectors that one write always writes together. It divides no chunk,
// so some lie in two.
const unit = 3

// crowd is writers that write units of an origin, each unit's versions one after
// another, while snapshots are taken. A snapshot must hold of each unit, whole, a
// version that was the unit's at some time during the snapshot's creation.
type crowd struct {
	t       *testing.T
	rig     *rig.Rig
	begun   []atomic.Uint64 // by unit: the last version whose write has begun
	done    []atomic.Uint64 // whose write has returned
	writes  atomic.Int64
	stop    atomic.Bool
	writers sync.WaitGroup
	errs    bool // writes may fail; the version of one that does may be there or not
}

// bounds are the versions of each unit that a snapshot may hold.
type bounds struct{ low, high []uint64 }

func newCrowd(t *testing.T, o rig.Options, w rig.Wrappers) *crowd {
	r, err := rig.New(o, w)
	require.NoError(t, err)
	units := o.OriginSize / block.SectorSize / unit
	c := &crowd{t: t, rig: r, begun: make([]atomic.Uint64, units), done: make([]atomic.Uint64, units)}
	t.Cleanup(func() {
		c.end()
		c.rig.Abandon()
	})
	return c
}

// end stops the writers.
func (c *crowd) end() {
	c.stop.Store(true)
	c.writers.Wait()
}

// start lets n writers loose. Writer i writes the units whose number is i modulo n.
func (c *crowd) start(n int) {
	for w := range n {
		c.writers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 77))
			for !c.stop.Load() {
				if err := c.write(rng, w, n); err != nil {
					c.t.Error(err)
					return
				}
			}
		})
	}
}

// write writes the next version of a unit or, in one submission, of several.
func (c *crowd) write(rng *rand.Rand, w, n int) error {
	var ops []device.Op
	var units []int
	first := rng.IntN(len(c.done)/n-4)*n + w
	for u := first; len(units) < 1+rng.IntN(4); u += n {
		version := c.begun[u].Add(1)
		p := device.Buffer(unit * block.SectorSize)
		model.Written(version).Fill(p, int64(u*unit))
		ops = append(ops, device.Op{Kind: device.Write, Off: int64(u) * unit * block.SectorSize, Data: p})
		units = append(units, u)
	}
	err := c.rig.Volume.Do(ops)
	c.writes.Add(1)
	if err != nil && c.errs {
		return nil
	}
	if err != nil {
		return err
	}
	for _, u := range units {
		c.done[u].Store(c.begun[u].Load())
	}
	return nil
}

func load(versions []atomic.Uint64) []uint64 {
	out := make([]uint64, len(versions))
	for i := range versions {
		out[i] = versions[i].Load()
	}
	return out
}

// await returns when n more writes have been made, or a writer has failed.
func (c *crowd) await(n int64) {
	for end := c.writes.Load() + n; c.writes.Load() < end && !c.t.Failed(); {
		runtime.Gosched()
	}
}

// snapshot makes a snapshot and returns what it may hold.
func (c *crowd) snapshot(tag block.Tag) bounds {
	low := load(c.done)
	_, err := c.rig.Server.CreateSnapshot(tag)
	require.NoError(c.t, err)
	return bounds{low, load(c.begun)}
}

// verify reads a snapshot of r and compares.
func (b bounds) verify(r *rig.Rig, tag block.Tag) error {
	p, err := r.ReadSnapshot(tag, 0, r.OriginSize)
	if err != nil {
		return err
	}
	for u := range b.low {
		if !b.holds(u, p[u*unit*block.SectorSize:]) {
			return fmt.Errorf("snapshot %d: unit %d is of no version from %d to %d, or of two", tag, u, b.low[u], b.high[u])
		}
	}
	return nil
}

func (b bounds) holds(u int, p []byte) bool {
	for version := b.low[u]; version <= b.high[u]; version++ {
		whole := true
		for i := range unit {
			want := model.Zero
			if version > 0 {
				want = model.Written(version)(int64(u*unit + i))
			}
			whole = whole && want.Is(p[i*block.SectorSize:(i+1)*block.SectorSize])
		}
		if whole {
			return true
		}
	}
	return false
}

func TestSnapshotsUnderConcurrentWrites(t *testing.T) {
	for i, o := range setups() {
		t.Run(name(o), func(t *testing.T) {
			o.Background = true
			o.OriginSize, o.StoreSize, o.ChunkSize = 256<<10, 64<<20, 4<<10
			o.CheckpointBytes, o.CacheBytes = 300_000, int64(1+i%3*50_000)
			c := newCrowd(t, o, rig.Wrappers{})
			c.start(4)
			rng := rand.New(rand.NewPCG(uint64(i), 3))
			held := map[block.Tag]bounds{}
			for tag := block.Tag(1); tag <= block.Tag(soaking(12, 300)); tag++ {
				c.await(50)
				held[tag] = c.snapshot(tag)
				require.NoError(t, held[tag].verify(c.rig, tag))
				old := pick(rng, slices.Sorted(maps.Keys(held))...)
				require.NoError(t, held[old].verify(c.rig, old))
				if len(held) > 5 {
					require.NoError(t, c.rig.Server.DeleteSnapshot(old))
					delete(held, old)
				}
			}
			left := c.rig.Crash(rng, memdev.RandomFate(rng))
			c.end()
			for tag, b := range held {
				require.NoError(t, b.verify(c.rig, tag))
			}
			c.rig.Abandon()
			require.NoError(t, checkStore(c.rig))

			require.NoError(t, checkStore(left))
			require.NoError(t, left.Open())
			defer left.Abandon()
			for tag, b := range held {
				require.NoError(t, b.verify(left, tag), "after a power cut")
			}
		})
	}
}

// TestConcurrentWritersMeetErrors lets an I/O of the store fail while several
// writers wait for copy-outs: all of them go on, and no snapshot is harmed.
func TestConcurrentWritersMeetErrors(t *testing.T) {
	for _, o := range setups() {
		t.Run(name(o), func(t *testing.T) {
			o.Background = true
			o.OriginSize, o.StoreSize, o.ChunkSize = 256<<10, 64<<20, 4<<10
			for n := int64(1); n <= int64(soaking(3, 100)); n++ {
				var plan errdev.Plan
				c := newCrowd(t, o, planned(rig.Store, &plan))
				c.errs = true
				c.start(4)
				c.await(10)
				held := map[block.Tag]bounds{1: c.snapshot(1)}
				c.await(10)
				held[2] = c.snapshot(2)
				plan.Inject(errdev.Fault{Kinds: errdev.Writes | errdev.Flushes, Nth: n, Forever: n%2 == 0})
				c.await(60)
				plan.Clear()
				for tag, b := range held {
					require.NoError(t, b.verify(c.rig, tag), "fault %d", n)
				}
				c.end()
				left := c.rig.Flushed()
				c.rig.Abandon()
				require.NoError(t, left.Open())
				for tag, b := range held {
					require.NoError(t, b.verify(left, tag), "fault %d, opened again", n)
				}
				require.NoError(t, left.Close())
				require.NoError(t, checkStore(left))
			}
		})
	}
}
