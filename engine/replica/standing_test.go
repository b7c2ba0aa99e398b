// SPDX-License-Identifier: Apache-2.0

package replica_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/admin"
	"zumastor.org/zumastor/engine/delta"
	"zumastor.org/zumastor/engine/layout"
	"zumastor.org/zumastor/engine/metamorphic/rig"
	"zumastor.org/zumastor/engine/replica"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/wire"
)

// TestStanding follows a volume on its way through two deltas, of which the second is cut.
func TestStanding(t *testing.T) {
	r, list := receiver(t), states()
	at := func(i int) replica.Standing {
		id := endOf(i, list[i]).Identity
		s, err := volumeOf(r).Standing(t.Context(), admin.Source{Store: layout.UUID(id.Store).String(), Generation: id.Generation})
		require.NoError(t, err)
		return s
	}
	require.Equal(t, replica.Standing{Size: size}, at(0))
	_, err := apply(t, r, deltaTo(t, list, 0))
	require.NoError(t, err)
	require.True(t, at(0).There)
	require.EqualValues(t, 10, at(1).Newest.Generation)
	one := deltaTo(t, list, 1)
	_, err = pipe(t, r, one[:len(one)-300])
	require.ErrorIs(t, err, delta.ErrCut)
	s := at(1)
	require.False(t, s.There)
	d, err := delta.NewReader(bytes.NewReader(one))
	require.NoError(t, err)
	h := d.Header()
	require.Equal(t, layout.UUID(h.ID()).String(), s.Applying)
}

// TestRestIsApplied: of a delta that was cut the rest is enough.
func TestRestIsApplied(t *testing.T) {
	for _, first := range []int{0, 1} {
		r, list := receiver(t), states()
		for i := range first {
			_, err := apply(t, r, deltaTo(t, list, i))
			require.NoError(t, err)
		}
		p := deltaTo(t, list, first)
		var done int64
		_, err := replica.Apply(t.Context(), struct{ io.Reader }{bytes.NewReader(p[:len(p)-3000])}, volumeOf(r),
			replica.Options{ApplyOptions: delta.ApplyOptions{Wrote: func(off int64) error { done = off; return nil }}})
		require.ErrorIs(t, err, delta.ErrCut)
		require.Positive(t, done)
		rest := restOf(t, list, first, done)
		require.Less(t, len(rest), len(p))
		_, err = replica.Apply(t.Context(), struct{ io.Reader }{bytes.NewReader(rest)}, volumeOf(r), replica.Options{Start: done})
		require.NoError(t, err)
		require.True(t, bytes.Equal(list[first], originOf(t, r)))
	}
}

// TestAppliedIsForgotten: how far a delta is applied outlives the server, and is not said
// any more once the origin may hold something else.
func TestAppliedIsForgotten(t *testing.T) {
	const offset = 3 * chunk
	half := func() (*rig.Rig, string) {
		r, list := receiver(t), states()
		_, err := apply(t, r, deltaTo(t, list, 0))
		require.NoError(t, err)
		one := deltaTo(t, list, 1)
		_, err = pipe(t, r, one[:len(one)-300])
		require.ErrorIs(t, err, delta.ErrCut)
		st, err := volumeOf(r).Standing(t.Context(), admin.Source{})
		require.NoError(t, err)
		require.Zero(t, st.Applied)
		require.NoError(t, volumeOf(r).Applied(t.Context(), st.Newest.Tag, st.Applying, offset))
		return r, st.Applying
	}
	applied := func(r *rig.Rig) (string, int64) {
		st, err := volumeOf(r).Standing(t.Context(), admin.Source{})
		require.NoError(t, err)
		return st.Applying, st.Applied
	}
	for name, c := range map[string]struct {
		then func(r *rig.Rig, id string) error
		want int64
	}{
		"nothing":      {func(*rig.Rig, string) error { return nil }, offset},
		"a checkpoint": {func(r *rig.Rig, _ string) error { _, err := r.Server.Checkpoint(); return err }, offset},
		"a reopening": {func(r *rig.Rig, _ string) error {
			if err := r.Close(); err != nil {
				return err
			}
			return r.Open()
		}, offset},
		"a revert": {func(r *rig.Rig, id string) error {
			err := r.Server.Revert(wire.SnapshotRef{})
			require.ErrorIs(t, volumeOf(r).Applied(t.Context(), 0, id, offset), store.ErrRestoring)
			return err
		}, 0},
		"a resize": {func(r *rig.Rig, _ string) error { return r.Server.ResizeOrigin(t.Context(), size-chunk, nil) }, 0},
		"a new note of the delta": {func(r *rig.Rig, id string) error {
			_, err := admin.Local{Store: r.Server}.Do(t.Context(), admin.Request{
				Verb: admin.VerbChange, Snapshot: &admin.Ref{}, Change: &admin.Change{Applying: &id},
			})
			return err
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r, id := half()
			require.NoError(t, c.then(r, id))
			for _, r := range []*rig.Rig{r, r.Flushed()} {
				if r.Server == nil {
					require.NoError(t, r.Open())
					defer r.Abandon()
				}
				is, n := applied(r)
				require.Equal(t, id, is)
				require.Equal(t, c.want, n)
			}
		})
	}
}
