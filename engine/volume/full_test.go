// SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
	"zumastor.org/zumastor/engine/wire"
)

const (
	tightChunk  = 16 << 10
	tightChunks = 24
)

// tight is a volume whose store takes two of its generations.
func tight(p layout.Placement, policy string) rig.Options {
	o := small(p)
	o.OriginSize, o.Policy = tightChunks*tightChunk, policy
	o.StoreSize = (2*tightChunks + 9) * tightChunk
	o.LeaseBytes, o.StoreLeaseBytes, o.AheadBytes = 1, 1, -1
	return o
}

var allPlacements = []layout.Placement{layout.PlacementInline, layout.PlacementDisk, layout.PlacementNVRAM, layout.PlacementPMem}

// uniform returns the byte that a chunk consists of.
func uniform(t *testing.T, p []byte) byte {
	require.Equal(t, len(p), bytes.Count(p, p[:1]), "a write belongs wholly to one side of a snapshot")
	return p[0]
}

// tightWriters write to chunks of their own, one after another, until they are
// told to stop, and return the byte that each chunk holds.
func tightWriters(t *testing.T, r *rig.Rig, stop *atomic.Bool, mayFail bool) (wait func() []byte) {
	const writers = 3
	holds := make([]byte, tightChunks)
	var done sync.WaitGroup
	for w := range writers {
		done.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 3))
			for n := byte(1); !stop.Load(); n++ {
				chunk := rng.IntN(tightChunks/writers)*writers + w
				_, err := r.Volume.WriteAt(bytes.Repeat([]byte{n}, tightChunk), int64(chunk)*tightChunk)
				if err == nil {
					holds[chunk] = n
				} else if !mayFail || !errors.Is(err, unix.ENOSPC) {
					t.Error("a write failed:", err)
					return
				}
			}
		})
	}
	return func() []byte { done.Wait(); return holds }
}

// TestPoliciesUnderLoad has writers fill the store while snapshots come and go. No
// write fails while there is something to be dropped, none is lost, and every
// snapshot that is left can be read.
func TestPoliciesUnderLoad(t *testing.T) {
	for _, policy := range []string{"drop", "block", "fail-writes"} {
		for _, p := range allPlacements {
			t.Run(fmt.Sprint(policy, "/", p), func(t *testing.T) {
				o := tight(p, policy)
				o.Background = true
				r := open(t, o, rig.Wrappers{})
				var stop atomic.Bool
				wait := tightWriters(t, r, &stop, policy == "fail-writes")
				for tag := block.Tag(1); tag <= 15; tag++ {
					_, err := r.Server.CreateSnapshot(tag)
					require.NoError(t, err)
					for from := r.Server.Status().Copies; r.Server.Status().Copies < from+8 && !r.Server.Status().Full; {
						_, err := r.ReadSnapshot(tag, 0, tightChunk)
						require.True(t, err == nil || errors.Is(err, store.ErrNoSnapshot) || errors.Is(err, unix.EIO), "%v", err)
					}
					if policy != "drop" && tag > 2 {
						require.NoError(t, r.Server.DeleteSnapshot(tag-2))
					}
				}
				stop.Store(true)
				if policy == "block" { // they may be waiting
					require.NoError(t, r.Server.SetPolicy(layout.PolicyDrop))
				}
				holds := wait()
				origin, err := r.ReadOrigin()
				require.NoError(t, err)
				for chunk, want := range holds {
					require.Equal(t, want, uniform(t, origin[chunk*tightChunk:(chunk+1)*tightChunk]))
				}
				for _, tag := range r.Live() {
					for chunk := range int64(tightChunks) {
						p, err := r.ReadSnapshot(tag, chunk*tightChunk, tightChunk)
						if errors.Is(err, store.ErrNoSnapshot) && policy == "drop" {
							break // the background goes on
						}
						require.NoError(t, err)
						uniform(t, p)
					}
				}
				require.NoError(t, r.Close())
				mustBeClean(t, r)
			})
		}
	}
}

