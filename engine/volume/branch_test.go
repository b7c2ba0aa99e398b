// SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/check"
	"zumastor.org/zumastor/engine/check/checktest"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
	"zumastor.org/zumastor/engine/wire"
)

// forest is a volume with snapshots, and snapshots of these, and what each must
// hold: now, and at least after a crash.
type forest struct {
	t       *testing.T
	rng     *rand.Rand
	r       *rig.Rig
	origin  []byte
	content map[block.Tag][]byte         // by snapshot
	flushed map[block.Tag][]byte         // as of its last flush
	since   map[block.Tag]map[int]string // by sector, the bytes written since
	parent  map[block.Tag]block.Tag
	open    map[block.Tag]*volume.Snapshot
	next    block.Tag
	merging block.Tag
}

const noParent = block.Tag(1<<32 - 1)

func newForest(t *testing.T, seed uint64, o rig.Options, w rig.Wrappers) *forest {
	f := &forest{
		t: t, rng: rand.New(rand.NewPCG(seed, 8)), content: map[block.Tag][]byte{}, flushed: map[block.Tag][]byte{},
		since: map[block.Tag]map[int]string{}, merging: noParent,
		parent: map[block.Tag]block.Tag{}, open: map[block.Tag]*volume.Snapshot{},
	}
	f.r = open(t, o, w)
	f.origin = make([]byte, o.OriginSize)
	return f
}

// tags returns the snapshots in order of tag, which is that of their creation.
func (f *forest) tags() (list []block.Tag) {
	for tag := range f.next {
		if f.content[tag] != nil {
			list = append(list, tag)
		}
	}
	return list
}

func (f *forest) any() (block.Tag, bool) {
	tags := f.tags()
	if len(tags) == 0 {
		return 0, false
	}
	return tags[f.rng.IntN(len(tags))], true
}

// extent returns a random range in whole sectors and bytes for it.
func (f *forest) extent() (off int64, data []byte) {
	sectors := len(f.origin) / block.SectorSize
	n := 1 + f.rng.IntN(min(40, sectors))
	if f.rng.IntN(3) == 0 {
		n = min(sectors, 8*(1+f.rng.IntN(6)))
	}
	at := f.rng.IntN(sectors - n + 1)
	if f.rng.IntN(2) == 0 {
		at = min(at/8*8, sectors-n)
	}
	data = bytes.Repeat([]byte{byte(1 + f.rng.IntN(255))}, n*block.SectorSize)
	return int64(at) * block.SectorSize, data
}

func (f *forest) writer(tag block.Tag) *volume.Snapshot {
	if f.open[tag] == nil {
		s, err := volume.OpenSnapshotRef(f.r.Source(), wire.SnapshotRef{Tag: tag}, true)
		require.NoError(f.t, err)
		f.open[tag] = s
	}
	return f.open[tag]
}

func (f *forest) close(tag block.Tag) {
	if s := f.open[tag]; s != nil {
		require.NoError(f.t, s.Close())
		f.flush(tag)
		delete(f.open, tag)
	}
}

// flush notes that all that was written to a snapshot is durable.
func (f *forest) flush(tag block.Tag) {
	f.flushed[tag], f.since[tag] = bytes.Clone(f.content[tag]), map[int]string{}
}

func (f *forest) step() {
	switch f.rng.IntN(12) {
	case 0, 1, 2:
		off, data := f.extent()
		_, err := f.r.Volume.WriteAt(data, off)
		require.NoError(f.t, err)
		copy(f.origin[off:], data)
	case 3, 4, 5, 6:
		if tag, ok := f.any(); ok {
			off, data := f.extent()
			_, err := f.writer(tag).WriteAt(data, off)
			require.NoError(f.t, err)
			copy(f.content[tag][off:], data)
			for at := int(off); at < int(off)+len(data); at += block.SectorSize {
				f.since[tag][at/block.SectorSize] += string(data[:1])
			}
		}
	case 7:
		f.create(nil)
	case 8:
		if tag, ok := f.any(); ok {
			f.create(&tag)
		}
	case 9:
		f.remove()
	case 10:
		if tag, ok := f.any(); ok {
			require.NoError(f.t, f.writer(tag).Flush())
			f.flush(tag)
		}
	case 11:
		switch f.rng.IntN(3) {
		case 0:
			require.NoError(f.t, f.r.Maintain())
		case 1:
			require.NoError(f.t, f.r.Server.Store.Checkpoint())
			return
		}
		if tag, ok := f.any(); ok {
			f.close(tag)
		}
	}
}

