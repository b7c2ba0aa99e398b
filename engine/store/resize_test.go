// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
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

// resizable is a volume on devices that have room to grow, and what it and its
// snapshots must hold.
type resizable struct {
	*rig.Rig
	rng *rand.Rand

	mu      sync.Mutex
	content []byte // of the origin's device
	snaps   map[block.Tag][]byte
	next    block.Tag
	moved   uint64 // chunks, by all resizes
}

// resizeSetups are the placements, each with its metadata on the store and apart.
func resizeSetups() []rig.Options {
	var all []rig.Options
	for _, p := range []layout.Placement{layout.PlacementInline, layout.PlacementDisk, layout.PlacementNVRAM, layout.PlacementPMem} {
		for _, separate := range []bool{false, true} {
			all = append(all, rig.Options{
				Placement: p, Separate: separate, OriginSize: 200<<10 + 5*block.SectorSize, ChunkSize: 4 << 10,
				StoreSize: 3 << 20, MetaSize: 3 << 20, JournalSize: 280 << 10,
				BatchBytes: 64 << 10, AheadBytes: 16 << 10, LeaseBytes: 128 << 10, StoreLeaseBytes: 128 << 10, CacheBytes: 256 << 10,
			})
		}
	}
	return all
}

// someSetups are all placements, or in a soak also each with its metadata elsewhere.
func someSetups() []rig.Options {
	all := resizeSetups()
	if os.Getenv("ZUMASTOR_SOAK") != "" {
		return all
	}
	return []rig.Options{all[0], all[3], all[4], all[7]}
}

func setupName(o rig.Options) string {
	if o.Separate {
		return o.Placement.String() + "-separate"
	}
	return o.Placement.String()
}

// newResizable makes a volume, and its devices then larger.
func newResizable(t *testing.T, o rig.Options, w rig.Wrappers) *resizable {
	r, err := rig.New(o, w)
	require.NoError(t, err)
	const room = 32 << 20
	for _, name := range []string{rig.Origin, rig.Store, rig.Meta} {
		if d := r.Machine.Device(name); d != nil {
			d.Grow(room)
		}
	}
	z := &resizable{Rig: r, rng: rand.New(rand.NewPCG(1, 2)), content: make([]byte, room), snaps: map[block.Tag][]byte{}}
	t.Cleanup(func() { z.Abandon() })
	return z
}

// crashed is z as a power cut leaves it, with what must survive.
func (z *resizable) crashed(r *rig.Rig) *resizable {
	to := &resizable{Rig: r, rng: z.rng, content: bytes.Clone(z.content[:2<<20]), snaps: map[block.Tag][]byte{}, next: z.next}
	for tag, p := range z.snaps {
		to.snaps[tag] = p
	}
	return to
}