// gone returns the tags of what was given up for space.
func gone(r *rig.Rig) (tags []block.Tag) {
	for _, e := range r.Server.Events(0) {
		if e.Kind == store.EventDropped || e.Kind == store.EventSquashed {
			tags = append(tags, e.Tag)
		}
	}
	return tags
}

// squeeze makes snapshots, each of which holds the byte of the one before, until five
// were given up: dropped, and squashed since one is open and one is held.
func squeeze(t *testing.T, r *rig.Rig, made *block.Tag) {
	for tag := block.Tag(1); len(gone(r)) < 5; tag++ {
		n := store.NewSnapshot{Tag: tag, Held: tag == 3}
		if tag > 5 {
			n.Priority = layout.MaxPriority
		}
		_, err := r.Server.Create(n)
		require.NoError(t, err)
		*made = tag
		if tag == 2 {
			v, err := volume.OpenSnapshotRef(r.Source(), wire.SnapshotRef{Tag: tag}, true)
			require.NoError(t, err)
			defer v.Close()
		}
		p := bytes.Repeat([]byte{byte(tag)}, tightChunk)
		for chunk := range int64(tightChunks) {
			if _, err = r.Volume.WriteAt(p, chunk*tightChunk); err != nil {
				require.ErrorIs(t, err, unix.ENOSPC)
				require.Len(t, gone(r), 5, "nothing is left to be dropped")
				return
			}
		}
	}
}

// A power cut while snapshots are dropped and squashed leaves those that were
// announced dropped, all others whole, and the origin as it was written.
func TestDropPowerCuts(t *testing.T) {
	for _, p := range allPlacements {
		t.Run(p.String(), func(t *testing.T) {
			r := open(t, tight(p, "drop"), rig.Wrappers{})
			rng := rand.New(rand.NewPCG(7, uint64(p)))
			made, cuts := block.Tag(0), 0
			r.Machine.SetHook(func(e memdev.Event) {
				if e.Kind == memdev.Wrote || !soak && rng.IntN(4) > 0 {
					return
				}
				cuts++
				fate := [...]memdev.Fate{{}, {Keep: 1}, {Tear: 1}, {Keep: 0.5, Tear: 0.5}}[cuts%4]
				verifySqueezed(t, r.Crash(rng, fate), made, gone(r))
			})
			squeeze(t, r, &made)
			r.Machine.SetHook(nil)
			require.Equal(t, []block.Tag{1, 4, 5, 2, 3}, gone(r))
			require.Greater(t, cuts, 10)
		})
	}
}

// verifySqueezed opens what a power cut has left after made snapshots, and compares.
func verifySqueezed(t *testing.T, left *rig.Rig, made block.Tag, announced []block.Tag) {
	mustBeClean(t, left)
	require.NoError(t, left.Open())
	defer left.Abandon()
	live := make(map[block.Tag]bool)
	for _, s := range left.Server.Snapshots() {
		live[s.Tag] = s.State == layout.SnapshotLive
	}
	missing := 0
	for tag := block.Tag(1); tag <= made; tag++ {
		if !live[tag] {
			missing++
			continue
		}
		p, err := left.ReadSnapshot(tag, 0, left.OriginSize)
		require.NoError(t, err)
		require.Equal(t, byte(tag-1), uniform(t, p), "snapshot %d", tag)
	}
	for _, tag := range announced {
		require.False(t, live[tag], "snapshot %d was announced to be gone", tag)
	}
	require.LessOrEqual(t, missing, len(announced)+1)
	origin, err := left.ReadOrigin()
	require.NoError(t, err)
	for _, b := range origin {
		if b != byte(made) && b+1 != byte(made) {
			require.Fail(t, "the origin is wrong", "it holds %d after snapshot %d", b, made)
		}
	}
}
