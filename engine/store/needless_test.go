// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/alloc"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/check"
	"zumastor.org/zumastor/engine/check/checktest"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/wire"
)

const writerChunks = 40

// writer writes to snapshot 1 as a client may: it asks where a chunk is once, until a
// Quiesce, and outlives the server. What it writes to a chunk is a number.
type writer struct {
	t        *testing.T
	devs     placement.Devices
	store    *store.Store
	session  *wire.SnapshotSession
	state    wire.SnapshotState
	leases   []layout.SlotRun
	known    map[block.Chunk]wire.Mapping
	started  []layout.Copy  // written to their slots, not yet reported
	unsynced []layout.Batch // reported, each of a generation
	content  map[block.Chunk]uint64
	taken    map[block.Tag]map[block.Chunk]uint64 // what the snapshots of snapshot 1 hold
	number   uint64
}

func newWriter(t *testing.T) *writer {
	w := &writer{
		t: t, devs: placement.Devices{Store: memdev.New(16 << 20)}, content: map[block.Chunk]uint64{},
		taken: map[block.Tag]map[block.Chunk]uint64{},
	}
	_, err := store.Format(w.devs, store.FormatOptions{OriginSize: writerChunks << 12, ChunkSize: 4 << 10})
	require.NoError(t, err)
	w.store, err = store.Open(w.devs, store.Options{})
	require.NoError(t, err)
	_, err = w.store.CreateSnapshot(1)
	require.NoError(t, err)
	w.open()
	return w
}

// open opens the snapshot, for the first time or of a new server.
func (w *writer) open() {
	var err error
	w.session, err = w.store.OpenSnapshot(wire.SnapshotRef{Tag: 1}, true, w)
	require.NoError(w.t, err)
	w.state, w.leases, w.known = w.session.State, nil, map[block.Chunk]wire.Mapping{}
	for _, b := range w.unsynced {
		require.NoError(w.t, w.store.RestoreBranch(w.session.Handle, b.Generation, b.Copies))
	}
}

// Quiesce implements wire.SnapshotClient.
func (w *writer) Quiesce(change func() (wire.SnapshotState, error)) error {
	w.report()
	state, err := change()
	w.state, w.known = state, map[block.Chunk]wire.Mapping{}
	return err
}

func (w *writer) where(c block.Chunk) wire.Mapping {
	if m, ok := w.known[c]; ok {
		return m
	}
	m := w.mapOf(w.session.Handle, c)
	w.known[c] = m
	return m
}

func (w *writer) mapOf(h wire.Handle, c block.Chunk) wire.Mapping {
	list, err := w.store.Map(h, c, c+1, nil)
	require.NoError(w.t, err)
	require.Len(w.t, list, 1)
	return list[0]
}

// write writes to a chunk: in place, or to a slot that is reported later.
func (w *writer) write(c block.Chunk) {
	for _, s := range w.started {
		if s.Chunk == c {
			w.report() // writes of a chunk do not overtake one another
			break
		}
	}
	w.number++
	w.content[c] = w.number
	m := w.where(c)
	if !m.Owned {
		if m.Slot = w.take(); m.Slot == layout.LostSlot {
			return
		}
		w.started = append(w.started, layout.Copy{Chunk: c, Slot: m.Slot})
	}
	p := make([]byte, block.SectorSize)
	binary.LittleEndian.PutUint64(p, w.number)
	_, err := w.devs.Store.WriteAt(p, w.at(m.Slot))
	require.NoError(w.t, err)
}

func (w *writer) at(s block.Slot) int64 { return w.store.DataOffset() + int64(s)<<12 }

func (w *writer) take() block.Slot {
	if len(w.leases) == 0 {
		runs, err := w.store.LeaseBranch(w.session.Handle, 16)
		require.NoError(w.t, err)
		w.leases = runs
	}
	slot := w.leases[0].First
	w.leases = alloc.Subtract(w.leases, layout.SlotRun{First: slot, Len: 1})
	return slot
}

// report reports what was started.
func (w *writer) report() {
	if len(w.started) == 0 {
		return
	}
	require.NoError(w.t, w.store.ReportBranch(w.session.Handle, w.state.Generation, w.started))
	w.unsynced = append(w.unsynced, layout.Batch{Generation: w.state.Generation, Copies: w.started})
	for _, c := range w.started {
		w.known[c.Chunk] = wire.Mapping{Chunk: c.Chunk, Len: 1, Slot: c.Slot, Owned: true}
	}
	w.started = nil
}

// kill ends the server as a kill does, amid what was started, which is done again.
func (w *writer) kill() {
	var err error
	w.store, err = store.Open(w.devs, store.Options{})
	require.NoError(w.t, err)
	again := w.started
	w.started = nil
	w.open()
	for _, c := range again {
		w.write(c.Chunk)
	}
}

