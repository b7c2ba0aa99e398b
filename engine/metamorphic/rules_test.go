// SPDX-License-Identifier: Apache-2.0

package metamorphic

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/copylog"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
	"zumastor.org/zumastor/engine/wire"
)

// The ordering rules that keep data safe, one test each. Each test shows that the
// engine passes, and that it would not if the rule were broken: something between
// the layers breaks the rule, and the same test must notice.

// ruled returns what is noticed when the script runs with power cuts at flushes
// and after each operation.
func ruled(o rig.Options, w rig.Wrappers) error {
	return ruledWith(o, &breaker{Wrappers: w}, script(o))
}

// ruledWith is ruled for other operations, and with a breaker.
func ruledWith(o rig.Options, b *breaker, ops []Op) error {
	r, err := NewRunner(o, b.Wrappers)
	if err != nil {
		return err
	}
	b.broken.Store(true)
	defer func() { r.Rig.Abandon() }()
	c := &cutter{of: r, rng: rand.New(rand.NewPCG(5, 6)), draws: 1}
	for i, op := range ops {
		c.watch()
		if err = r.Do(op); err == nil {
			err = c.err
		}
		if err == nil {
			err = c.cut()
		}
		if err != nil {
			return fmt.Errorf("operation %d, %v: %w", i, op, err)
		}
	}
	return r.Compare()
}

// on returns wrappers that put f on one device.
func on(part string, f func(d device.Device) device.Device) rig.Wrappers {
	return rig.Wrappers{Device: func(name string, d device.Device) device.Device {
		if name != part {
			return d
		}
		return f(d)
	}}
}

// lying returns what makes a device lie about its flushes.
func lying(part string) *breaker {
	b := new(breaker)
	b.Wrappers = on(part, func(d device.Device) device.Device { return liar{d, &b.broken} })
	return b
}

func TestRule1OriginWriteWaitsForBatch(t *testing.T) {
	for _, o := range setups() {
		if !o.Separate {
			continue // a flush of the metadata would make batches durable too
		}
		t.Run(name(o), func(t *testing.T) {
			require.NoError(t, ruled(o, rig.Wrappers{}))
			require.ErrorContains(t, ruledWith(o, lying(rig.Store), script(o)), "snapshot 1: sector", "a batch that is not durable")
			w := on(rig.Store, func(d device.Device) device.Device { return &loser{Device: d, nth: 6} })
			require.Error(t, ruled(o, w), "a batch before it that is not durable")
		})
	}
}

func TestRule2NumbersAreNeverReused(t *testing.T) {
	for _, o := range setups() {
		t.Run(name(o), func(t *testing.T) {
			s := &spy{seen: make(map[layout.Identity]bool)}
			r, err := NewRunner(o, rig.Wrappers{Server: func(under wire.Server) wire.Server {
				s.Server = under
				return s
			}})
			require.NoError(t, err)
			defer func() { r.Rig.Abandon() }()
			rng := rand.New(rand.NewPCG(8, uint64(o.Placement)))
			for _, op := range RandomOps(rng, o.OriginSize, 150) {
				require.NoError(t, r.Do(op), "%v", op)
			}
			require.Empty(t, s.again)
			require.Greater(t, len(s.seen), 10)
		})
	}
}

func TestRule2RecoveryTakesOnlyTheExactNext(t *testing.T) {
	o := setups()[0] // inline: slots hold old descriptors
	for _, c := range []struct {
		what   string
		change func(id *layout.Identity)
		taken  bool
	}{
		{"the next one", func(*layout.Identity) {}, true},
		{"one before", func(id *layout.Identity) { id.Seq-- }, false},
		{"one after", func(id *layout.Identity) { id.Seq++ }, false},
		{"one of an older opening", func(id *layout.Identity) { id.Epoch-- }, false},
		{"one of another store", func(id *layout.Identity) { id.UUID[7]++ }, false},
	} {
		t.Run(c.what, func(t *testing.T) {
			s := &spy{seen: make(map[layout.Identity]bool)}
			r, err := NewRunner(o, rig.Wrappers{Server: func(under wire.Server) wire.Server {
				s.Server = under
				return s
			}})
			require.NoError(t, err)
			defer func() { r.Rig.Abandon() }()
			require.NoError(t, r.All([]Op{
				{Kind: Write, Len: 64 << 10, Seed: 1}, {Kind: Flush}, {Kind: Snapshot, Tag: 1}, {Kind: Write, Len: 512, Seed: 2}, {Kind: Flush},
			}))
			id := layout.Identity{UUID: s.session.UUID, Epoch: s.session.Epoch, Seq: s.next.Seq}
			c.change(&id)
			left := r.Rig.Crash(rand.New(rand.NewPCG(1, 1)), memdev.Fate{})
			plant(t, left, s, id)
			err = (&Runner{Rig: left, Model: r.Model}).Crash(left)
			left.Abandon()
			if c.taken {
				require.ErrorContains(t, err, "snapshot 1: sector 48 holds zeroes", "the test must be able to notice")
			} else {
				require.NoError(t, err)
			}
		})
	}
}

