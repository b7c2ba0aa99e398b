// SPDX-License-Identifier: Apache-2.0

package check_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/check"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/journal"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/server"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
)

const (
	originSize  = 4<<20 + 3*block.SectorSize // a partial last chunk
	storeSize   = 32 << 20
	metaSize    = 4 << 20
	journalSize = 1 << 20
	chunkSize   = 8 << 10
)

// shape is how a test store is laid out.
type shape struct {
	placement layout.Placement
	separate  bool
}

func (s shape) String() string { return fmt.Sprintf("%v separate=%t", s.placement, s.separate) }

func shapes() []shape {
	var all []shape
	for p := layout.PlacementInline; p <= layout.PlacementPMem; p++ {
		all = append(all, shape{p, false}, shape{p, true})
	}
	return all
}

// memory is persistent memory that loses nothing.
type memory []byte

func (m memory) ReadAt(p []byte, off int64) (int, error)  { return copy(p, m[off:]), nil }
func (m memory) WriteAt(p []byte, off int64) (int, error) { return copy(m[off:], p), nil }
func (m memory) Persist(_, _ int64) error                 { return nil }
func (m memory) Size() int64                              { return int64(len(m)) }

// rig is an origin with a store in memory.
type rig struct {
	t      testing.TB
	shape  shape
	origin *memdev.Device
	data   *memdev.Device
	meta   *memdev.Device // nil unless separate
	nvram  *memdev.Device // nil unless placement nvram
	pmem   memory         // nil unless placement pmem
	server *server.Server
	volume *volume.Origin
	rng    *rand.Rand
	onRead func() // if not nil, before every read of the metadata device
	cache  int64  // bytes of the server's cache; zero is its default
}

// listened tells of reads.
type listened struct {
	*memdev.Device
	rig *rig
}

func (l listened) ReadAt(p []byte, off int64) (int, error) {
	if f := l.rig.onRead; f != nil {
		f()
	}
	return l.Device.ReadAt(p, off)
}

// newRig formats and opens a store. Its server works by hand.
func newRig(t testing.TB, s shape) *rig {
	r := &rig{t: t, shape: s, origin: memdev.NewVolatile(originSize), data: memdev.NewVolatile(storeSize), rng: rand.New(rand.NewPCG(7, 7))}
	if s.separate {
		r.meta = memdev.NewVolatile(metaSize)
	}
	switch s.placement {
	case layout.PlacementNVRAM:
		r.nvram = memdev.NewVolatile(journalSize)
	case layout.PlacementPMem:
		r.pmem = make(memory, journalSize)
	}
	_, err := store.Format(r.devices(), store.FormatOptions{
		OriginSize: originSize, ChunkSize: chunkSize, Placement: s.placement, JournalSize: journalSize,
	})
	require.NoError(t, err)
	r.open()
	return r
}

// devices returns the devices as the engine takes them.
func (r *rig) devices() placement.Devices {
	d := placement.Devices{Store: r.data}
	if r.meta != nil {
		d.Meta = listened{r.meta, r}
	}
	if r.nvram != nil {
		d.Journal = journal.OnDevice{Device: r.nvram}
	}
	if r.pmem != nil {
		d.Journal = r.pmem
	}
	return d
}

// checked returns the devices as the checker takes them.
func (r *rig) checked() check.Devices {
	d := r.devices()
	return check.Devices{Store: d.Store, Meta: d.Meta, Journal: d.Journal}
}

// metadata returns the device of the metadata area.
func (r *rig) metadata() *memdev.Device {
	if r.meta != nil {
		return r.meta
	}
	return r.data
}

func (r *rig) open() {
	var err error
	r.server, err = server.Open(r.devices(), server.Options{Manual: true, Store: store.Options{CacheBytes: r.cache}})
	require.NoError(r.t, err)
	r.volume, err = volume.OpenOrigin(r.server, r.origin, r.devices(), volume.Options{AheadBytes: -1})
	require.NoError(r.t, err)
}

func (r *rig) close() {
	require.NoError(r.t, r.volume.Close())
	require.NoError(r.t, r.server.Close())
}

func (r *rig) snapshot(tag block.Tag) {
	_, err := r.server.CreateSnapshot(tag)
	require.NoError(r.t, err)
}

// scribble writes n batches of writes to random places.
func (r *rig) scribble(n int) {
	for range n {
		ops := make([]device.Op, 1+r.rng.IntN(8))
		for i := range ops {
			size := (1 + r.rng.IntN(40)) * block.SectorSize
			off := r.rng.Int64N((originSize-int64(size))/block.SectorSize) * block.SectorSize
			ops[i] = device.Op{Kind: device.Write, Off: off, Data: bytes.Repeat([]byte{byte(r.rng.Uint32())}, size)}
		}
		require.NoError(r.t, r.volume.Do(ops))
	}
}

// maintain does all background work.
func (r *rig) maintain() {
	for more := true; more; {
		var err error
		more, err = r.server.Maintain()
		require.NoError(r.t, err)
	}
}

// fill makes a store with a past: snapshots made and deleted, checkpoints, and
// something in both logs.
func (r *rig) fill() {
	for tag := block.Tag(1); tag <= 6; tag++ {
		r.snapshot(tag)
		r.scribble(12)
		if tag == 3 {
			_, err := r.server.Checkpoint()
			require.NoError(r.t, err)
			require.NoError(r.t, r.server.DeleteSnapshot(2))
			r.maintain()
		}
	}
	_, err := r.server.Checkpoint()
	require.NoError(r.t, err)
	r.snapshot(7)
	r.scribble(10)
}

// crash returns the rig after a power cut, not opened.
func (r *rig) crash(fate memdev.Fate) *rig {
	to := *r
	to.server, to.volume = nil, nil
	for _, d := range []**memdev.Device{&to.origin, &to.data, &to.meta, &to.nvram} {
		if *d != nil {
			*d = (*d).Crash(r.rng, fate)
		}
	}
	to.pmem = bytes.Clone(r.pmem)
	return &to
}

// find returns the violations of a check.
func (r *rig) find(o check.Options) []check.Violation {
	var found []check.Violation
	for v := range check.Check(r.checked(), o) {
		found = append(found, v)
	}
	return found
}
