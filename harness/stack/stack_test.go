// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/devtest"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/harness/spec"
	"zumastor.org/zumastor/workloads/gen"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const mib = 1 << 20

var size = Size{Origin: 4 * mib, Stores: 64 * mib}

// beds are all kinds of bed.
func beds(t *testing.T) map[string]*Bed {
	all := map[string]*Bed{"memory": NewMemory(size)}
	var err error
	for _, model := range []string{"hdd", "ssd", "nvme"} {
		all[model], err = NewModel(model, size)
		require.NoError(t, err)
	}
	all["files"], err = Open(Options{Dir: t.TempDir()}, size)
	require.NoError(t, err)
	return all
}

// TestSnapshotsOfEveryVariant makes a snapshot, overwrites the origin and reads
// both.
func TestSnapshotsOfEveryVariant(t *testing.T) {
	for name, bed := range beds(t) {
		for _, variant := range []string{"inline", "disk", "nvram", "pmem"} {
			t.Run(name+"/"+variant, func(t *testing.T) {
				st, err := bed.Build(Config{Variant: variant, ChunkSize: 64 << 10, Origin: 3 * mib, StoreOff: 16 * mib, StoreSize: 32 * mib})
				require.NoError(t, err)
				old, fresh := make([]byte, 3*mib), bytes.Repeat([]byte{7}, 3*mib)
				_, err = st.Device().ReadAt(old, 0)
				require.NoError(t, err)
				require.NoError(t, st.Snapshot(1))
				_, err = st.Device().WriteAt(fresh, 0)
				require.NoError(t, err)
				snap, err := st.Open(1, false)
				require.NoError(t, err)
				got := make([]byte, 3*mib)
				_, err = snap.ReadAt(got, 0)
				require.NoError(t, err)
				require.True(t, bytes.Equal(old, got), "the snapshot is as it was")
				require.NoError(t, snap.Close())
				_, err = st.Device().WriteAt(old, 0)
				require.NoError(t, err)
				require.NoError(t, st.Delete(1))
				require.NoError(t, st.Idle())
				require.Zero(t, st.Status().Exceptions)
				require.NoError(t, st.Maintain())
				require.NoError(t, st.Checkpoint())
				require.NoError(t, st.Close())
			})
		}
		require.NoError(t, bed.Close())
	}
}

func TestModelledTimeIsVirtual(t *testing.T) {
	var took [2]int64
	for i := range took {
		bed, err := NewModel("hdd", size)
		require.NoError(t, err)
		require.True(t, bed.Modelled())
		st, err := bed.Build(Config{Variant: spec.Raw, Origin: size.Origin})
		require.NoError(t, err)
		before := st.Now()
		_, err = st.Device().WriteAt(make([]byte, mib), 0)
		require.NoError(t, err)
		require.NoError(t, st.Device().Flush())
		took[i] = int64(st.Now() - before)
	}
	require.Positive(t, took[0])
	require.Equal(t, took[0], took[1])
	_, err := NewModel("tape", size)
	require.ErrorContains(t, err, `no disk model "tape"`)
}

func TestFilesAreFilledAndNameless(t *testing.T) {
	dir := t.TempDir()
	bed, err := Open(Options{Dir: dir}, Size{Origin: 2*mib + 512*8, Stores: mib})
	require.NoError(t, err)
	p := make([]byte, bed.origin.Size())
	_, err = bed.origin.ReadAt(p, 0)
	require.NoError(t, err)
	require.NoError(t, gen.Verify(p, ContentSeed, 0, 0))
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left, "they have no names")
	require.NoError(t, bed.Close())
	_, err = bed.origin.ReadAt(p, 0)
	require.ErrorIs(t, err, device.ErrClosed)
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	_, err := Open(Options{Dir: dir}, Size{Origin: 1 << 50, Stores: mib})
	require.ErrorContains(t, err, "name a directory on a larger file system with --dir")
	_, err = Open(Options{Dir: filepath.Join(dir, "none")}, size)
	require.ErrorIs(t, err, os.ErrNotExist)

	signed := filepath.Join(dir, "disk")
	content := make([]byte, 2*mib)
	copy(content[0x438:], "\x53\xef")
	require.NoError(t, os.WriteFile(signed, content, 0o600))
	var found *device.SignatureError
	_, err = Open(Options{Dir: dir, Device: signed}, Size{Origin: mib, Stores: mib})
	require.ErrorAs(t, err, &found)
	require.ErrorContains(t, err, "--force")
	_, err = Open(Options{Dir: dir, Device: signed, Force: true}, Size{Origin: mib, Stores: 2 * mib})
	require.ErrorContains(t, err, "choose fewer or a smaller suite")
	bed, err := Open(Options{Dir: dir, Device: signed, Force: true}, Size{Origin: mib, Stores: mib})
	require.NoError(t, err)
	require.NoError(t, bed.Close())
	require.FileExists(t, signed)
}

func TestBuildRefuses(t *testing.T) {
	bed := NewMemory(size)
	for _, c := range []Config{
		{Variant: "tape", ChunkSize: 65536, Origin: mib, StoreSize: mib},
		{Variant: "inline", ChunkSize: 5000, Origin: mib, StoreSize: 8 * mib},
		{Variant: "inline", ChunkSize: 65536, Origin: size.Origin + 512, StoreSize: 8 * mib},
		{Variant: "inline", ChunkSize: 65536, Origin: mib, StoreOff: size.Stores, StoreSize: 8 * mib},
	} {
		_, err := bed.Build(c)
		require.ErrorContains(t, err, "building "+c.Variant)
	}
}