// write writes random bytes to a range, unless the origin has become too small.
func (z *resizable) write(off, n int64) error {
	p := make([]byte, n)
	for i := 0; i < len(p); i += 8 {
		p[i] = byte(z.rng.Uint32())
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	_, err := z.Volume.WriteAt(p, off)
	if errors.Is(err, device.ErrRange) {
		return nil
	}
	if err == nil {
		copy(z.content[off:], p)
	}
	return err
}

// writeSome writes at random places.
func (z *resizable) writeSome(n int) error {
	for range n {
		sectors := z.Volume.Size() / block.SectorSize
		at := z.rng.Int64N(sectors)
		if err := z.write(at*block.SectorSize, (1+z.rng.Int64N(min(20, sectors-at)))*block.SectorSize); err != nil {
			return err
		}
	}
	return nil
}

// snapshot makes a snapshot.
func (z *resizable) snapshot() (block.Tag, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.next++
	s, err := z.Server.CreateSnapshot(z.next)
	if err == nil {
		z.snaps[z.next] = bytes.Clone(z.content[:s.Size])
	}
	return z.next, err
}

// verify compares all snapshots and the origin with what they must hold.
func (z *resizable) verify() error {
	z.mu.Lock()
	defer z.mu.Unlock()
	for tag, want := range z.snaps {
		got, err := z.ReadSnapshot(tag, 0, int64(len(want)))
		if err != nil {
			return err
		}
		if at := differ(want, got); at >= 0 {
			return fmt.Errorf("snapshot %d of %d bytes is wrong at %d", tag, len(want), at)
		}
		_, err = z.ReadSnapshot(tag, int64(len(want)), block.SectorSize)
		if !errors.Is(err, device.ErrRange) {
			return fmt.Errorf("snapshot %d is larger than it was", tag)
		}
	}
	got := make([]byte, z.Volume.Size())
	_, err := z.Volume.ReadAt(got, 0)
	for ; errors.Is(err, device.ErrRange); _, err = z.Volume.ReadAt(got, 0) {
		got = got[:z.Volume.Size()] // it has shrunk meanwhile
	}
	if err != nil {
		return err
	}
	if at := differ(z.content[:len(got)], got); at >= 0 {
		return fmt.Errorf("the origin is wrong at %d", at)
	}
	return nil
}

// churn makes and deletes snapshots of which each has all of the origin copied out, so
// that slots far into the store are in use.
func (z *resizable) churn(t *testing.T, n int) {
	for range n {
		_, err := z.snapshot()
		require.NoError(t, err)
		require.NoError(t, z.write(0, z.Volume.Size()))
		z.prune(t, 4)
	}
}

// prune deletes snapshots so that the newest ones and the first are left.
func (z *resizable) prune(t *testing.T, keep int) {
	for tag := block.Tag(2); len(z.snaps) > keep; tag++ {
		if z.snaps[tag] != nil {
			require.NoError(t, z.Server.DeleteSnapshot(tag))
			delete(z.snaps, tag)
		}
	}
	require.NoError(t, z.Maintain())
}

func differ(want, got []byte) int {
	if bytes.Equal(want, got) {
		return -1
	}
	for i := range want {
		if want[i] != got[i] {
			return i
		}
	}
	return len(want)
}

// mustBeClean has the independent checker look at the devices.
func (z *resizable) mustBeClean(t *testing.T) {
	t.Helper()
	checktest.MustBeClean(t, check.Devices{Store: z.Devices.Store, Meta: z.Devices.Meta, Journal: z.Devices.Journal})
}

// reopen closes the volume, has it checked, and opens it again.
func (z *resizable) reopen(t *testing.T) {
	t.Helper()
	require.NoError(t, z.Close())
	z.mustBeClean(t)
	require.NoError(t, z.Open())
	require.NoError(t, z.verify())
}

// resize is one change of sizes.
type resize struct{ origin, store, meta int64 }

func (z *resizable) resize(c resize) error {
	if c.origin != 0 {
		return z.Server.ResizeOrigin(context.Background(), c.origin, nil)
	}
	moved := uint64(0)
	err := z.Server.ResizeStore(context.Background(), c.store, c.meta, func(p store.Progress) {
		if p.Phase == "move" {
			moved = p.Done
		}
	})
	z.moved += moved
	return err
}

// resizes goes both ways, to sizes that are no multiples of a chunk.
func resizes(separate bool) []resize {
	list := []resize{
		{store: 5<<20 + 1000}, {origin: 300<<10 + 512}, {store: 12 << 20}, {origin: 100<<10 + 3*512}, {origin: 150 << 10},
		{store: 4<<20 + 8192}, {store: 9 << 20}, {origin: 64 << 10}, {store: 6 << 20}, {origin: 260<<10 + 7*512}, {store: 3600 << 10},
	}
	if separate {
		list = append(list, resize{meta: 4 << 20}, resize{meta: 5 << 20, store: 4 << 20}, resize{meta: 2 << 20})
	}
	return list
}

func TestResizeKeepsAllContent(t *testing.T) {
	for _, o := range resizeSetups() {
		t.Run(setupName(o), func(t *testing.T) {
			z := newResizable(t, o, rig.Wrappers{})
			require.NoError(t, z.write(0, o.OriginSize))
			for i, c := range resizes(o.Separate) {
				z.churn(t, 5)
				if c.store != 0 && c.store < 5<<20 {
					z.churn(t, 25)
				}
				_, err := z.snapshot()
				require.NoError(t, err)
				require.NoError(t, z.writeSome(10))
				require.NoError(t, z.resize(c), "resize %d: %+v", i, c)
				require.NoError(t, z.verify(), "resize %d: %+v", i, c)
				z.requireSizes(t, c)
				require.NoError(t, z.writeSome(10))
				if i%2 == 1 {
					z.reopen(t)
					z.requireSizes(t, c)
				}
			}
			require.NoError(t, z.verify())
			require.Greater(t, z.moved, uint64(30))
			z.reopen(t)
			for tag := range z.snaps {
				require.NoError(t, z.Server.DeleteSnapshot(tag))
			}
			require.NoError(t, z.Maintain())
			require.NoError(t, z.Close())
			z.mustBeClean(t)
			require.NoError(t, z.Open())
			require.Zero(t, z.Server.Status().Exceptions)
		})
	}
}

// requireSizes checks what a resize was for.
func (z *resizable) requireSizes(t *testing.T, c resize) {
	t.Helper()
	s := z.Server.Status()
	if c.origin != 0 {
		require.Equal(t, c.origin, s.OriginSize)
		require.Equal(t, c.origin, z.Volume.Size())
		_, err := z.Volume.ReadAt(make([]byte, 512), c.origin)
		require.ErrorIs(t, err, device.ErrRange)
	}
	if c.store != 0 {
		require.Equal(t, uint64(c.store-z.Server.DataOffset())/uint64(z.ChunkSize), s.Slots)
	}
}

// TestResizeUnderLoad resizes while others write, make and delete snapshots, write to
// one, and read all.
func TestResizeUnderLoad(t *testing.T) {
	for _, o := range someSetups() {
		o.Background = true
		t.Run(setupName(o), func(t *testing.T) {
			z := newResizable(t, o, rig.Wrappers{})
			require.NoError(t, z.resize(resize{store: 16 << 20}))
			require.NoError(t, z.write(0, o.OriginSize))
			z.churn(t, 60)
			branch := z.openBranch(t)
			stop := make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() { z.load(t, stop) })
			wg.Go(func() { branch.load(t, stop) })
			for range 2 {
				for i, c := range resizes(false) {
					if c.store != 0 {
						c.store += 8 << 20
					}
					if err := z.resize(c); err != nil {
						t.Errorf("resize %d, %+v: %v", i, c, err)
						break
					}
				}
			}
			close(stop)
			wg.Wait()
			require.NoError(t, branch.close())
			require.NoError(t, z.verify())
			require.Greater(t, z.moved, uint64(30))
			z.reopen(t)
		})
	}
}

