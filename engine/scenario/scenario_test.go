// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"crypto/md5"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/metamorphic"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/server"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	kib = 1 << 10
	mib = 1 << 20
)

func do(t *testing.T, r *metamorphic.Runner, ops ...metamorphic.Op) {
	t.Helper()
	require.NoError(t, r.All(ops))
	require.Zero(t, r.Failed)
}

// sum returns the checksum of all that a snapshot holds.
func sum(t *testing.T, r *metamorphic.Runner, tag block.Tag) [md5.Size]byte {
	p, err := r.Rig.ReadSnapshot(tag, 0, r.Rig.OriginSize)
	require.NoError(t, err)
	return md5.Sum(p)
}

// TestSnapshotDdsnap: 4 MiB of random overwrites change nothing of snapshot 0, and
// snapshot 2, made after them, equals the origin.
func TestSnapshotDdsnap(t *testing.T) {
	r := open(t, rig.Options{OriginSize: 4 * mib, ChunkSize: 16 * kib, StoreSize: 16 * mib}, poison(t))
	do(t, r, metamorphic.Op{Kind: metamorphic.Write, Len: 4 * mib, Seed: 1}, snap(0))
	before := sum(t, r, 0)
	rng := rand.New(rand.NewPCG(1, 1))
	for n := 0; n < 4*mib; n += 4 * kib {
		do(t, r, metamorphic.Op{Kind: metamorphic.Write, Off: rng.Int64N(4*mib/(4*kib)) * 4 * kib, Len: 4 * kib, Seed: rng.Uint64()})
	}
	require.Equal(t, before, sum(t, r, 0))
	do(t, r, snap(2))
	origin, err := r.Rig.ReadOrigin()
	require.NoError(t, err)
	require.Equal(t, md5.Sum(origin), sum(t, r, 2))
	require.NotEqual(t, before, sum(t, r, 2))
	do(t, r, restart)
	require.Equal(t, before, sum(t, r, 0))
}

// TestDdsnapReplayJournal aborts a server and starts it again, for every chunk size:
// the journal is replayed, and all counts are as they were.
func TestDdsnapReplayJournal(t *testing.T) {
	for size := block.MinChunkSize; size <= block.MaxChunkSize; size *= 2 {
		for _, p := range placements {
			t.Run(fmt.Sprintf("%dk %v", size/kib, p), func(t *testing.T) {
				o := rig.Options{OriginSize: 8 * mib, ChunkSize: size, Placement: p, StoreSize: 48 * mib, JournalSize: 4 * mib}
				r := open(t, o, rig.Wrappers{})
				rng := rand.New(rand.NewPCG(uint64(size), 2))
				for tag := range block.Tag(3) {
					do(t, r, metamorphic.Op{Kind: metamorphic.Write, Off: rng.Int64N(14) * 512 * kib, Len: 300 * kib, Seed: rng.Uint64()}, snap(tag),
						metamorphic.Op{Kind: metamorphic.Write, Off: rng.Int64N(8) * 512 * kib, Len: 700 * kib, Seed: rng.Uint64()},
						metamorphic.Op{Kind: metamorphic.Write, Off: rng.Int64N(800) * 8 * kib, Len: 8 * kib, Seed: rng.Uint64()})
				}
				do(t, r, on(1, 3), metamorphic.Op{Kind: metamorphic.FlushSnap, Tag: 1})
				before := r.Rig.Server.Status()
				require.NoError(t, r.Crash(r.Rig.Crash(rng, memdev.Fate{})))
				after := r.Rig.Server.Status()
				require.Equal(t, before.Exceptions, after.Exceptions)
				require.Equal(t, before.SnapshotsLive, after.SnapshotsLive)
				require.Equal(t, before.Generation, after.Generation)
				require.Equal(t, store.ReadWrite, after.Mode)
				require.NotZero(t, after.Exceptions)
				do(t, r, origin(1), restart)
			})
		}
	}
}