// plant writes a batch that is whole, and says that chunk 3 was zeroes, to where
// recovery looks for the next one.
func plant(t *testing.T, to *rig.Rig, s *spy, id layout.Identity) {
	d := to.Machine.Device(rig.Store)
	area := &copylog.Area{Device: d, Offset: s.session.DataOffset, Slots: s.session.Slots, ChunkShift: s.session.Geometry.ChunkShift()}
	b := copylog.NewBatch(1, area.ChunkSize())
	b.Generation = 1
	b.Copies = []layout.Copy{{Chunk: 3, Slot: block.Slot(s.next.Place) + 1}}
	b.Seal()
	desc := b.SealDescriptor(layout.RecordHeader{Identity: id, Kind: layout.RecordBatch, Durable: id.Seq - 1})
	_, err := d.WriteAt(desc, area.SlotOffset(block.Slot(s.next.Place)+1)-int64(len(desc)))
	require.NoError(t, err)
	_, err = d.WriteAt(b.Chunk(0), area.SlotOffset(block.Slot(s.next.Place)+1))
	require.NoError(t, err)
	require.NoError(t, d.Flush())
}

func TestRule3FreedSlotsWaitForTheCheckpoint(t *testing.T) {
	o := setups()[0]
	o.LeaseBytes, o.StoreLeaseBytes = 1, 1
	require.NoError(t, ruled(o, rig.Wrappers{}))
	w := rig.Wrappers{Server: func(s wire.Server) wire.Server { return &hasty{Server: s} }}
	require.Error(t, ruled(o, w))
}

func TestRule3FreedSlotsWaitForReaders(t *testing.T) {
	r, err := NewRunner(setups()[0], rig.Wrappers{})
	require.NoError(t, err)
	defer func() { r.Rig.Abandon() }()
	require.NoError(t, r.All([]Op{{Kind: Snapshot, Tag: 1}, {Kind: Write, Len: 512, Seed: 1}}))
	snap, err := volume.OpenSnapshot(r.Rig.Source(), 1)
	require.NoError(t, err)
	require.ErrorIs(t, r.Rig.Server.DeleteSnapshot(1), store.ErrInUse)
	require.NoError(t, snap.Close())
	require.NoError(t, snap.Close())
	require.NoError(t, r.Do(Op{Kind: Delete, Tag: 1}))
}

func TestRule4SnapshotsAreDurable(t *testing.T) {
	for _, o := range setups() {
		if !o.Separate {
			continue // else a flush of a batch makes snapshots durable too
		}
		t.Run(name(o), func(t *testing.T) {
			w := on(rig.Meta, func(d device.Device) device.Device { return &halfLiar{Device: d} })
			require.ErrorContains(t, ruled(o, w), "is lost")
			require.Error(t, ruledWith(o, lying(rig.Origin), script(o)), "and so is all that they share with the origin")
		})
	}
}