func (f *forest) create(parent *block.Tag) {
	n := store.NewSnapshot{Tag: f.next}
	from := f.origin
	f.parent[f.next] = noParent
	if parent != nil {
		n.Parent = &wire.SnapshotRef{Tag: *parent}
		n.Name = fmt.Sprintf("of-%d-%d", *parent, f.next)
		from = f.content[*parent]
		f.parent[f.next] = *parent
		f.flush(*parent) // what a snapshot is made of is durable
	}
	_, err := f.r.Server.Create(n)
	require.NoError(f.t, err)
	f.content[f.next] = bytes.Clone(from)
	f.flush(f.next)
	f.next++
}

// remove deletes a snapshot, and with luck all under it.
func (f *forest) remove() {
	tag, ok := f.any()
	if !ok {
		return
	}
	doomed := map[block.Tag]bool{tag: true}
	for _, other := range f.tags() {
		if doomed[f.parent[other]] {
			doomed[other] = true
		}
	}
	recursive := f.rng.IntN(2) == 0
	err := f.r.Server.Delete(wire.SnapshotRef{Tag: tag}, recursive)
	for other := range doomed {
		if f.open[other] != nil {
			require.Error(f.t, err)
			return
		}
	}
	if len(doomed) > 1 && !recursive {
		require.ErrorIs(f.t, err, store.ErrHasSnapshots)
		return
	}
	require.NoError(f.t, err)
	for other := range doomed {
		delete(f.content, other)
		delete(f.flushed, other)
		delete(f.parent, other)
	}
}

func (f *forest) verify() {
	for _, tag := range f.tags() {
		if tag == f.merging {
			continue // nobody opens it any more
		}
		got := make([]byte, len(f.origin))
		s := f.open[tag]
		if s == nil {
			var err error
			s, err = volume.OpenSnapshot(f.r.Source(), tag)
			require.NoError(f.t, err)
			defer func() { require.NoError(f.t, s.Close()) }()
		}
		_, err := s.ReadAt(got, 0)
		require.NoError(f.t, err)
		requireSame(f.t, f.content[tag], got, "snapshot %d", tag)
	}
	got, err := f.r.ReadOrigin()
	require.NoError(f.t, err)
	requireSame(f.t, f.origin, got, "origin")
}

func requireSame(t *testing.T, want, got []byte, format string, args ...any) {
	t.Helper()
	for at := 0; at < len(want); at += block.SectorSize {
		if w, g := want[at:at+block.SectorSize], got[at:at+block.SectorSize]; !bytes.Equal(w, g) {
			require.Failf(t, "wrong content", "%s, sector %d: %d, want %d", fmt.Sprintf(format, args...), at/block.SectorSize, g[0], w[0])
		}
	}
}

// reopen closes all in order and opens it again.
func (f *forest) reopen() {
	for _, tag := range f.tags() {
		f.close(tag)
	}
	require.NoError(f.t, f.r.Close())
	f.check()
	require.NoError(f.t, f.r.Open())
}

// check has the checker judge the store, which nobody has open.
func (f *forest) check() {
	d := f.r.Devices
	checktest.MustBeClean(f.t, check.Devices{Store: d.Store, Meta: d.Meta, Journal: d.Journal})
}