// load writes, and makes, reads and deletes snapshots, until stop is closed.
func (z *resizable) load(t *testing.T, stop chan struct{}) {
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		err := z.writeSome(10)
		if err == nil && i%3 == 0 {
			_, err = z.snapshot()
		}
		if err == nil && i%10 == 9 {
			err = z.verify()
		}
		for tag := range z.snaps {
			if err == nil && len(z.snaps) > 5 {
				z.mu.Lock()
				delete(z.snaps, tag)
				z.mu.Unlock()
				err = z.Server.DeleteSnapshot(tag)
			}
		}
		if err != nil {
			t.Error(err)
			return
		}
	}
}

// written is a snapshot that is written to, and what it must hold.
type written struct {
	*volume.Snapshot
	content []byte
	rng     *rand.Rand
}

func (z *resizable) openBranch(t *testing.T) *written {
	s, err := z.Server.Create(store.NewSnapshot{Tag: 1 << 20})
	require.NoError(t, err)
	w, err := volume.OpenSnapshotRef(z.Source(), wire.SnapshotRef{Tag: 1 << 20}, true)
	require.NoError(t, err)
	return &written{Snapshot: w, content: bytes.Clone(z.content[:s.Size]), rng: rand.New(rand.NewPCG(3, 4))}
}

func (w *written) load(t *testing.T, stop chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		sectors := w.Size() / block.SectorSize
		at := w.rng.Int64N(sectors)
		p := make([]byte, (1+w.rng.Int64N(min(12, sectors-at)))*block.SectorSize)
		for i := range p {
			p[i] = byte(w.rng.Uint32())
		}
		if _, err := w.WriteAt(p, at*block.SectorSize); err != nil {
			t.Error(err)
			return
		}
		copy(w.content[at*block.SectorSize:], p)
		got := make([]byte, w.Size())
		if _, err := w.ReadAt(got, 0); err != nil || !bytes.Equal(w.content, got) {
			t.Errorf("the snapshot that is written to is wrong at %d: %v", differ(w.content, got), err)
			return
		}
	}
}

func (w *written) close() error {
	got := make([]byte, w.Size())
	_, err := w.ReadAt(got, 0)
	if err == nil && !bytes.Equal(w.content, got) {
		err = fmt.Errorf("the snapshot that was written to is wrong at %d", differ(w.content, got))
	}
	return errors.Join(err, w.Close())
}

// A client that finds no space before the new end of a store has the shrink given up:
// the write waits for that, and no snapshot is dropped.
func TestShrinkGivesWayToClients(t *testing.T) {
	for range 50 {
		if shrinkGaveWay(t) {
			return
		}
	}
	t.Fatal("the write never came before the end of the shrink")
}

