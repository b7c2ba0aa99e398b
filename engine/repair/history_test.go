// SPDX-License-Identifier: Apache-2.0

package repair_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/check"
	"zumastor.org/zumastor/engine/check/checktest"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/journal"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/repair"
	"zumastor.org/zumastor/engine/repair/damage"
	"zumastor.org/zumastor/engine/server"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
	"zumastor.org/zumastor/engine/wire"
)

const (
	chunkSize  = 4 << 10
	originSize = 3<<20 + 3*block.SectorSize
)

// history is a store with a past, and what its snapshots hold.
type history struct {
	r       *rig.Rig
	rng     *rand.Rand
	content map[block.Tag][]byte
	parent  map[block.Tag]block.Tag
	next    block.Tag
	origin  []byte
}

func options(p layout.Placement, separate bool) rig.Options {
	return rig.Options{
		OriginSize: originSize, ChunkSize: chunkSize, Placement: p, Separate: separate, StoreSize: 64 << 20, MetaSize: 8 << 20,
		JournalSize: 1 << 20, StoreLeaseBytes: 1 << 20, AheadBytes: -1,
	}
}

// newHistory returns a store after random writes to the origin and to snapshots,
// snapshots of both, deletions and checkpoints. What was written to snapshots is
// durable.
func newHistory(t testing.TB, seed uint64, o rig.Options) *history {
	h := emptyHistory(t, seed, o)
	for round := range 14 {
		h.round(t, round, true)
	}
	return h
}

// emptyHistory returns a store without a past.
func emptyHistory(t testing.TB, seed uint64, o rig.Options) *history {
	r, err := rig.New(o, rig.Wrappers{})
	require.NoError(t, err)
	t.Cleanup(r.Abandon)
	return &history{
		r: r, rng: rand.New(rand.NewPCG(seed, 11)), content: map[block.Tag][]byte{}, parent: map[block.Tag]block.Tag{}, next: 1,
		origin: make([]byte, originSize),
	}
}

// round makes a snapshot and writes; with branches, to snapshots too.
func (h *history) round(t testing.TB, round int, branches bool) {
	parent := block.Tag(0)
	if tags := h.tags(); branches && len(tags) > 0 && h.rng.IntN(3) == 0 {
		parent = tags[h.rng.IntN(len(tags))]
	}
	h.create(t, parent)
	for range 60 {
		h.write(t)
	}
	if branches && h.rng.IntN(2) == 0 {
		tags := h.tags()
		h.writeTo(t, tags[h.rng.IntN(len(tags))])
	}
	if round%5 == 4 {
		h.remove(t)
	}
	if round < 12 && h.rng.IntN(2) == 0 {
		require.NoError(t, h.r.Maintain())
		require.NoError(t, h.r.Server.Store.Checkpoint())
	}
}

func (h *history) tags() (list []block.Tag) {
	for tag := block.Tag(1); tag < h.next; tag++ {
		if h.content[tag] != nil {
			list = append(list, tag)
		}
	}
	return list
}

func (h *history) create(t testing.TB, parent block.Tag) {
	n, from := store.NewSnapshot{Tag: h.next}, h.origin
	if parent != 0 {
		n.Parent, from = &wire.SnapshotRef{Tag: parent}, h.content[parent]
	}
	_, err := h.r.Server.Create(n)
	require.NoError(t, err)
	h.content[h.next], h.parent[h.next] = bytes.Clone(from), parent
	h.next++
}

func (h *history) extent() (int64, []byte) {
	p := make([]byte, (1+h.rng.IntN(30))*block.SectorSize)
	for i := range p {
		p[i] = byte(h.rng.Uint32())
	}
	return h.rng.Int64N((originSize-int64(len(p)))/block.SectorSize) * block.SectorSize, p
}

func (h *history) write(t testing.TB) {
	off, p := h.extent()
	_, err := h.r.Volume.WriteAt(p, off)
	require.NoError(t, err)
	copy(h.origin[off:], p)
}

