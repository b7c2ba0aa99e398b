// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/journal"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestFormatRefusesWhatDoesNotFit(t *testing.T) {
	big := memdev.New(64 << 20)
	nvram := journal.OnDevice{Device: memdev.New(1 << 20)}
	for _, c := range []struct {
		what    string
		devices placement.Devices
		options store.FormatOptions
		want    error
	}{
		{"no origin", placement.Devices{Store: big}, store.FormatOptions{}, block.ErrGeometry},
		{"an origin of half a sector", placement.Devices{Store: big}, store.FormatOptions{OriginSize: 256}, block.ErrGeometry},
		{"an origin of more than 1 PiB", placement.Devices{Store: big}, store.FormatOptions{OriginSize: 1<<50 + 512}, block.ErrGeometry},
		{"chunks of 12 KiB", placement.Devices{Store: big}, store.FormatOptions{OriginSize: 1 << 20, ChunkSize: 12 << 10}, block.ErrGeometry},
		{"chunks of 2 KiB", placement.Devices{Store: big}, store.FormatOptions{OriginSize: 1 << 20, ChunkSize: 2 << 10}, block.ErrGeometry},
		{"chunks of 2 MiB", placement.Devices{Store: big}, store.FormatOptions{OriginSize: 1 << 20, ChunkSize: 2 << 20}, block.ErrGeometry},
		{"a store without room", placement.Devices{Store: memdev.New(1 << 20)}, store.FormatOptions{OriginSize: 1 << 20}, block.ErrGeometry},
		{"a store of one sector", placement.Devices{Store: memdev.New(512)}, store.FormatOptions{OriginSize: 1 << 20}, block.ErrGeometry},
		{"small metadata", placement.Devices{Store: big, Meta: memdev.New(1 << 20)}, store.FormatOptions{OriginSize: 1 << 20}, block.ErrGeometry},
		{"no journal", placement.Devices{Store: big}, store.FormatOptions{OriginSize: 1 << 20, Placement: layout.PlacementPMem}, placement.ErrNoJournal},
		{"a small journal", placement.Devices{Store: big, Journal: nvram},
			store.FormatOptions{OriginSize: 1 << 20, Placement: layout.PlacementNVRAM, JournalSize: 8 << 10}, block.ErrGeometry},
	} {
		before := big.Stored()
		_, err := store.Format(c.devices, c.options)
		require.ErrorIs(t, err, c.want, c.what)
		require.Equal(t, before, big.Stored(), "%s: nothing is written", c.what)
	}
	_, err := store.Format(placement.Devices{Store: big, Journal: nvram}, store.FormatOptions{OriginSize: 1 << 20})
	require.ErrorContains(t, err, "no use for a journal device")
}

// truncated is a device of which only the first bytes are left.
type truncated struct {
	device.Device
	size int64
}

func (d truncated) Size() int64 { return d.size }

