// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/store"
)

// aged returns the device of a store that was formatted and, if it is to have
// snapshots, opened and closed; the more snapshots, the more checkpoints.
func aged(t *testing.T, snapshots int) *memdev.Device {
	d := memdev.New(8 << 20)
	_, err := store.Format(placement.Devices{Store: d}, store.FormatOptions{OriginSize: 1 << 20, ChunkSize: 4 << 10})
	require.NoError(t, err)
	if snapshots == 0 {
		return d
	}
	s, err := store.Open(placement.Devices{Store: d}, store.Options{})
	require.NoError(t, err)
	for tag := range snapshots {
		_, err := s.CreateSnapshot(block.Tag(tag))
		require.NoError(t, err)
		require.NoError(t, s.Checkpoint())
	}
	require.NoError(t, s.Close())
	return d
}

// superblockPage returns the page of one superblock.
func superblockPage(t *testing.T, d *memdev.Device, i int64) []byte {
	p := make([]byte, block.PageSize)
	_, err := d.ReadAt(p, i*block.PageSize)
	require.NoError(t, err)
	return p
}

// putSuperblockPage writes the page of one superblock.
func putSuperblockPage(t *testing.T, d *memdev.Device, i int64, p []byte) {
	_, err := d.WriteAt(p, i*block.PageSize)
	require.NoError(t, err)
}

// newest returns the newer superblock and its page's number.
func newest(t *testing.T, d *memdev.Device) (*layout.Superblock, int64) {
	var newest *layout.Superblock
	for i := range int64(layout.Superblocks) {
		sb, err := layout.DecodeSuperblock(superblockPage(t, d, i)[:layout.SuperblockSize])
		if err == nil && (newest == nil || sb.Checkpoint > newest.Checkpoint) {
			newest = sb
		}
	}
	require.NotNil(t, newest)
	return newest, int64(newest.Checkpoint % layout.Superblocks)
}

// openError returns the error of opening, which must be that of opening read-only
// too and must not have written anything.
func openError(t *testing.T, d *memdev.Device) error {
	writes := 0
	d.SetHook(func(e memdev.Event) { writes++ })
	defer d.SetHook(nil)
	_, err := store.Open(placement.Devices{Store: d}, store.Options{})
	require.Error(t, err)
	_, again := store.Open(placement.Devices{Store: d}, store.Options{ReadOnly: true})
	require.EqualError(t, again, err.Error())
	require.Zero(t, writes, "the store was changed")
	return err
}

// The older superblock must not stand in for a damaged newer one: what it points
// at may have been written over.
func TestEveryDamagedByteOfASuperblockIsRefused(t *testing.T) {
	d := aged(t, 5)
	_, at := newest(t, d)
	for _, i := range []int64{at, 1 - at} {
		whole := superblockPage(t, d, i)
		for off := range whole[:layout.SuperblockSize] {
			p := append([]byte(nil), whole...)
			p[off] ^= 1 << (off % 8)
			putSuperblockPage(t, d, i, p)
			err := openError(t, d)
			require.NotErrorIs(t, err, store.ErrNoStore)
			if off >= 8 && off < 12 {
				require.ErrorIs(t, err, layout.ErrVersion)
				continue
			}
			require.ErrorIs(t, err, layout.ErrCorrupt)
			require.ErrorContains(t, err, "older than the store")
			require.ErrorContains(t, err, "superblock "+string(rune('0'+i)))
		}
		putSuperblockPage(t, d, i, whole)
	}
	s, err := store.Open(placement.Devices{Store: d}, store.Options{})
	require.NoError(t, err)
	require.NoError(t, s.Close())
}

// Only checkpoint 0 has none beside it.
func TestMissingSuperblock(t *testing.T) {
	zeroes := make([]byte, block.PageSize)
	for snapshots := range 4 {
		d := aged(t, snapshots)
		sb, at := newest(t, d)
		require.Equal(t, snapshots > 0, sb.Checkpoint > 0)
		whole := superblockPage(t, d, at)
		putSuperblockPage(t, d, 1-at, zeroes)
		if snapshots > 0 {
			require.ErrorIs(t, openError(t, d), layout.ErrCorrupt)
		}
		putSuperblockPage(t, d, at, zeroes)
		require.ErrorIs(t, openError(t, d), store.ErrNoStore)
		if snapshots == 0 {
			putSuperblockPage(t, d, at, whole)
			s, err := store.Open(placement.Devices{Store: d}, store.Options{})
			require.NoError(t, err)
			require.NoError(t, s.Close())
		}
	}
}

