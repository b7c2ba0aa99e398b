// SPDX-License-Identifier: Apache-2.0

package placement_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/copylog"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/errdev"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/journal"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/wire"
	"zumastor.org/zumastor/nvramsim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	chunkSize = 4 << 10
	slots     = 1000
	epoch     = 7
)

// kind is a placement and the devices that it needs.
type kind struct {
	name string
	layout.Placement
	separate bool
	build    func(m *memdev.Machine)
}

// kinds are all that must conform.
var kinds = []kind{
	{"inline", layout.PlacementInline, false, nil},
	{"inline, separate metadata", layout.PlacementInline, true, nil},
	{"disk", layout.PlacementDisk, false, nil},
	{"disk, separate metadata", layout.PlacementDisk, true, nil},
	{"nvram", layout.PlacementNVRAM, false, func(m *memdev.Machine) { m.New("journal", journalSize+layout.LabelSize) }},
	{"nvram on a volatile disk", layout.PlacementNVRAM, true, func(m *memdev.Machine) { m.NewVolatile("journal", journalSize+layout.LabelSize) }},
	{"pmem", layout.PlacementPMem, false, func(m *memdev.Machine) {
		nvramsim.NewPMem(m, "journal", new(nvramsim.Clock), journalSize+layout.LabelSize, nvramsim.PMemParams{})
	}},
}

const (
	journalSize = 256 << 10
	dataOffset  = 1 << 20 // the journal of placement disk lies before it
)

// bench is a log on a machine.
type bench struct {
	kind
	machine *memdev.Machine
	devices placement.Devices
	log     placement.Log
	next    block.Slot // not used yet
}

func newBench(t *testing.T, k kind) *bench {
	m := memdev.NewMachine()
	m.NewVolatile("store", dataOffset+slots*chunkSize)
	if k.separate {
		m.NewVolatile("meta", 1<<20)
	}
	if k.build != nil {
		k.build(m)
	}
	return openBench(t, k, m, layout.Position{Place: 0, Seq: 1})
}

// openBench opens the log that lies on a machine at a position.
func openBench(t *testing.T, k kind, m *memdev.Machine, at layout.Position) *bench {
	b := &bench{kind: k, machine: m, next: 1, devices: placement.Devices{Store: m.Device("store")}}
	if k.separate {
		b.devices.Meta = m.Device("meta")
	}
	switch k.Placement {
	case layout.PlacementNVRAM:
		b.devices.Journal = journal.OnDevice{Device: m.Device("journal")}
	case layout.PlacementPMem:
		b.devices.Journal = m.Part("journal").(device.Region)
	}
	b.log = b.open(t, b.devices, at)
	return b
}

func (b *bench) open(t *testing.T, d placement.Devices, at layout.Position) placement.Log {
	geo, err := block.NewGeometry(1<<30, chunkSize)
	require.NoError(t, err)
	s := &wire.Session{
		UUID: layout.UUID{1, 2}, Placement: b.Placement, Geometry: geo, DataOffset: dataOffset, Slots: slots,
		Journal: wire.JournalRegion{Start: layout.LabelSize, Size: journalSize}, Epoch: epoch, Position: at,
	}
	log, err := placement.OpenLog(d, s)
	require.NoError(t, err)
	return log
}

// batch returns a batch of n chunks with random content in the next slots.
func (b *bench) batch(rng *rand.Rand, n int) *copylog.Batch {
	batch := copylog.NewBatch(n, chunkSize)
	batch.Generation = 3
	for i := range n {
		batch.Copies = append(batch.Copies, layout.Copy{Chunk: block.Chunk(10*i + 5), Slot: b.next})
		b.next++
		if rng.IntN(4) == 0 {
			b.next++ // the slots are not all neighbours
		}
		p := batch.Chunk(i)
		for j := range p {
			p[j] = byte(rng.Uint32())
		}
	}
	batch.Next = b.next
	b.next++
	batch.Seal()
	return batch
}

// durable is a batch whose commit has returned, and its content.
type durable struct {
	layout.Batch
	content [][]byte
}

func keep(b *copylog.Batch) durable {
	d := durable{Batch: b.Batch}
	for i := range b.Copies {
		d.content = append(d.content, bytes.Clone(b.Chunk(i)))
	}
	return d
}

// replay returns the batches that a log has from a position on.
func replay(t *testing.T, b *bench, epoch uint64, from layout.Position) []layout.Batch {
	var got []layout.Batch
	seq := from.Seq
	require.NoError(t, b.log.Replay(epoch, from, func(r placement.Replayed) error {
		require.Equal(t, seq, r.Seq)
		seq++
		got = append(got, *r.Batch)
		return nil
	}))
	return got
}

// requireThere checks that the batches are what the log has, perhaps with one more
// whose commit had not returned, and that their chunks are in their slots.
func requireThere(t *testing.T, b *bench, from layout.Position, want []durable, underWay *layout.Batch) {
	got := replay(t, b, epoch, from)
	if len(got) == len(want)+1 && underWay != nil {
		require.Equal(t, *underWay, got[len(want)])
		got = got[:len(want)]
	}
	require.Len(t, got, len(want))
	for i, w := range want {
		require.Equal(t, w.Batch, got[i])
		for j, c := range w.Copies {
			p := make([]byte, chunkSize)
			_, err := b.devices.Store.ReadAt(p, dataOffset+int64(c.Slot)*chunkSize)
			require.NoError(t, err)
			require.True(t, bytes.Equal(w.content[j], p), "batch %d, slot %d", i, c.Slot)
		}
	}
}

func forAll(t *testing.T, test func(t *testing.T, k kind)) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) { test(t, k) })
	}
}