func TestSectionConforms(t *testing.T) {
	devtest.Run(t, func(t *testing.T) device.Device {
		const n = 5<<20 + 512
		d, err := cut(memdev.New(16*mib), mib, n)
		require.NoError(t, err)
		return d
	})
}

// logged records what is asked of a device.
type logged struct {
	device.Device
	name string
	to   *[]string
}

func (l logged) ReadAt(p []byte, off int64) (int, error) {
	*l.to = append(*l.to, l.name+" read")
	return l.Device.ReadAt(p, off)
}

func (l logged) WriteAt(p []byte, off int64) (int, error) {
	*l.to = append(*l.to, l.name+" write")
	return l.Device.WriteAt(p, off)
}

func (l logged) Flush() error {
	*l.to = append(*l.to, l.name+" flush")
	return l.Device.Flush()
}

func TestCopyBoundDoesTheLeast(t *testing.T) {
	var log []string
	origin, store := memdev.New(mib), memdev.New(mib)
	c := NewCopyBound(logged{origin, "origin", &log}, logged{store, "store", &log}, 64<<10)
	old := bytes.Repeat([]byte{1}, mib)
	_, err := origin.WriteAt(old, 0)
	require.NoError(t, err)
	ops := []device.Op{
		{Kind: device.Write, Off: 0, Data: make([]byte, 4096)},
		{Kind: device.Write, Off: 64 << 10, Data: make([]byte, 4096)}, // the next chunk: one read for both
	}
	require.NoError(t, c.Do(ops[:1]))
	require.Equal(t, []string{"origin write"}, log, "without a snapshot nothing is copied")
	_, err = origin.WriteAt(old, 0)
	require.NoError(t, err)

	log = nil
	c.Snapshot()
	require.NoError(t, c.Do(ops))
	require.Equal(t, []string{"origin read", "store write", "store flush", "origin write", "origin write"}, log)
	got := make([]byte, 128<<10)
	_, err = store.ReadAt(got, 0)
	require.NoError(t, err)
	require.Equal(t, old[:len(got)], got)

	log = nil
	_, err = c.WriteAt(make([]byte, 4096), 8192)
	require.NoError(t, err)
	require.Equal(t, []string{"origin write"}, log, "what was copied is settled")
	log = nil
	require.NoError(t, c.Discard(128<<10, 4096))
	require.Equal(t, []string{"origin read", "store write", "store flush"}, log)
}

func TestCopyBoundGoesAround(t *testing.T) {
	c := NewCopyBound(memdev.New(4*mib), memdev.New(mib), 256<<10)
	c.Snapshot()
	_, err := c.WriteAt(make([]byte, 4*mib), 0)
	require.NoError(t, err)
	require.LessOrEqual(t, c.next, int64(mib))
}

func TestFlushMeter(t *testing.T) {
	bed := NewMemory(size)
	m := new(FlushMeter)
	st, err := bed.Build(Config{Variant: "inline", ChunkSize: 65536, Origin: mib, StoreSize: 32 * mib, Meter: m})
	require.NoError(t, err)
	before := m.Spent()
	require.NoError(t, st.Snapshot(1))
	require.Greater(t, m.Spent(), before)
	require.NoError(t, st.Close())
}

func TestOpenPathsNeedsBoth(t *testing.T) {
	dir := t.TempDir()
	origin := filepath.Join(dir, "origin")
	require.NoError(t, os.WriteFile(origin, make([]byte, mib), 0o600))
	_, err := OpenPaths(origin, filepath.Join(dir, "none"))
	require.True(t, errors.Is(err, os.ErrNotExist))
}

func TestStripesConform(t *testing.T) {
	devtest.Run(t, func(t *testing.T) device.Device {
		d, err := share(memdev.New(4*2*stripeSize), Share{Nth: 2, Of: 4}, 2*stripeSize)
		require.NoError(t, err)
		return d
	})
}

// Shares have no byte in common, and writes across stripes come back whole.
func TestSharesAreApart(t *testing.T) {
	bed := memdev.New(3 * 4 * stripeSize)
	var shares []device.Device
	for nth := range 3 {
		d, err := share(bed, Share{Nth: nth, Of: 3}, 4*stripeSize)
		require.NoError(t, err)
		p := bytes.Repeat([]byte{byte(nth + 1)}, 4*stripeSize)
		require.NoError(t, device.Do(d, []device.Op{{Kind: device.Write, Off: 0, Data: p}}))
		shares = append(shares, d)
	}
	for nth, d := range shares {
		p := make([]byte, 4*stripeSize)
		_, err := d.ReadAt(p, 0)
		require.NoError(t, err)
		require.Equal(t, 4*stripeSize, bytes.Count(p, []byte{byte(nth + 1)}))
	}
	_, err := share(bed, Share{Nth: 1, Of: 4}, 4*stripeSize)
	require.ErrorIs(t, err, device.ErrRange, "the bed is too small")
	d, err := share(bed, Share{Nth: 1, Of: 3}, stripeSize/2)
	require.NoError(t, err, "a share that is no whole number of stripes is in one piece")
	require.EqualValues(t, stripeSize/2, d.Size())
}