// holds requires a snapshot to hold the numbers.
func (w *writer) holds(h wire.Handle, want map[block.Chunk]uint64) {
	for c := range block.Chunk(writerChunks) {
		m := w.mapOf(h, c)
		if want[c] == 0 {
			require.Equal(w.t, wire.Shared, m.Kind, "chunk %d", c)
			continue
		}
		require.Equal(w.t, wire.Stored, m.Kind, "chunk %d", c)
		p := make([]byte, block.SectorSize)
		_, err := w.devs.Store.ReadAt(p, w.at(m.Slot))
		require.NoError(w.t, err)
		require.Equal(w.t, want[c], binary.LittleEndian.Uint64(p), "chunk %d in slot %d", c, m.Slot)
	}
}

func (w *writer) maintain() {
	for more := true; more; {
		var err error
		more, err = w.store.Maintain()
		require.NoError(w.t, err)
	}
}

// step does one thing of many.
func (w *writer) step(rng *rand.Rand, tag block.Tag) {
	switch n := rng.IntN(40); {
	case n < 20:
		w.write(block.Chunk(rng.IntN(writerChunks)))
	case n < 23:
		w.report()
	case n < 25:
		w.report()
		require.NoError(w.t, w.store.SyncBranch(w.session.Handle))
		w.unsynced = nil
	case n < 28:
		w.snapshot(tag)
	case n < 32:
		if tags := slices.Sorted(maps.Keys(w.taken)); len(tags) > 0 {
			gone := tags[rng.IntN(len(tags))]
			require.NoError(w.t, w.store.DeleteSnapshot(gone))
			delete(w.taken, gone)
		}
	case n < 33:
		_, err := w.store.CreateSnapshot(1000 + tag)
		require.NoError(w.t, err)
	case n < 36:
		w.maintain()
	case n < 37:
		require.NoError(w.t, w.store.Checkpoint())
	default:
		w.kill()
	}
}

// snapshot makes a snapshot of snapshot 1.
func (w *writer) snapshot(tag block.Tag) {
	_, err := w.store.Create(store.NewSnapshot{Tag: tag, Parent: &wire.SnapshotRef{Tag: 1}})
	require.NoError(w.t, err)
	w.taken[tag] = maps.Clone(w.content)
}

// clean requires that every slot is needed, of a store that was not closed and of one
// that was.
func (w *writer) clean() {
	w.report()
	checktest.MustBeClean(w.t, check.Devices{Store: w.devs.Store})
	w.maintain()
	w.holds(w.session.Handle, w.content)
	for tag, want := range w.taken {
		s, err := w.store.OpenSnapshot(wire.SnapshotRef{Tag: tag}, false, w)
		require.NoError(w.t, err)
		w.holds(s.Handle, want)
		require.NoError(w.t, w.store.CloseSnapshot(s.Handle))
	}
	require.NoError(w.t, w.store.CloseSnapshot(w.session.Handle))
	require.NoError(w.t, w.store.Close())
	checktest.MustBeClean(w.t, check.Devices{Store: w.devs.Store})
	var err error
	w.store, err = store.Open(w.devs, store.Options{})
	require.NoError(w.t, err)
	w.unsynced = nil
	w.open()
}

// Nothing is left behind in a snapshot that is written to while snapshots of it come
// and go, and its client does not know of the latter.
func TestNothingNeedlessInAWrittenSnapshot(t *testing.T) {
	for seed := range uint64(12) {
		t.Log("seed", seed)
		w, rng := newWriter(t), rand.New(rand.NewPCG(seed, 104))
		for i := range 600 {
			w.step(rng, block.Tag(2+i))
			if i%60 == 59 {
				w.clean()
			}
		}
	}
}

// A snapshot of the written snapshot is deleted, and all that it needed freed, while the
// client goes by what was true before: the slot that it does not overwrite is freed with
// its report. So it is by a recovery, of which the checker knows.
func TestWriteAfterADeletionThatItsClientDoesNotKnowOf(t *testing.T) {
	w := newWriter(t)
	w.write(7)
	w.report()
	w.snapshot(2)
	require.False(t, w.where(7).Owned)
	require.NoError(t, w.store.DeleteSnapshot(2))
	delete(w.taken, 2)
	w.maintain()
	require.NoError(t, w.store.Checkpoint())
	w.write(7)
	w.report()
	require.NoError(t, w.store.SyncBranch(w.session.Handle))
	w.unsynced = nil
	require.EqualValues(t, 1, w.store.Status().Exceptions)
	checktest.MustBeClean(t, check.Devices{Store: w.devs.Store})
	w.kill()
	require.EqualValues(t, 1, w.store.Status().Exceptions)
	w.clean()
}