func TestRule4WritesUnderWayBelongToOneSide(t *testing.T) {
	for _, broken := range []bool{false, true} {
		t.Run(fmt.Sprintf("broken=%t", broken), func(t *testing.T) {
			var b *blocker
			w := on(rig.Origin, func(d device.Device) device.Device {
				b = &blocker{Device: d, blocked: make(chan struct{}), release: make(chan struct{})}
				return b
			})
			if broken {
				w.Server = func(s wire.Server) wire.Server { return impatient{s} }
			}
			r, err := rig.New(setups()[0], w)
			require.NoError(t, err)
			defer r.Abandon()

			var wg sync.WaitGroup
			wg.Go(func() {
				_, err := r.Volume.WriteAt([]byte{511: 9}, 0)
				require.NoError(t, err)
			})
			<-b.blocked
			created := make(chan error)
			go func() {
				_, err := r.Server.CreateSnapshot(1)
				created <- err
			}()
			if broken {
				require.NoError(t, <-created)
				before, err := r.ReadSnapshot(1, 0, 512)
				require.NoError(t, err)
				close(b.release)
				wg.Wait()
				after, err := r.ReadSnapshot(1, 0, 512)
				require.NoError(t, err)
				require.NotEqual(t, before, after, "the test must be able to notice")
				return
			}
			select {
			case <-created:
				t.Fatal("a snapshot was made while a write was under way")
			case <-time.After(20 * time.Millisecond):
			}
			close(b.release)
			wg.Wait()
			require.NoError(t, <-created)
			p, err := r.ReadSnapshot(1, 0, 512)
			require.NoError(t, err)
			require.Equal(t, byte(9), p[511])
		})
	}
}

func TestRule5SharedReadsAskAgain(t *testing.T) {
	r, err := NewRunner(setups()[0], rig.Wrappers{})
	require.NoError(t, err)
	defer func() { r.Rig.Abandon() }()
	require.NoError(t, r.All([]Op{{Kind: Write, Len: 32 << 10, Seed: 1}, {Kind: Snapshot, Tag: 1}}))
	read := func(chunk int64, s wire.Server) error {
		src := r.Rig.Source()
		src.Server = s
		src.Origin = overtaken{src.Origin, func() {
			require.NoError(t, r.Do(Op{Kind: Write, Off: chunk * int64(r.Rig.ChunkSize), Len: 512, Seed: 2}))
		}}
		snap, err := volume.OpenSnapshot(src, 1)
		require.NoError(t, err)
		defer snap.Close()
		p := make([]byte, 3*r.Rig.ChunkSize)
		_, err = snap.ReadAt(p, 0)
		require.NoError(t, err)
		return r.Model.Snapshot(1).Check(0, p)
	}
	require.NoError(t, read(1, r.Rig.Server))
	require.ErrorContains(t, read(2, &forgetful{Server: r.Rig.Server}), "snapshot 1: sector 32")
}

// branches is a script of writes to snapshots, and to snapshots of these.
func branches() []Op {
	const k = 1 << 10
	return []Op{
		{Kind: Write, Len: 64 * k, Seed: 1}, {Kind: Snapshot, Tag: 1}, {Kind: WriteSnap, Tag: 1, Off: 8 * k, Len: 12 * k, Seed: 2},
		{Kind: FlushSnap, Tag: 1}, {Kind: WriteSnap, Tag: 1, Off: 10 * k, Len: 8 * k, Seed: 3}, {Kind: Write, Off: 4 * k, Len: 16 * k, Seed: 4},
		{Kind: FlushSnap, Tag: 1}, {Kind: WriteSnap, Tag: 1, Off: 40 * k, Len: 3 * k, Seed: 5}, {Kind: SnapOf, Tag: 2, Of: 1},
		{Kind: WriteSnap, Tag: 1, Off: 9 * k, Len: 2 * k, Seed: 6}, {Kind: WriteSnap, Tag: 1, Off: 40 * k, Len: 1 * k, Seed: 7},
		{Kind: WriteSnap, Tag: 2, Off: 12 * k, Len: 30 * k, Seed: 8}, {Kind: FlushSnap, Tag: 2}, {Kind: SnapOf, Tag: 3, Of: 2},
		{Kind: FlushSnap, Tag: 1}, {Kind: WriteSnap, Tag: 3, Len: 90 * k, Seed: 9}, {Kind: CloseSnap, Tag: 3}, {Kind: CloseSnap, Tag: 2},
		{Kind: DeleteAll, Tag: 2}, {Kind: Maintain}, {Kind: WriteSnap, Tag: 1, Len: 64 * k, Seed: 10}, {Kind: Reopen},
	}
}

func TestRule4SnapshotsOfSnapshotsAreDurable(t *testing.T) {
	for _, o := range setups() {
		if !o.Separate {
			continue // else a flush of what is written makes snapshots durable too
		}
		t.Run(name(o), func(t *testing.T) {
			w := on(rig.Meta, func(d device.Device) device.Device { return &halfLiar{Device: d} })
			require.ErrorContains(t, ruledWith(o, &breaker{Wrappers: w}, branches()), "is lost")
		})
	}
}

