// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/check"
	"zumastor.org/zumastor/engine/check/checktest"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/errdev"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/store"
)

// sizes are what a resize changes.
type sizes struct {
	origin int64
	slots  uint64
}

func (z *resizable) sizes() sizes {
	s := z.Server.Status()
	return sizes{s.OriginSize, s.Slots}
}

// mustSurvive opens what a power cut has left, and checks that it is the store of
// before or of after, with all of its content, and that it goes on.
func (z *resizable) mustSurvive(before sizes, want resize) error {
	devices := check.Devices{Store: z.Devices.Store, Meta: z.Devices.Meta, Journal: z.Devices.Journal}
	if found := checktest.Violations(devices, check.Leak); len(found) > 0 {
		return fmt.Errorf("before it was opened it has %d violations:\n%s", len(found), checktest.Format(found))
	}
	if err := z.Open(); err != nil {
		return err
	}
	defer z.Abandon()
	if got := z.sizes(); before.origin != 0 && got.origin != before.origin && got.origin != want.origin {
		return fmt.Errorf("the origin has %d bytes, neither %d nor %d", got.origin, before.origin, want.origin)
	}
	if err := z.verify(); err != nil {
		return err
	}
	if _, err := z.snapshot(); err != nil {
		return err
	}
	if err := z.writeSome(5); err != nil {
		return err
	}
	if err := z.verify(); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	if found := checktest.Violations(devices, check.Leak); len(found) > 0 {
		return fmt.Errorf("it has %d violations:\n%s", len(found), checktest.Format(found))
	}
	return nil
}

// prepared is a volume with snapshots, of which much is still shared, and a store
// that is used up to its end.
func prepared(t *testing.T, o rig.Options, w rig.Wrappers) *resizable {
	o.OriginSize = 64<<10 + 5*512
	z := newResizable(t, o, w)
	require.NoError(t, z.write(0, o.OriginSize))
	z.churn(t, 30)
	_, err := z.snapshot()
	require.NoError(t, err)
	require.NoError(t, z.writeSome(3))
	require.NoError(t, z.Volume.Flush())
	return z
}

// crashResizes are fewer than resizes, and each does what the others do not.
func crashResizes(separate bool) []resize {
	list := []resize{
		{origin: 100<<10 + 512}, {origin: 40<<10 + 3*512}, {store: 5 << 20}, {store: 2<<20 + 200<<10}, {store: 7 << 20}, {store: 3 << 20},
	}
	if separate {
		list = append(list, resize{store: 1 << 20, meta: 4 << 20}, resize{meta: 2 << 20})
	}
	return list
}

func TestResizeSurvivesCrashes(t *testing.T) {
	for _, o := range someSetups() {
		t.Run(setupName(o), func(t *testing.T) {
			z := prepared(t, o, rig.Wrappers{})
			rng := rand.New(rand.NewPCG(5, uint64(o.Placement)))
			cuts := 0
			var failed error
			for i, c := range crashResizes(o.Separate) {
				before := z.sizes()
				z.Machine.SetHook(func(e memdev.Event) {
					if failed != nil || (e.Kind == memdev.Wrote || e.Kind == memdev.Discarded) && rng.IntN(4) > 0 {
						return
					}
					fate := [...]memdev.Fate{{}, {Tear: 1}, {Keep: 1}, memdev.RandomFate(rng)}[cuts%4]
					cuts++
					failed = z.crashed(z.Rig.Crash(rng, fate)).mustSurvive(before, c)
				})
				require.NoError(t, z.resize(c), "resize %d: %+v", i, c)
				z.Machine.SetHook(nil)
				require.NoError(t, failed, "resize %d: %+v, power cut %d", i, c, cuts)
				require.NoError(t, z.writeSome(3))
				_, err := z.snapshot()
				require.NoError(t, err)
				if c.store > before.bytes(z) {
					z.churn(t, 30)
				}
				require.NoError(t, z.Volume.Flush())
			}
			require.NoError(t, z.verify())
			require.Greater(t, z.moved, uint64(10))
			require.Greater(t, cuts, 50)
		})
	}
}

// bytes returns the size of the store device.
func (s sizes) bytes(z *resizable) int64 {
	return z.Server.DataOffset() + int64(s.slots)*int64(z.ChunkSize)
}

