// SPDX-License-Identifier: Apache-2.0

package replica_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/delta"
	"zumastor.org/zumastor/engine/delta/codec"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/replica"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
)

const size, chunk = 48 * 4096, 4096

var sender = [16]byte{0xaa}

// receiver is an empty volume that takes deltas.
func receiver(t *testing.T) *rig.Rig {
	r, err := rig.New(rig.Options{
		OriginSize: size, StoreSize: 16 << 20, ChunkSize: chunk, Placement: layout.PlacementInline, CacheBytes: 1 << 20, AheadBytes: -1,
	}, rig.Wrappers{})
	require.NoError(t, err)
	t.Cleanup(func() {
		if !t.Failed() { // a failure in a hook leaves locks held
			r.Abandon()
		}
	})
	return r
}

func volumeOf(r *rig.Rig) replica.Volume {
	return replica.Volume{
		Manager: admin.Local{Store: r.Server}, Origin: replica.OnDevice(r.Volume),
		Open: func(s admin.Snapshot) (delta.Content, io.Closer, error) {
			v, err := volume.OpenSnapshot(r.Source(), s.Tag)
			return v, v, err
		},
	}
}

// content is a state of the sender's volume.
type content []byte

func (c content) Size() int64                             { return int64(len(c)) }
func (c content) ReadAt(p []byte, off int64) (int, error) { return bytes.NewReader(c).ReadAt(p, off) }

// states are three states of the sender's volume, one after another.
func states() (list []content) {
	rng := rand.New(rand.NewPCG(1, 2))
	c := make(content, size)
	for range 3 {
		for range 20 {
			off := rng.IntN(size/512) * 512
			for i := range c[off : off+512] {
				c[off+i] = byte(rng.Uint32())
			}
		}
		list = append(list, bytes.Clone(c))
	}
	return list
}

func endOf(i int, c content) delta.End {
	return delta.End{Identity: delta.Identity{Store: sender, Generation: block.Generation(10 + i)}, Tag: block.Tag(i), Size: c.Size()}
}

// deltaTo returns the delta from state i-1 to i, or of all of it if it is the first.
func deltaTo(t *testing.T, list []content, i int) []byte { return deltaBetween(t, list, i-1, i) }

func deltaBetween(t *testing.T, list []content, base, i int) []byte {
	return deltaFrom(t, list, base, i, 0)
}

// restOf returns the rest of the delta from state i-1 to i.
func restOf(t *testing.T, list []content, i int, start int64) []byte {
	return deltaFrom(t, list, i-1, i, start)
}

func deltaFrom(t *testing.T, list []content, base, i int, start int64) []byte {
	o := delta.EncodeOptions{
		Start:   start,
		Header:  delta.Header{ChunkSize: chunk, Extent: 64 << 10, Codecs: []codec.ID{codec.Raw, codec.ZstdPatch}, To: endOf(i, list[i])},
		Chooser: func() (codec.Chooser, error) { return codec.NewFixed(codec.ZstdPatch, codec.Options{}) },
	}
	src := delta.Source{Target: list[i], Extents: []delta.Extent{{Offset: 0, Length: size}}}
	if base >= 0 {
		from := endOf(base, list[base])
		o.From, src.Base = &from, list[base]
	}
	var b bytes.Buffer
	_, err := delta.Encode(t.Context(), &b, src, o)
	require.NoError(t, err)
	return b.Bytes()
}

func apply(t *testing.T, r *rig.Rig, p []byte) (replica.Result, error) {
	return replica.Apply(t.Context(), bytes.NewReader(p), volumeOf(r), replica.Options{})
}

// pipe applies what can be read once only.
func pipe(t *testing.T, r *rig.Rig, p []byte) (replica.Result, error) {
	return replica.Apply(t.Context(), struct{ io.Reader }{bytes.NewReader(p)}, volumeOf(r), replica.Options{})
}

func originOf(t *testing.T, r *rig.Rig) content {
	p, err := r.ReadOrigin()
	require.NoError(t, err)
	return p
}

func snapshotOf(t *testing.T, r *rig.Rig, tag block.Tag) content {
	p, err := r.ReadSnapshot(tag, 0, size)
	require.NoError(t, err)
	return p
}

func TestChainOfDeltas(t *testing.T) {
	r, list := receiver(t), states()
	for i := range list {
		p := deltaTo(t, list, i)
		_, err := pipe(t, r, p)
		require.NoError(t, err)
		require.True(t, bytes.Equal(list[i], originOf(t, r)))
		res, err := apply(t, r, p)
		require.NoError(t, err)
		require.True(t, res.There, "once more is nothing more")
	}
	for i := range list {
		require.True(t, bytes.Equal(list[i], snapshotOf(t, r, block.Tag(i))))
	}
}