// shrinkGaveWay writes while a store is shrunk to the least, and reports whether the
// write came in time; if so, it checks what has become of both.
func shrinkGaveWay(t *testing.T) bool {
	z := newResizable(t, resizeSetups()[0], rig.Wrappers{})
	require.NoError(t, z.write(0, z.OriginSize))
	z.churn(t, 20)
	_, err := z.snapshot()
	require.NoError(t, err)
	plan, err := z.Server.PlanResize(0, 0, 0)
	require.NoError(t, err)
	before, snaps := z.sizes(), len(z.Server.Snapshots())
	wrote := make(chan error, 1)
	var once sync.Once
	err = z.Server.ResizeStore(context.Background(), plan.MinStoreSize, 0, func(store.Progress) {
		once.Do(func() {
			go func() { wrote <- z.write(0, z.OriginSize) }()
		})
	})
	if err == nil { // there may be no space left for the write
		<-wrote
		return false
	}
	require.NoError(t, <-wrote)
	require.Equal(t, before, z.sizes())
	require.Len(t, z.Server.Snapshots(), snaps)
	require.NoError(t, z.verify())
	z.reopen(t)
	return true
}

// A resize ends with its context, and leaves all as it was.
func TestResizeCanBeCancelled(t *testing.T) {
	z := newResizable(t, resizeSetups()[0], rig.Wrappers{})
	require.NoError(t, z.write(0, z.OriginSize))
	z.churn(t, 20)
	_, err := z.snapshot()
	require.NoError(t, err)
	before := z.sizes()
	ctx, cancel := context.WithCancel(context.Background())
	stop := func(store.Progress) { cancel() }
	require.ErrorIs(t, z.Server.ResizeStore(ctx, 2500<<10, 0, stop), context.Canceled)
	require.ErrorIs(t, z.Server.ResizeOrigin(ctx, 4096, stop), context.Canceled)
	require.Equal(t, before, z.sizes())
	require.NoError(t, z.verify())
	require.NoError(t, z.writeSome(50))
	z.reopen(t)
	require.NoError(t, z.resize(resize{store: 2500 << 10}))
	z.reopen(t)

	require.ErrorIs(t, z.resize(resize{store: 1 << 20}), store.ErrTooSmall)
	require.ErrorIs(t, z.resize(resize{store: 1 << 30}), block.ErrGeometry)
	require.ErrorIs(t, z.resize(resize{origin: 100}), block.ErrGeometry)
	require.ErrorIs(t, z.resize(resize{store: 4 << 20, meta: 1 << 20}), block.ErrGeometry)
	_, err = z.snapshot()
	require.NoError(t, err)
	require.NoError(t, z.Volume.Close())
	require.ErrorIs(t, z.Server.ResizeOrigin(context.Background(), 4096, nil), store.ErrNoOrigin)
	require.NoError(t, z.Server.ResizeOrigin(context.Background(), 1<<20, nil), "nothing to copy out")
	require.NoError(t, z.Server.ResizeStore(context.Background(), 2450<<10, 0, nil), "without a client")
	left := z.crashed(z.Rig.Crash(z.rng, memdev.Fate{}))
	left.mustBeClean(t)
	require.NoError(t, left.Open())
	require.NoError(t, left.verify())
	left.Abandon()
	require.NoError(t, z.Server.Close())
	require.NoError(t, z.Open())
	require.NoError(t, z.verify())
}

// TestShrinkFragmentedStore shrinks a store in which no two free slots are neighbours,
// so that clients have as many leases as there may be, and whose plan says what comes.
func TestShrinkFragmentedStore(t *testing.T) {
	o := resizeSetups()[2]
	o.OriginSize, o.StoreLeaseBytes, o.LeaseBytes, o.AheadBytes = 64<<10, 64<<10, 64<<10, -1
	z := newResizable(t, o, rig.Wrappers{})
	slots := int64(z.Server.Status().Slots)
	for range slots - 40 {
		_, err := z.snapshot()
		require.NoError(t, err)
		require.NoError(t, z.write(0, 512))
	}
	for tag := range z.snaps {
		if tag%2 == 0 && tag < 3*z.next/4 || tag%4 != 1 && tag >= 3*z.next/4 {
			require.NoError(t, z.Server.DeleteSnapshot(tag))
			delete(z.snaps, tag)
		}
	}
	require.NoError(t, z.Maintain())
	require.NoError(t, z.Server.Store.Checkpoint())
	_, err := z.snapshot()
	require.NoError(t, err)
	plan, err := z.Server.PlanResize(10<<10, 0, 0)
	require.NoError(t, err)
	require.Equal(t, uint64(14), plan.CopyOut)
	plan, err = z.Server.PlanResize(0, plan.MinStoreSize+64<<10, 0)
	require.NoError(t, err)
	require.Greater(t, plan.MoveChunks, uint64(50))
	require.NoError(t, z.resize(resize{store: plan.NewStoreSize}))
	require.Equal(t, plan.MoveChunks, z.moved)
	require.NoError(t, z.verify())
	require.NoError(t, z.writeSome(5))
	z.reopen(t)
	_, err = z.Server.PlanResize(0, plan.MinStoreSize-64<<10, 0)
	require.ErrorIs(t, err, store.ErrTooSmall)
}