// crash cuts the power. Every sector of a snapshot must then be as it was at its
// last flush, or as it was written since.
func (f *forest) crash() {
	left := f.r.Crash(f.rng, memdev.Fate{Keep: 0.5, Tear: 0.5})
	f.r.Abandon()
	f.r = left
	f.check()
	require.NoError(f.t, f.r.Open())
	clear(f.open)
	for _, tag := range f.tags() {
		if tag == f.merging {
			continue
		}
		got, err := f.r.ReadSnapshot(tag, 0, int64(len(f.origin)))
		require.NoError(f.t, err)
		for at := 0; at < len(got); at += block.SectorSize {
			g := got[at : at+block.SectorSize]
			may := string(f.flushed[tag][at:at+1]) + f.since[tag][at/block.SectorSize]
			require.Equal(f.t, bytes.Repeat(g[:1], len(g)), g, "snapshot %d: sector %d is torn", tag, at/block.SectorSize)
			require.Contains(f.t, may, string(g[:1]), "snapshot %d: sector %d", tag, at/block.SectorSize)
		}
		f.content[tag] = got
		f.flush(tag)
	}
	var err error
	f.origin, err = f.r.ReadOrigin()
	require.NoError(f.t, err)
}

// Snapshots, and snapshots of snapshots, read as a model of whole copies says,
// whatever is written to which of them, across deletions, reopening and crashes.
func TestForest(t *testing.T) {
	for _, p := range []layout.Placement{layout.PlacementInline, layout.PlacementNVRAM} {
		for seed := range uint64(4) {
			o := small(p)
			o.ChunkSize, o.OriginSize, o.StoreSize, o.Separate = 4<<10, 300<<10+512, 24<<20, seed%2 == 1
			f := newForest(t, seed, o, rig.Wrappers{})
			for i := range 240 {
				f.step()
				switch {
				case i%40 == 38:
					f.verify()
				case i%97 == 96:
					f.reopen()
					f.verify()
				case i%29 == 28:
					f.crash()
					f.verify()
				}
			}
			f.reopen()
			f.verify()
			require.NoError(t, f.r.Maintain())
			for len(f.tags()) > 0 {
				f.remove()
			}
			require.NoError(t, f.r.Maintain())
			require.NoError(t, f.r.Server.Store.Checkpoint())
			require.Zero(t, f.r.Server.Status().Exceptions, "nothing is kept in vain")
			f.r.Abandon()
		}
	}
}

// patient lets others go first.
type patient struct{ device.Device }

func (d patient) WriteAt(p []byte, off int64) (int, error) {
	for range 20 {
		runtime.Gosched()
	}
	return d.Device.WriteAt(p, off)
}

// Many write to one snapshot at once, in pieces of chunks, while it is read.
func TestConcurrentSnapshotWrites(t *testing.T) {
	o := small(layout.PlacementInline)
	o.ChunkSize, o.OriginSize, o.StoreSize = 16<<10, 1<<20, 24<<20
	f := newForest(t, 1, o, rig.Wrappers{Device: func(_ string, d device.Device) device.Device { return patient{d} }})
	f.create(nil)
	s := f.writer(0)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 1))
			last := make([]byte, 256) // of every eighth sector, which belong to this goroutine
			for n := range 3 * len(last) {
				i := n // all come to a chunk at about the same time
				if n >= len(last) {
					i = rng.IntN(len(last))
				}
				off := int64(i*8+w) * block.SectorSize
				last[i] = byte(1 + rng.IntN(255))
				if _, err := s.WriteAt(bytes.Repeat(last[i:i+1], block.SectorSize), off); err != nil {
					t.Error(err)
				}
				j := rng.IntN(len(last))
				got := make([]byte, block.SectorSize)
				if _, err := s.ReadAt(got, int64(j*8+w)*block.SectorSize); err != nil || got[0] != last[j] {
					t.Errorf("sector %d is %d, want %d: %v", j*8+w, got[0], last[j], err)
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, s.Close())
}
