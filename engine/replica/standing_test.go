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
	"zumastor.org/zumastor/engine/replica"
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
