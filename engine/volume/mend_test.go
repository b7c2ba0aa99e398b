// SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device/errdev"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/wire"
)

// snapped returns a volume of small's size that is full of ones, with a snapshot, and
// a plan for its store device.
func snapped(t *testing.T, o rig.Options) (*rig.Rig, *errdev.Plan) {
	var plan errdev.Plan
	return filled(t, o, planned(rig.Store, &plan), 1), &plan
}

// filled returns a volume that is full of a byte, with a snapshot.
func filled(t *testing.T, o rig.Options, w rig.Wrappers, content byte) *rig.Rig {
	r, err := rig.New(o, w)
	require.NoError(t, err)
	t.Cleanup(r.Abandon)
	_, err = r.Volume.WriteAt(bytes.Repeat([]byte{content}, int(o.OriginSize)), 0)
	require.NoError(t, err)
	_, err = r.Server.CreateSnapshot(1)
	require.NoError(t, err)
	return r
}

// requireOnes checks that snapshot 1 of a closed rig is what it was made of.
func requireOnes(t *testing.T, r *rig.Rig) {
	t.Helper()
	require.NoError(t, r.Open())
	defer r.Abandon()
	p, err := r.ReadSnapshot(1, 0, r.OriginSize)
	require.NoError(t, err)
	require.Equal(t, -1, bytes.IndexFunc(p, func(c rune) bool { return c != 1 }), "first byte that is not the snapshot's")
}

var everyPlacement = []layout.Placement{layout.PlacementInline, layout.PlacementDisk, layout.PlacementNVRAM, layout.PlacementPMem}

// A batch fails once, anywhere in its writes and flushes: it is written again, and no
// power cut at any time after finds anything wrong.
func TestFailedBatchIsWrittenAgain(t *testing.T) {
	for _, p := range everyPlacement {
		for nth := int64(1); nth <= 12; nth++ {
			t.Run(fmt.Sprintf("%v/%d", p, nth), func(t *testing.T) {
				o := small(p)
				o.Separate = nth%2 == 0
				r, plan := snapped(t, o)
				plan.Inject(errdev.Fault{Kinds: errdev.Writes | errdev.Flushes, Nth: nth, Torn: true})
				rng := rand.New(rand.NewPCG(uint64(nth), uint64(p)))
				for c := range int64(6) {
					_, err := r.Volume.WriteAt(bytes.Repeat([]byte{2}, 40<<10), c*48<<10)
					if r.Server.Status().Mode == store.Failed {
						return // it was a checkpoint's
					}
					require.NoError(t, err)
					requireOnes(t, r.Crash(rng, memdev.RandomFate(rng)).Flushed())
				}
				require.Zero(t, r.Server.Status().SlotsAside)
			})
		}
	}
}

// Slots that cannot be written are not tried twice.
func TestBadSlotsAreSetAside(t *testing.T) {
	o := small(layout.PlacementInline)
	r, plan := snapped(t, o)
	bad := errdev.Fault{Kinds: errdev.Writes, Off: r.Server.DataOffset(), Len: 3 * int64(o.ChunkSize), Forever: true}
	plan.Inject(bad)
	_, err := r.Volume.WriteAt([]byte{511: 2}, 0)
	require.NoError(t, err)
	st := r.Server.Status()
	require.NotZero(t, st.SlotsAside)
	require.Empty(t, st.Trouble)
	failed := plan.Counts().Failed
	for at := int64(o.ChunkSize); at < 1<<20; at += int64(o.ChunkSize) {
		_, err := r.Volume.WriteAt([]byte{511: 2}, at)
		require.NoError(t, err)
	}
	require.Equal(t, failed, plan.Counts().Failed)
	requireOnes(t, r.Flushed())
	require.NoError(t, r.Volume.Close())
	require.Zero(t, r.Server.Status().SlotsLeased, "until the origin detaches")
}

// The store device is away for a while: writes that need it wait, all else goes on, and
// nothing has failed for it.
func TestWritesAreHeldUntilTheDeviceIsBack(t *testing.T) {
	for _, p := range everyPlacement {
		for _, separate := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v/%v", p, separate), func(t *testing.T) {
				o := small(p)
				o.Separate, o.Failing = separate, rig.Holds
				r, plan := snapped(t, o)
				events, cancel := r.Server.Subscribe(16)
				defer cancel()
				plan.DieAt(1)
				var writers sync.WaitGroup
				for c := range int64(4) {
					writers.Go(func() {
						_, err := r.Volume.WriteAt(bytes.Repeat([]byte{2}, 40<<10), c*64<<10)
						require.NoError(t, err)
					})
				}
				require.Equal(t, store.EventTrouble, (<-events).Kind)
				require.NotEmpty(t, r.Server.Status().Trouble)
				_, err := r.Server.CreateSnapshot(2)
				require.ErrorIs(t, err, store.ErrTrouble)
				_, err = r.ReadOrigin()
				require.NoError(t, err)
				plan.Clear()
				writers.Wait()
				require.Empty(t, r.Server.Status().Trouble)
				_, err = r.Server.CreateSnapshot(2)
				require.NoError(t, err)
				requireOnes(t, r.Flushed())
			})
		}
	}
}