func TestRule4WritersAreQuiesced(t *testing.T) {
	for _, o := range setups() {
		t.Run(name(o), func(t *testing.T) {
			require.NoError(t, ruledWith(o, new(breaker), branches()))
			w := rig.Wrappers{Server: func(s wire.Server) wire.Server { return deaf{s} }}
			r, err := NewRunner(o, w)
			require.NoError(t, err)
			defer func() { r.Rig.Abandon() }()
			err = r.All(branches()[:10])
			if err == nil {
				err = r.Compare()
			}
			require.ErrorContains(t, err, "snapshot 2: sector 18", "a write in place changes the snapshot of the snapshot")
		})
	}
}

func TestRule6FlushedWritesToSnapshotsAreDurable(t *testing.T) {
	for _, o := range setups() {
		t.Run(name(o), func(t *testing.T) {
			if o.Separate { // else only recovery would be lied to
				require.ErrorContains(t, ruledWith(o, lying(rig.Store), branches()), "snapshot 1: sector", "what was written")
			}
			b := &breaker{Wrappers: rig.Wrappers{Server: func(s wire.Server) wire.Server { return careless{s} }}}
			require.ErrorContains(t, ruledWith(o, b, branches()), "snapshot 1: sector", "and where it is")
		})
	}
}

func TestRule6SnapshotsOpenForReadingTakeNoWrites(t *testing.T) {
	r, err := rig.New(setups()[0], rig.Wrappers{})
	require.NoError(t, err)
	defer r.Abandon()
	_, err = r.Server.CreateSnapshot(1)
	require.NoError(t, err)
	s, err := volume.OpenSnapshot(r.Source(), 1)
	require.NoError(t, err)
	defer s.Close()
	_, err = s.WriteAt(make([]byte, 512), 0)
	require.ErrorIs(t, err, volume.ErrReadOnly)
	require.ErrorIs(t, s.Discard(0, 512), volume.ErrReadOnly)
	require.ErrorIs(t, device.WriteZeroes(s, 0, 512), volume.ErrReadOnly)
	require.NoError(t, s.Flush())
}

func TestRule7SettledOfAnOlderGenerationIsRefused(t *testing.T) {
	o := setups()[0]
	ops := []Op{
		{Kind: Snapshot, Tag: 1}, {Kind: Write, Len: 512, Seed: 1}, {Kind: Snapshot, Tag: 2}, {Kind: Write, Len: 512, Seed: 2},
	}
	_, err := Run(o, ops, checkStore)
	require.NoError(t, err)
	r, err := NewRunner(o, rig.Wrappers{Server: func(s wire.Server) wire.Server { return stale{s} }})
	require.NoError(t, err)
	defer func() { r.Rig.Abandon() }()
	require.NoError(t, r.All(ops))
	require.ErrorContains(t, r.Compare(), "snapshot 2: sector 0")
}

func TestRule7ReportOfAnOlderSessionIsRefused(t *testing.T) {
	for _, o := range setups() {
		t.Run(name(o), func(t *testing.T) {
			r, err := rig.New(o, rig.Wrappers{})
			require.NoError(t, err)
			defer r.Abandon()
			_, err = r.Server.CreateSnapshot(1)
			require.NoError(t, err)
			old := r.Volume
			require.NoError(t, old.Close())
			session, err := r.Server.Attach(old)
			require.NoError(t, err)
			copies := []layout.Copy{{Chunk: 0, Slot: session.Leases[0].First + 1}}
			b := wire.Batch{Batch: &layout.Batch{Generation: 1, Copies: copies}, Position: session.Position}
			_, err = r.Server.Report(b)
			require.ErrorIs(t, err, store.ErrStale, "the last session's next batch")
			b.Position.Seq++
			_, err = r.Server.Report(b)
			require.NoError(t, err, "this session's")
			_, err = r.Server.Report(b)
			require.ErrorIs(t, err, store.ErrStale, "once more")

			_, err = old.WriteAt(make([]byte, 512), 0)
			require.ErrorIs(t, err, device.ErrClosed)
			require.NoError(t, r.Server.Detach())
			_, err = r.Server.Report(b)
			require.ErrorIs(t, err, store.ErrStale, "nobody's")
		})
	}
}