// TestSnapshotZumastorRevert reverts the origin to snapshot 0; a later snapshot is
// not affected.
func TestSnapshotZumastorRevert(t *testing.T) {
	r := open(t, rig.Options{OriginSize: 4 * mib, ChunkSize: 16 * kib, StoreSize: 16 * mib}, poison(t))
	do(t, r, metamorphic.Op{Kind: metamorphic.Write, Len: 4 * mib, Seed: 1}, snap(0), metamorphic.Op{Kind: metamorphic.Write, Off: mib, Len: mib, Seed: 2}, snap(1))
	zero, one := sum(t, r, 0), sum(t, r, 1)
	do(t, r, metamorphic.Op{Kind: metamorphic.Write, Len: 2 * mib, Seed: 3}, metamorphic.Op{Kind: metamorphic.Revert, Tag: 0})
	p, err := r.Rig.ReadOrigin()
	require.NoError(t, err)
	require.Equal(t, zero, md5.Sum(p))
	require.Equal(t, one, sum(t, r, 1))
	do(t, r, restart)
}

// TestSnapshotZumastorLVMExt3Resize grows the origin from 8 to 16 MiB and the store
// from 8 to 64, then shrinks them to 4 and 32: snapshots keep their sizes and content.
func TestSnapshotZumastorLVMExt3Resize(t *testing.T) {
	r := open(t, rig.Options{OriginSize: 8 * mib, ChunkSize: 16 * kib, StoreSize: 16 * mib}, rig.Wrappers{})
	do(t, r, metamorphic.Op{Kind: metamorphic.Write, Len: 8 * mib, Seed: 1}, snap(0), metamorphic.Op{Kind: metamorphic.Write, Len: mib, Seed: 2},
		metamorphic.Op{Kind: metamorphic.ResizeSt, Len: 64 * mib}, metamorphic.Op{Kind: metamorphic.Resize, Len: 16 * mib},
		metamorphic.Op{Kind: metamorphic.Write, Off: 8 * mib, Len: 8 * mib, Seed: 3}, snap(1), metamorphic.Op{Kind: metamorphic.Write, Off: 7 * mib, Len: 2 * mib, Seed: 4},
		metamorphic.Op{Kind: metamorphic.Resize, Len: 4 * mib}, metamorphic.Op{Kind: metamorphic.ResizeSt, Len: 32 * mib}, snap(2))
	require.NoError(t, r.Compare())
	do(t, r, restart)
	for i, s := range r.Rig.Server.Snapshots() {
		require.Equal(t, []int64{8 * mib, 16 * mib, 4 * mib}[i], s.Size)
	}
}

// TestZumastorSymlinkStores names both devices by symbolic links to symbolic links.
func TestZumastorSymlinkStores(t *testing.T) {
	dir := t.TempDir()
	open := func(name string, size int64) *device.File {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, nil, 0o600))
		require.NoError(t, os.Truncate(path, size))
		require.NoError(t, os.Symlink(path, path+".link"))
		require.NoError(t, os.Symlink(path+".link", path+".link2"))
		f, err := device.OpenFile(path+".link2", device.FileOptions{})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, f.Close()) })
		_, err = device.OpenFile(path, device.FileOptions{})
		require.ErrorIs(t, err, device.ErrInUse, "it is the same device by any name")
		return f
	}
	dev, devs := open("origin", 8*mib), placement.Devices{Store: open("store", 8*mib)}
	_, err := store.Format(devs, store.FormatOptions{OriginSize: 8 * mib, ChunkSize: 16 * kib})
	require.NoError(t, err)
	s, err := server.Open(devs, server.Options{})
	require.NoError(t, err)
	v, err := volume.OpenOrigin(s, dev, devs, volume.Options{})
	require.NoError(t, err)
	_, err = s.CreateSnapshot(0)
	require.NoError(t, err)
	_, err = v.WriteAt([]byte{511: 1}, 0)
	require.NoError(t, err)
	require.EqualValues(t, 1, s.Status().Exceptions)
	require.NoError(t, v.Close())
	require.NoError(t, s.Close())
}