// The rest of a superblock's page is not looked at.
func TestOnlyTheSectorOfASuperblockCounts(t *testing.T) {
	d := aged(t, 3)
	for i := range int64(layout.Superblocks) {
		p := superblockPage(t, d, i)
		for off := layout.SuperblockSize; off < len(p); off++ {
			p[off] = 0xa5
		}
		putSuperblockPage(t, d, i, p)
	}
	s, err := store.Open(placement.Devices{Store: d}, store.Options{})
	require.NoError(t, err)
	require.Len(t, s.Snapshots(), 3)
	require.NoError(t, s.Close())
}

// A power cut while a superblock is written, sector by sector, leaves a store that
// opens.
func TestPowerCutsWithinSuperblocks(t *testing.T) {
	o := options(4<<10, 400)
	r := newRunner(t, o, rig.Wrappers{})
	rng := rand.New(rand.NewPCG(8, 8))
	cuts := 0
	r.Rig.Machine.SetHook(func(e memdev.Event) {
		if e.Kind != memdev.Wrote || e.Off >= layout.Superblocks*block.PageSize || e.Device != r.Rig.Machine.Device(rig.Store) {
			return
		}
		for range 20 {
			left := r.Rig.Crash(rng, memdev.RandomFate(rng))
			require.NoError(t, left.Open())
			left.Abandon()
			cuts++
		}
	})
	for tag := block.Tag(1); tag <= 8; tag++ {
		require.NoError(t, r.All([]metamorphic.Op{
			{Kind: metamorphic.Snapshot, Tag: tag},
			{Kind: metamorphic.Write, Off: rng.Int64N(200) * 4096, Len: 8192, Seed: uint64(tag)},
		}))
		require.NoError(t, r.Rig.Server.Store.Checkpoint())
	}
	r.Rig.Machine.SetHook(nil)
	require.GreaterOrEqual(t, cuts, 8*20)
}

// Whatever was there before, a store that was formatted opens; one whose formatting
// was cut short is the old one still, or refused, or the new one.
func TestFormatOverDamage(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 9))
	noise := make([]byte, block.PageSize)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	for _, damaged := range [][]int64{{}, {0}, {1}, {0, 1}} {
		for _, snapshots := range []int{0, 6, 7} {
			old := aged(t, snapshots)
			was, _ := newest(t, old)
			for _, i := range damaged {
				putSuperblockPage(t, old, i, noise)
			}
			d := memdev.NewVolatile(old.Size())
			for i := range int64(layout.Superblocks) {
				putSuperblockPage(t, d, i, superblockPage(t, old, i))
			}
			require.NoError(t, d.Flush())
			var cuts []*memdev.Device
			d.SetHook(func(memdev.Event) { cuts = append(cuts, d.Crash(rng, memdev.RandomFate(rng))) })
			uuid := format(t, d)
			d.SetHook(nil)
			for _, cut := range cuts {
				s, err := store.Open(placement.Devices{Store: cut}, store.Options{ReadOnly: true})
				if err == nil {
					require.Contains(t, []layout.UUID{uuid, was.UUID}, s.UUID())
					require.NoError(t, s.Close())
				} else if len(damaged) == 0 {
					require.ErrorIs(t, err, layout.ErrCorrupt)
				}
				format(t, cut)
			}
		}
	}
}

// format makes a store and opens it.
func format(t *testing.T, d *memdev.Device) layout.UUID {
	uuid, err := store.Format(placement.Devices{Store: d}, store.FormatOptions{OriginSize: 1 << 20, ChunkSize: 4 << 10})
	require.NoError(t, err)
	s, err := store.Open(placement.Devices{Store: d}, store.Options{ReadOnly: true})
	require.NoError(t, err)
	require.Equal(t, uuid, s.UUID())
	require.NoError(t, s.Close())
	return uuid
}
