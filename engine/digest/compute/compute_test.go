// SPDX-License-Identifier: Apache-2.0

package compute_test

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/digest"
	"zumastor.org/zumastor/engine/digest/compute"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
	"zumastor.org/zumastor/engine/wire"
)

const size, chunk = 5<<20 + 64<<10, 16 << 10

// state is what a snapshot's digest must be, and each node of it that is kept.
type state struct {
	sum   digest.Sum
	nodes map[digest.Node]digest.Sum
}

// scratch returns the digest of content, by its definition.
func scratch(t *testing.T, content []byte) state {
	s := state{nodes: map[digest.Node]digest.Sum{}}
	u := digest.NewUpdate(digest.Nothing{}, func(n digest.Node, sum digest.Sum) error {
		s.nodes[n] = sum
		return nil
	})
	for i := uint64(0); i < digest.Leaves(int64(len(content))); i++ {
		off := int(i) * digest.LeafSize
		require.NoError(t, u.Leaf(i, digest.OfLeaf(content[off:min(off+digest.LeafSize, len(content))])))
	}
	top, err := u.Top()
	require.NoError(t, err)
	s.sum = digest.Of(int64(len(content)), top)
	return s
}

// history is a volume, of which snapshots are made, and what they have.
type history struct {
	t   *testing.T
	r   *rig.Rig
	rng *rand.Rand
	was map[block.Tag]state
}

func newHistory(t *testing.T, seed uint64) *history {
	r, err := rig.New(rig.Options{
		OriginSize: size, StoreSize: 64 << 20, ChunkSize: chunk, Placement: layout.PlacementInline, CacheBytes: 1 << 20, AheadBytes: -1,
	}, rig.Wrappers{})
	require.NoError(t, err)
	return &history{t, r, rand.New(rand.NewPCG(seed, 7)), map[block.Tag]state{}}
}

func (h *history) manager() admin.Manager { return admin.Local{Store: h.r.Server} }

// snapshot writes, of zeroes some, and makes a snapshot.
func (h *history) snapshot(tag block.Tag) {
	for range h.rng.IntN(4) {
		p := make([]byte, (1+h.rng.IntN(20))*block.SectorSize)
		if h.rng.IntN(3) > 0 {
			for i := range p {
				p[i] = byte(h.rng.Uint32())
			}
		}
		_, err := h.r.Volume.WriteAt(p, h.rng.Int64N((h.r.Volume.Size()-int64(len(p)))/block.SectorSize)*block.SectorSize)
		require.NoError(h.t, err)
	}
	p, err := h.r.ReadOrigin()
	require.NoError(h.t, err)
	_, err = h.manager().Do(h.t.Context(), admin.Request{Verb: admin.VerbCreate, New: &admin.NewSnapshot{Tag: tag}})
	require.NoError(h.t, err)
	h.was[tag] = scratch(h.t, p)
}

// any returns some snapshot.
func (h *history) any() block.Tag {
	tags := h.r.Live()
	return tags[h.rng.IntN(len(tags))]
}

// compute computes a digest; cut ends it after so many leaves.
func (h *history) compute(tag block.Tag, cut uint64) (compute.Result, error) {
	v, err := volume.OpenSnapshot(h.r.Source(), tag)
	require.NoError(h.t, err)
	defer v.Close()
	ctx, cancel := context.WithCancel(h.t.Context())
	defer cancel()
	return compute.Run(ctx, h.manager(), admin.Ref{Tag: tag}, v, compute.Options{Progress: func(done, _ uint64) {
		if done == cut {
			cancel()
		}
	}}.Batched(1+h.rng.IntN(3)))
}

// step does one thing of many.
func (h *history) step() {
	tag := h.any()
	switch h.rng.IntN(9) {
	case 8:
		h.resize((1 + h.rng.Int64N(8<<20/chunk)) * chunk)
	case 0:
		require.NoError(h.t, h.r.Server.Delete(wire.SnapshotRef{Tag: tag}, false))
		delete(h.was, tag)
	case 1:
		_, err := h.compute(tag, 1+h.rng.Uint64N(5))
		if !errors.Is(err, context.Canceled) {
			require.NoError(h.t, err)
		}
	case 2:
		require.NoError(h.t, h.r.Maintain())
	case 3:
		require.NoError(h.t, h.r.Server.Store.Checkpoint())
		h.r = h.r.Crash(h.rng, memdev.RandomFate(h.rng))
		require.NoError(h.t, h.r.Open())
	default:
		res, err := h.compute(tag, 0)
		require.NoError(h.t, err)
		require.Equal(h.t, h.was[tag].sum, res.Sum, "snapshot %d", tag)
	}
}

func (h *history) resize(to int64) {
	if d := h.r.Machine.Device(rig.Origin); d.Size() < to {
		d.Grow(to)
	}
	require.NoError(h.t, h.r.Server.ResizeOrigin(h.t.Context(), to, nil))
}