func (h *history) writeTo(t testing.TB, tag block.Tag) {
	s, err := volume.OpenSnapshotRef(h.r.Source(), wire.SnapshotRef{Tag: tag}, true)
	require.NoError(t, err)
	for range 20 {
		off, p := h.extent()
		_, err := s.WriteAt(p, off)
		require.NoError(t, err)
		copy(h.content[tag][off:], p)
	}
	require.NoError(t, s.Close())
}

// remove deletes a snapshot that has none of its own.
func (h *history) remove(t testing.TB) {
	for _, tag := range h.tags() {
		leaf := true
		for _, other := range h.tags() {
			leaf = leaf && h.parent[other] != tag
		}
		if leaf && h.rng.IntN(2) == 0 {
			require.NoError(t, h.r.Server.DeleteSnapshot(tag))
			delete(h.content, tag)
			return
		}
	}
}

// copied returns the store as it is now, on devices of its own, that can be damaged.
type copied struct {
	origin      device.Device
	store, meta *damage.Device // meta is store where they are one
	journal     journal.Medium
	separate    bool
	placement   layout.Placement
}

func (h *history) copied() *copied {
	r := h.r.Flushed()
	c := &copied{origin: r.Origin, store: &damage.Device{Device: r.Devices.Store}, separate: r.Separate, placement: r.Placement, journal: r.Devices.Journal}
	c.meta = c.store
	if c.separate {
		c.meta = &damage.Device{Device: r.Devices.Meta}
	}
	return c
}

func (c *copied) devices() repair.Devices {
	d := repair.Devices{Store: c.store}
	if c.separate {
		d.Meta = c.meta
	}
	if c.journal != nil {
		d.Journal = c.journal
	}
	return d
}

// repaired makes a new store of c, which must be without any fault.
func (c *copied) repaired(t testing.TB) (*repair.Report, placement.Devices) {
	to := placement.Devices{Store: memdev.New(96 << 20)}
	o := repair.Options{Placement: layout.PlacementInline, SortBytes: 64 << 10, TempDir: t.TempDir()}
	report, err := repair.Run(context.Background(), c.devices(), to, o)
	require.NoError(t, err)
	checktest.MustBeClean(t, check.Devices{Store: to.Store})
	return report, to
}

// survival is how many chunks of snapshots came through.
type survival struct{ right, lost, damaged, wrong, missing int }

func (s *survival) add(o survival) {
	s.right, s.lost, s.damaged = s.right+o.right, s.lost+o.lost, s.damaged+o.damaged
	s.wrong, s.missing = s.wrong+o.wrong, s.missing+o.missing
}

// fraction returns the part of all that reads right and is not called damaged.
func (s survival) fraction() float64 {
	return float64(s.right) / float64(max(1, s.right+s.lost+s.damaged+s.wrong+s.missing))
}

// compare reads all snapshots of the new store.
func (h *history) compare(t testing.TB, c *copied, to placement.Devices) (s survival) {
	srv, err := server.Open(to, server.Options{Manual: true})
	require.NoError(t, err)
	defer func() { require.NoError(t, srv.Close()) }()
	src := volume.SnapshotSource{Server: srv, Origin: c.origin, Store: to, ChunkSize: chunkSize, DataOffset: srv.DataOffset()}
	found := map[block.Tag]bool{}
	for _, info := range srv.Snapshots() {
		want := h.content[info.Tag]
		found[info.Tag] = true
		if info.Damaged {
			s.damaged += (originSize + chunkSize - 1) / chunkSize
			continue
		}
		require.NotNil(t, want, "snapshot %d was deleted", info.Tag)
		snap, err := volume.OpenSnapshot(src, info.Tag)
		require.NoError(t, err)
		for off := int64(0); off < originSize; off += chunkSize {
			p := make([]byte, min(chunkSize, originSize-off))
			switch _, err := snap.ReadAt(p, off); {
			case err != nil:
				s.lost++
			case bytes.Equal(p, want[off:off+int64(len(p))]):
				s.right++
			default:
				s.wrong++
				t.Errorf("snapshot %d, chunk %d: wrong bytes", info.Tag, off/chunkSize)
			}
		}
		require.NoError(t, snap.Close())
	}
	for tag := range h.content {
		if !found[tag] {
			s.missing += (originSize + chunkSize - 1) / chunkSize
		}
	}
	return s
}