// TestRefusals: what does not belong is refused, and nothing is written.
func TestRefusals(t *testing.T) {
	r, list := receiver(t), states()
	refused := func(p []byte, why error) {
		before := originOf(t, r)
		_, err := apply(t, r, p)
		require.ErrorIs(t, err, why)
		require.True(t, bytes.Equal(before, originOf(t, r)))
	}
	one, two := deltaTo(t, list, 1), deltaTo(t, list, 2)
	refused(one, delta.ErrBase)
	_, err := apply(t, r, deltaTo(t, list, 0))
	require.NoError(t, err)
	refused(two, delta.ErrBase)
	wrong := []content{bytes.Clone(list[0]), list[1]} // of the same identity as the receiver's base
	for i := range wrong[0] {
		wrong[0][i] ^= 1
	}
	refused(deltaTo(t, wrong, 1), delta.ErrBase)
	refused(one[:len(one)-1], delta.ErrCut)

	_, err = r.Server.Create(store.NewSnapshot{Tag: 1})
	require.NoError(t, err)
	refused(one, store.ErrExists)
	require.NoError(t, r.Server.DeleteSnapshot(1))
	_, err = r.Server.Create(store.NewSnapshot{Tag: 9})
	require.NoError(t, err)
	refused(one, delta.ErrBase)
	require.NoError(t, r.Server.DeleteSnapshot(9))

	_, err = r.Volume.WriteAt(bytes.Repeat([]byte{7}, 512), 512)
	require.NoError(t, err)
	refused(one, replica.ErrChanged)
	_, err = r.Volume.WriteAt(list[0][512:1024], 512)
	require.NoError(t, err)
	_, err = apply(t, r, one)
	require.NoError(t, err, "it holds what it did")
	empty := receiver(t)
	_, err = empty.Server.Create(store.NewSnapshot{Tag: 9})
	require.NoError(t, err)
	_, err = apply(t, empty, deltaTo(t, list, 0))
	require.ErrorIs(t, err, replica.ErrNotEmpty)
	_, err = replica.Abandon(t.Context(), admin.Local{Store: r.Server})
	require.ErrorIs(t, err, replica.ErrNothing)
}

// TestHalfApplied: a cut leaves the base as it is, says that the origin is not, and lets
// only the same delta go on, or all be given back.
func TestHalfApplied(t *testing.T) {
	for _, abandon := range []bool{false, true} {
		r, list := receiver(t), states()
		_, err := apply(t, r, deltaTo(t, list, 0))
		require.NoError(t, err)
		one := deltaTo(t, list, 1)
		_, err = pipe(t, r, one[:len(one)-300])
		require.ErrorIs(t, err, delta.ErrCut)
		require.False(t, bytes.Equal(list[0], originOf(t, r)))
		require.True(t, bytes.Equal(list[0], snapshotOf(t, r, 0)))
		_, err = r.Server.CreateSnapshot(5)
		require.ErrorIs(t, err, store.ErrApplying)
		require.ErrorIs(t, r.Server.DeleteSnapshot(0), store.ErrInUse)
		other := deltaBetween(t, list, 0, 2)
		_, err = apply(t, r, other)
		require.ErrorIs(t, err, replica.ErrOther)
		if abandon {
			base, err := replica.Abandon(t.Context(), admin.Local{Store: r.Server})
			require.NoError(t, err)
			require.EqualValues(t, 0, base.Tag)
			require.True(t, bytes.Equal(list[0], originOf(t, r)))
			require.NoError(t, r.Volume.Restore(t.Context()))
			_, err = apply(t, r, other)
			require.NoError(t, err)
			require.True(t, bytes.Equal(list[2], originOf(t, r)))
			continue
		}
		res, err := apply(t, r, one)
		require.NoError(t, err)
		require.True(t, res.Resumed)
		require.True(t, bytes.Equal(list[1], snapshotOf(t, r, 1)))
		_, err = r.Server.CreateSnapshot(5)
		require.NoError(t, err)
	}
}

// TestPowerCuts cuts the power at every flush, and at some writes, of a delta's
// application. The volume is the older snapshot, or says that it is between the two, or
// has the newer one; in any case the older one is what it was, and the delta can be
// applied again, or given up.
func TestPowerCuts(t *testing.T) {
	r, list := receiver(t), states()
	_, err := apply(t, r, deltaTo(t, list, 0))
	require.NoError(t, err)
	one := deltaTo(t, list, 1)
	rng := rand.New(rand.NewPCG(7, 8))
	cuts, seen := 0, map[string]int{}
	r.Machine.SetHook(func(e memdev.Event) {
		if e.Kind == memdev.Wrote && rng.IntN(4) > 0 {
			return
		}
		cuts++
		left := r.Crash(rng, memdev.RandomFate(rng))
		defer left.Abandon()
		require.NoError(t, left.Open())
		seen[verify(t, left, list, one, cuts%3 == 0)]++
	})
	_, err = pipe(t, r, one)
	require.NoError(t, err)
	r.Machine.SetHook(nil)
	require.Greater(t, cuts, 20)
	for _, state := range []string{"older", "between", "newer", "newer, not said"} {
		require.Positive(t, seen[state], "%s: of %v", state, seen)
	}
}

// verify says in which state a power cut left a volume, and that it is one of those that
// it may be in; then it ends the delta's application, or gives it up.
func verify(t *testing.T, r *rig.Rig, list []content, one []byte, abandon bool) (state string) {
	require.True(t, bytes.Equal(list[0], snapshotOf(t, r, 0)))
	m := admin.Local{Store: r.Server}
	snaps, err := m.Do(t.Context(), admin.Request{Verb: admin.VerbList})
	require.NoError(t, err)
	marked := snaps.List[0].Applying != ""
	switch {
	case len(snaps.List) == 2:
		state = "newer"
		if marked {
			state = "newer, not said"
		}
		require.True(t, bytes.Equal(list[1], snapshotOf(t, r, 1)))
		require.True(t, bytes.Equal(list[1], originOf(t, r)))
	case marked:
		state = "between"
	default:
		state = "older"
		require.True(t, bytes.Equal(list[0], originOf(t, r)))
	}
	if abandon && marked {
		_, err = replica.Abandon(t.Context(), m)
		require.NoError(t, err)
		want := list[0]
		if len(snaps.List) == 2 {
			want = list[1]
		}
		require.True(t, bytes.Equal(want, originOf(t, r)))
		return state
	}
	_, err = apply(t, r, one)
	require.NoError(t, err)
	require.True(t, bytes.Equal(list[1], originOf(t, r)))
	require.True(t, bytes.Equal(list[1], snapshotOf(t, r, 1)))
	require.True(t, bytes.Equal(list[0], snapshotOf(t, r, 0)))
	return state
}