// kept compares each node that the store keeps of a snapshot's digest.
func (h *history) kept(tag block.Tag) {
	d, err := h.r.Server.Store.Digest(wire.SnapshotRef{Tag: tag})
	require.NoError(h.t, err)
	require.True(h.t, d.Known)
	require.Equal(h.t, h.was[tag].sum, d.Sum)
	for n := range h.was[tag].nodes {
		if n.Level == 0 {
			continue
		}
		var sums [digest.Fanout]digest.Sum
		require.NoError(h.t, h.r.Server.Store.DigestChildren(d.Snapshot.Generation, n, &sums))
		for i, s := range sums {
			want, ok := h.was[tag].nodes[n.Child(i)]
			if !ok {
				want = digest.Zero(n.Level - 1)
			}
			require.Equal(h.t, want, s, "snapshot %d, %v", tag, n.Child(i))
		}
	}
}

// TestIncremental computes digests in any order, of histories with cuts, crashes,
// deletions and resizes: all are what they are from scratch.
func TestIncremental(t *testing.T) {
	for seed := range uint64(4) {
		h := newHistory(t, seed)
		for tag := block.Tag(1); tag <= 12; tag++ {
			h.snapshot(tag)
			h.step()
		}
		for _, tag := range slices.Sorted(maps.Keys(h.was)) {
			want := h.was[tag]
			res, err := h.compute(tag, 0)
			require.NoError(t, err)
			require.Equal(t, want.sum, res.Sum, "snapshot %d", tag)
			h.kept(tag)
		}
		for tag := range h.was { // none disturbs another
			h.kept(tag)
		}
		require.NoError(t, h.r.Close())
	}
}

// TestReadsWhatChanged counts the bytes that are read.
func TestReadsWhatChanged(t *testing.T) {
	h := newHistory(t, 1)
	h.snapshot(1)
	res, err := h.compute(1, 0)
	require.NoError(t, err)
	require.Nil(t, res.Base)
	require.EqualValues(t, size, res.Read)
	_, err = h.r.Volume.WriteAt(make([]byte, 512), 3<<20)
	require.NoError(t, err)
	_, err = h.manager().Do(t.Context(), admin.Request{Verb: admin.VerbCreate, New: &admin.NewSnapshot{Tag: 2}})
	require.NoError(t, err)
	res, err = h.compute(2, 0)
	require.NoError(t, err)
	require.Equal(t, block.Tag(1), res.Base.Tag)
	require.EqualValues(t, digest.LeafSize, res.Read)
	res, err = h.compute(2, 0)
	require.NoError(t, err)
	require.True(t, res.There)
	require.Zero(t, res.Read)
	require.NoError(t, h.r.Close())
}

// TestShrunk has a digest that was cut, or is of a snapshot that is gone, leave sums of
// what is beyond the end of a later, smaller state.
func TestShrunk(t *testing.T) {
	for _, cut := range []uint64{0, 5} {
		h := newHistory(t, 1)
		_, err := h.r.Volume.WriteAt([]byte(strings.Repeat("tail", 128)), 4<<20)
		require.NoError(t, err)
		h.snapshot(1)
		if _, err = h.compute(1, cut); cut > 0 {
			require.ErrorIs(t, err, context.Canceled)
		} else {
			require.NoError(t, err)
			require.NoError(t, h.r.Server.Delete(wire.SnapshotRef{Tag: 1}, false))
		}
		h.resize(1 << 20)
		h.snapshot(2)
		res, err := h.compute(2, 0)
		require.NoError(t, err)
		require.Nil(t, res.Base, "that of 1 is not whole, or of no use")
		h.kept(2)
		require.NoError(t, h.r.Close())
	}
}

// TestWithout asks for digests that there cannot be.
func TestWithout(t *testing.T) {
	h := newHistory(t, 1)
	h.snapshot(1)
	_, err := h.manager().Do(t.Context(), admin.Request{Verb: admin.VerbCreate, New: &admin.NewSnapshot{Tag: 2, Parent: &admin.Ref{Tag: 1}}})
	require.NoError(t, err)
	_, err = h.compute(2, 0)
	require.ErrorIs(t, err, store.ErrNoDigest)
	for _, d := range []admin.DigestSums{{Generation: 1, Sums: make([]byte, 40)}, {Generation: 1, Sums: append([]byte{digest.Height + 1}, make([]byte, 40)...)}} {
		_, err = h.manager().Do(t.Context(), admin.Request{Verb: admin.VerbDigestPut, Digest: &d})
		require.ErrorIs(t, err, admin.ErrRequest)
	}
	require.NoError(t, h.r.Close())
}

// TestTwoAtOnce has another process compute the same digest meanwhile.
func TestTwoAtOnce(t *testing.T) {
	h := newHistory(t, 1)
	h.snapshot(1)
	v, err := volume.OpenSnapshot(h.r.Source(), 1)
	require.NoError(t, err)
	again := false
	res, err := compute.Run(t.Context(), h.manager(), admin.Ref{Tag: 1}, v, compute.Options{Progress: func(done, total uint64) {
		if done == total && !again {
			again = true
			_, err := h.compute(1, 0)
			require.NoError(t, err)
		}
	}})
	require.NoError(t, err)
	require.True(t, again)
	require.True(t, res.There, "the other one was first")
	require.Equal(t, h.was[1].sum, res.Sum)
	require.NoError(t, v.Close())
	require.NoError(t, h.r.Close())
}