func TestReplayReturnsWhatWasCommitted(t *testing.T) {
	forAll(t, func(t *testing.T, k kind) {
		b := newBench(t, k)
		rng := rand.New(rand.NewPCG(1, 1))
		first := b.log.Position()
		var want []durable
		var at []layout.Position
		for n := range 12 {
			batch := b.batch(rng, 1+n%5)
			at = append(at, b.log.Position())
			require.NoError(t, b.log.Commit(batch))
			want = append(want, keep(batch))
		}
		end := b.log.Position()
		require.Equal(t, first.Seq+12, end.Seq)
		requireThere(t, b, first, want, nil)
		require.Equal(t, end, b.log.Position(), "a log that was replayed goes on after its last batch")
		requireThere(t, b, at[7], want[7:], nil)
		require.Empty(t, replay(t, b, epoch+1, first), "of another epoch")
		require.Empty(t, replay(t, b, epoch, layout.Position{Place: first.Place, Seq: first.Seq + 1}), "of another number")
	})
}

// TestCommitSurvivesPowerCuts cuts the power at every event of some commits.
func TestCommitSurvivesPowerCuts(t *testing.T) {
	forAll(t, func(t *testing.T, k kind) {
		b := newBench(t, k)
		rng := rand.New(rand.NewPCG(2, 2))
		first := b.log.Position()
		var want []durable
		cut := func(underWay *layout.Batch) {
			for _, fate := range []memdev.Fate{{}, {Tear: 1}, {Keep: 1}, memdev.RandomFate(rng)} {
				left := openBench(t, k, b.machine.Crash(rng, fate), first)
				requireThere(t, left, first, want, underWay)
			}
		}
		for n := range 10 {
			batch := b.batch(rng, 1+n%4)
			b.machine.SetHook(func(memdev.Event) { cut(&batch.Batch) })
			require.NoError(t, b.log.Commit(batch))
			b.machine.SetHook(nil)
			want = append(want, keep(batch))
			cut(nil)
		}
	})
}

// TestFailedCommitIsFoundWholeOrNot lets each I/O of a commit fail.
func TestFailedCommitIsFoundWholeOrNot(t *testing.T) {
	forAll(t, func(t *testing.T, k kind) {
		for n := int64(1); ; n++ {
			b := newBench(t, k)
			rng := rand.New(rand.NewPCG(3, 3))
			good, bad := b.batch(rng, 3), b.batch(rng, 3)
			var plan errdev.Plan
			faulty := b.devices
			faulty.Store = plan.Wrap(faulty.Store)
			if faulty.Meta != nil {
				faulty.Meta = plan.Wrap(faulty.Meta)
			}
			first := b.log.Position()
			log := b.open(t, faulty, first)
			require.NoError(t, log.Commit(good))
			plan.Inject(errdev.Fault{Nth: n, Torn: true})
			err := log.Commit(bad)
			if err == nil {
				require.Zero(t, plan.Counts().Failed)
				require.Greater(t, n, int64(2), "a commit is a write and a flush at least")
				return
			}
			require.ErrorIs(t, err, errdev.ErrInjected)
			requireThere(t, b, first, []durable{keep(good)}, &bad.Batch)
		}
	})
}

func TestJournalsFillAndAreReleased(t *testing.T) {
	forAll(t, func(t *testing.T, k kind) {
		b := newBench(t, k)
		rng := rand.New(rand.NewPCG(4, 4))
		first := b.log.Position()
		var want []durable
		for range 150 {
			batch := b.batch(rng, 1)
			err := b.log.Commit(batch)
			if b.log.HeadSlots() == 0 && errors.Is(err, journal.ErrFull) {
				break
			}
			require.NoError(t, err)
			want = append(want, keep(batch))
		}
		if b.log.HeadSlots() == 0 {
			require.Positive(t, b.log.Fill())
		}
		end := b.log.Position()
		requireThere(t, b, first, want, nil)
		b.log.Release(end)
		require.Zero(t, b.log.Fill())
		require.NoError(t, b.log.Commit(b.batch(rng, 1)), "there is room again")
	})
}

// TestJournalsWrapAround commits far more than a journal holds, and releases all
// but the last few batches.
func TestJournalsWrapAround(t *testing.T) {
	forAll(t, func(t *testing.T, k kind) {
		b := newBench(t, k)
		rng := rand.New(rand.NewPCG(5, 5))
		var want []durable
		var at []layout.Position
		for n := range 300 {
			b.next = block.Slot(1 + n%10*90) // slots are used again
			batch := b.batch(rng, 1+n%40)
			if at = append(at, b.log.Position()); b.log.HeadSlots() == 1 {
				b.log.Start(epoch, layout.Position{Place: uint64(b.next) + 10, Seq: at[n].Seq})
				at[n] = b.log.Position()
				batch.Next = b.next + 11
			}
			require.NoError(t, b.log.Commit(batch), "batch %d", n)
			want = append(want, keep(batch))
			if n >= 5 {
				b.log.Release(at[n-3])
			}
			if n%23 == 5 && b.log.HeadSlots() == 0 {
				requireThere(t, openBench(t, k, b.machine, at[n-3]), at[n-3], want[n-3:], nil)
			}
		}
	})
}

func TestOpenLogNeedsItsJournal(t *testing.T) {
	geo, err := block.NewGeometry(1<<30, chunkSize)
	require.NoError(t, err)
	d := placement.Devices{Store: memdev.New(1 << 20)}
	for _, p := range []layout.Placement{layout.PlacementNVRAM, layout.PlacementPMem} {
		_, err := placement.OpenLog(d, &wire.Session{Placement: p, Geometry: geo})
		require.ErrorIs(t, err, placement.ErrNoJournal)
	}
	_, err = placement.OpenLog(d, &wire.Session{Placement: 99, Geometry: geo})
	require.ErrorContains(t, err, "unknown placement")
}