// A write that is held ends with the volume.
func TestHeldWritesEndWithTheVolume(t *testing.T) {
	o := small(layout.PlacementInline)
	o.Failing = rig.Holds
	r, plan := snapped(t, o)
	events, cancel := r.Server.Subscribe(16)
	defer cancel()
	plan.DieAt(1)
	ended := make(chan error)
	go func() {
		_, err := r.Volume.WriteAt([]byte{511: 2}, 0)
		ended <- err
	}()
	require.Equal(t, store.EventTrouble, (<-events).Kind)
	require.NoError(t, r.Volume.Close())
	require.Error(t, <-ended)
	requireOnes(t, r.Flushed())
}

// The origin goes on without its snapshots, which are known to be lost for good.
func TestOriginGoesOnWithoutItsStore(t *testing.T) {
	o := small(layout.PlacementInline)
	o.Failing = rig.LetsGo
	r, plan := snapped(t, o)
	plan.DieAt(1)
	_, err := r.Volume.WriteAt(make([]byte, o.OriginSize), 0)
	require.NoError(t, err)
	again := r.Flushed()
	require.NoError(t, again.Open())
	defer again.Abandon()
	_, err = again.ReadSnapshot(1, 0, 512)
	require.ErrorIs(t, err, store.ErrSquashed)
}

// Batches fail now and then while others are read, prepared and waited for: no write
// is let go for a batch that was not durable.
func TestFailingBatchesUnderLoad(t *testing.T) {
	for seed := range uint64(30) {
		o := small(layout.PlacementInline)
		o.Failing, o.BatchBytes, o.AheadBytes = rig.Holds, 64<<10, -1
		r, plan := snapped(t, o)
		rng := rand.New(rand.NewPCG(seed, 0))
		for range 6 {
			plan.Inject(errdev.Fault{Kinds: errdev.Writes | errdev.Flushes, Nth: 1 + rng.Int64N(24)})
		}
		var writers sync.WaitGroup
		for w := range uint64(8) {
			writers.Go(func() {
				rng := rand.New(rand.NewPCG(seed, w))
				for range 24 {
					_, err := r.Volume.WriteAt(bytes.Repeat([]byte{2}, 4*block.SectorSize), rng.Int64N(o.OriginSize/2048)*2048)
					require.NoError(t, err)
				}
			})
		}
		writers.Wait()
		requireOnes(t, r.Flushed())
		r.Abandon()
	}
}

// renewing is a server whose Renew is another function.
type renewing struct {
	wire.Server
	renew func(s wire.Server, f wire.Failure) (*wire.Session, error)
}

func (s renewing) Renew(f wire.Failure) (*wire.Session, error) { return s.renew(s.Server, f) }

// failing is filled with a server whose Renew is renew, and a plan for its store device.
func failing(t *testing.T, p layout.Placement, content byte, renew func(s wire.Server, f wire.Failure) (*wire.Session, error)) (*rig.Rig, *errdev.Plan) {
	var plan errdev.Plan
	w := planned(rig.Store, &plan)
	w.Server = func(s wire.Server) wire.Server { return renewing{s, renew} }
	return filled(t, small(p), w, content), &plan
}

// A batch is on the medium, but its flush has failed: once its number is given up no
// recovery takes it in, for its slots are others' by then. (Its chunks are zeroes, so that
// the server's trying of the slots leaves them as they are.)
func TestBatchGivenUpIsNotFound(t *testing.T) {
	for _, p := range everyPlacement {
		t.Run(p.String(), func(t *testing.T) {
			var r, cut *rig.Rig
			r, plan := failing(t, p, 0, func(s wire.Server, f wire.Failure) (*wire.Session, error) {
				session, err := s.Renew(f)
				cut = r.Flushed() // before the answer
				return session, err
			})
			used := r.Server.Status().SlotsUsed
			plan.Inject(errdev.Fault{Kinds: errdev.Flushes})
			_, err := r.Volume.WriteAt([]byte{511: 2}, 0)
			require.NoError(t, err)
			require.NotNil(t, cut)
			again, err := store.Open(cut.Devices, store.Options{})
			require.NoError(t, err)
			require.Equal(t, used, again.Status().SlotsUsed)
			require.NoError(t, again.Close())
		})
	}
}

// A recovery finds a batch whose flush has failed, in the cache of a device that has
// not lost power. Where the checkpoint goes to another device, what the batch leads to
// is durable before it.
func TestRecoveryFlushesWhatItFinds(t *testing.T) {
	for _, p := range everyPlacement {
		t.Run(p.String(), func(t *testing.T) {
			r, plan := failing(t, p, 1, func(wire.Server, wire.Failure) (*wire.Session, error) {
				return nil, store.ErrTrouble // it does not get so far
			})
			plan.Inject(errdev.Fault{Kinds: errdev.Flushes})
			_, err := r.Volume.WriteAt([]byte{511: 2}, 0)
			require.Error(t, err)
			next, err := store.Open(r.Devices, store.Options{}) // as after a kill
			require.NoError(t, err)
			rng := rand.New(rand.NewPCG(1, 2))
			requireOnes(t, r.Crash(rng, memdev.Fate{}))
			require.NoError(t, next.Close())
		})
	}
}