func TestOpenRefusesWrongDevices(t *testing.T) {
	o := options(16<<10, 100)
	o.Placement, o.JournalSize, o.Separate, o.MetaSize = layout.PlacementNVRAM, 1<<20, true, 4<<20
	closed := func() placement.Devices {
		r, err := rig.New(o, rig.Wrappers{})
		require.NoError(t, err)
		require.NoError(t, r.Close())
		return r.Devices
	}
	mine := closed()
	other := placement.Devices{Store: memdev.New(o.StoreSize), Meta: memdev.New(o.MetaSize), Journal: journal.OnDevice{Device: memdev.New(1 << 20)}}
	_, err := store.Format(other, store.FormatOptions{
		OriginSize: o.OriginSize, ChunkSize: o.ChunkSize, Placement: o.Placement, JournalSize: o.JournalSize,
	})
	require.NoError(t, err)
	for _, c := range []struct {
		what    string
		devices placement.Devices
		want    error
	}{
		{"nothing", placement.Devices{Store: memdev.New(1 << 20)}, store.ErrNoStore},
		{"a device of one sector", placement.Devices{Store: memdev.New(512)}, store.ErrNoStore},
		{"no metadata device", placement.Devices{Store: mine.Store, Journal: mine.Journal}, store.ErrNoStore},
		{"metadata alone", placement.Devices{Store: mine.Meta, Journal: mine.Journal}, block.ErrGeometry},
		{"another's data", placement.Devices{Store: other.Store, Meta: mine.Meta, Journal: mine.Journal}, layout.ErrCorrupt},
		{"another's journal", placement.Devices{Store: mine.Store, Meta: mine.Meta, Journal: other.Journal}, layout.ErrCorrupt},
		{"no journal", placement.Devices{Store: mine.Store, Meta: mine.Meta}, placement.ErrNoJournal},
		{"a short store", placement.Devices{Store: truncated{mine.Store, 1 << 20}, Meta: mine.Meta, Journal: mine.Journal}, block.ErrGeometry},
		{"short metadata", placement.Devices{Store: mine.Store, Meta: truncated{mine.Meta, 1 << 20}, Journal: mine.Journal}, block.ErrGeometry},
	} {
		_, err := store.Open(c.devices, store.Options{})
		require.ErrorIs(t, err, c.want, c.what)
	}
	s, err := store.Open(mine, store.Options{})
	require.NoError(t, err, "none of it has changed anything")
	require.NoError(t, s.Close())
}

// TestDamagedMetadataIsNoticed overwrites pages of a closed store with noise, one
// at a time: whatever can still be read is right.
func TestDamagedMetadataIsNoticed(t *testing.T) {
	o := options(4<<10, 2000)
	o.CacheBytes = 1
	r := newRunner(t, o, rig.Wrappers{})
	rng := rand.New(rand.NewPCG(6, 6))
	var ops []metamorphic.Op
	for tag := block.Tag(1); tag <= 8; tag++ {
		for range 30 {
			off := rng.Int64N(256) * 4096
			ops = append(ops, metamorphic.Op{Kind: metamorphic.Write, Off: off, Len: 4096, Seed: rng.Uint64N(1 << 32)})
		}
		ops = append(ops, metamorphic.Op{Kind: metamorphic.Snapshot, Tag: tag})
	}
	require.NoError(t, r.All(ops))
	require.NoError(t, r.Rig.Close())
	noise := make([]byte, block.PageSize)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	noticed := 0
	for page := int64(250); page < 290; page++ { // the end of the control ring and the tree pages in use
		left := r.Rig.Flushed()
		d := left.Machine.Device(rig.Store)
		was := make([]byte, block.PageSize)
		_, err := d.ReadAt(was, page*block.PageSize)
		require.NoError(t, err)
		copy(was[rng.IntN(3800):], noise[:rng.IntN(200)+1])
		_, err = d.WriteAt(was, page*block.PageSize)
		require.NoError(t, err)
		if readable(t, left, r) {
			continue
		}
		noticed++
	}
	require.Greater(t, noticed, 2)
}

// readable reports whether all of a rig can be read; what can must be right.
func readable(t *testing.T, left *rig.Rig, r *metamorphic.Runner) bool {
	if err := left.Open(); err != nil {
		require.ErrorIs(t, err, layout.ErrCorrupt)
		left.Abandon()
		return false
	}
	defer left.Abandon()
	again := &metamorphic.Runner{Rig: left, Model: r.Model, Tolerant: true}
	require.NoError(t, again.Compare())
	if again.Failed > 0 {
		_, err := left.ReadSnapshot(1, 0, left.OriginSize)
		for tag := block.Tag(2); err == nil; tag++ {
			_, err = left.ReadSnapshot(tag, 0, left.OriginSize)
		}
		require.True(t, errors.Is(err, layout.ErrCorrupt), "%v", err)
	}
	return again.Failed == 0
}