// TestResizeSurvivesErrors has each I/O of a resize fail. The volume keeps what it has,
// before it is opened again and after.
func TestResizeSurvivesErrors(t *testing.T) {
	for _, o := range someSetups()[:2] {
		t.Run(setupName(o), func(t *testing.T) {
			var plan errdev.Plan
			z := prepared(t, o, rig.Wrappers{Device: func(name string, d device.Device) device.Device { return plan.Wrap(d) }})
			for i, c := range crashResizes(false)[:4] {
				before := z.sizes()
				failures := 0
				for n := int64(1); ; n++ {
					r := z.crashed(z.Rig.Crash(z.rng, memdev.Fate{Keep: 1}))
					require.NoError(t, r.Open())
					had := plan.Counts().Failed
					plan.Inject(errdev.Fault{Nth: n, Torn: true})
					err := r.resize(c)
					hit := plan.Counts().Failed > had
					plan.Clear()
					require.NoError(t, r.verify(), "resize %d, I/O %d", i, n)
					left := r.crashed(r.Flushed())
					require.NoError(t, left.mustSurvive(before, c), "resize %d: %+v, I/O %d: %v", i, c, n, err)
					r.Abandon()
					if !hit {
						require.NoError(t, err)
						break
					}
					failures++
				}
				require.Greater(t, failures, 3)
				require.NoError(t, z.resize(c))
				if c.store > before.bytes(z) {
					z.churn(t, 30)
				}
				require.NoError(t, z.Volume.Flush())
			}
		})
	}
}

// TestLvmExt3Resize has the numbers of the original's test of that name: the origin goes
// from 8 to 16 MiB and then to 4, the store from 8 to 64 MiB and then to 32. Old
// snapshots keep their sizes and contents.
func TestLvmExt3Resize(t *testing.T) {
	for _, o := range someSetups() {
		o.OriginSize, o.StoreSize, o.ChunkSize = 8<<20, 8<<20, 16<<10
		t.Run(setupName(o), func(t *testing.T) {
			z := &resizable{rng: rand.New(rand.NewPCG(1, 2)), content: make([]byte, 16<<20), snaps: map[block.Tag][]byte{}}
			var err error
			z.Rig, err = rig.New(o, rig.Wrappers{})
			require.NoError(t, err)
			defer func() { z.Abandon() }()
			z.Machine.Device(rig.Origin).Grow(16 << 20)
			z.Machine.Device(rig.Store).Grow(64 << 20)
			take := func() {
				require.NoError(t, z.writeSome(20))
				_, err := z.snapshot()
				require.NoError(t, err)
				require.NoError(t, z.writeSome(20))
			}
			take()
			require.NoError(t, z.resize(resize{store: 64 << 20}))
			require.NoError(t, z.resize(resize{origin: 16 << 20}))
			take()
			require.NoError(t, z.write(8<<20, 8<<20))
			require.NoError(t, z.verify())
			require.NoError(t, z.resize(resize{origin: 4 << 20}))
			require.NoError(t, z.resize(resize{store: 32 << 20}))
			take()
			require.NoError(t, z.verify())
			z.reopen(t)
			var got []int64
			for _, s := range z.Server.Snapshots() {
				got = append(got, s.Size)
			}
			require.Equal(t, []int64{8 << 20, 16 << 20, 4 << 20}, got)
			require.Equal(t, int64(4<<20), z.Volume.Size())
			_, err = z.Server.PlanResize(0, 1<<20, 0)
			require.ErrorIs(t, err, store.ErrTooSmall)
		})
	}
}

// TestResizeSurvivesCrashesUnderLoad cuts the power while others write: snapshots keep
// what they have, whatever was under way.
func TestResizeSurvivesCrashesUnderLoad(t *testing.T) {
	for _, o := range someSetups()[:3] {
		o.LeaseBytes, o.StoreLeaseBytes = 16<<10, 16<<10 // what is leased is soon used
		t.Run(setupName(o), func(t *testing.T) {
			z := prepared(t, o, rig.Wrappers{})
			rng := rand.New(rand.NewPCG(8, uint64(o.Placement)))
			stop := make(chan struct{})
			var wg sync.WaitGroup
			cuts := 0
			var failed error
			cut := func(e memdev.Event) {
				if e.Kind != memdev.FlushBegin && e.Kind != memdev.FlushEnd || !z.mu.TryLock() {
					return // or the writer's own
				}
				defer z.mu.Unlock()
				if cuts++; failed != nil || cuts > 400 || cuts%3 > 0 {
					return
				}
				left := z.crashed(z.Rig.Crash(rng, memdev.RandomFate(rng)))
				left.rng = rng
				_, err := left.Machine.Device(rig.Origin).ReadAt(left.content, 0)
				if err != nil {
					t.Error(err)
				}
				failed = left.mustSurvive(sizes{}, resize{})
			}
			wg.Go(func() { z.load(t, stop) })
			for range 2 {
				for i, c := range resizes(false) {
					if c.store != 0 {
						c.store += 4 << 20
					}
					z.Machine.SetHook(cut)
					err := z.resize(c)
					z.Machine.SetHook(nil)
					if err != nil {
						t.Errorf("resize %d, %+v: %v", i, c, err)
					}
				}
			}
			close(stop)
			wg.Wait()
			require.NoError(t, failed)
			require.Positive(t, cuts)
			require.NoError(t, z.verify())
			z.reopen(t)
		})
	}
}
