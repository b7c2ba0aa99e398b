// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/delta/codec"
)

// TestRest: whoever has the newer state up to an offset gets it all from the rest, which
// is the same as what a whole delta has from there on, or less.
func TestRest(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 9))
		a := mutate(rng, nil, 60*propertyChunk)
		b := mutate(rng, mutate(rng, a, 60*propertyChunk), (60+rng.IntN(9))*propertyChunk)
		if seed%4 == 0 {
			a = nil
		}
		h, list := headerOf(a, b), changed(rng, a, b)
		h.Codecs = []codec.ID{codec.Raw}
		start := rng.IntN(len(b)/propertyChunk+1) * propertyChunk
		src := Source{Target: &memory{p: b}, Extents: list}
		var base Content
		if a != nil {
			base = &memory{p: a}
			src.Base = base
		}
		var rest bytes.Buffer
		sum, err := Encode(t.Context(), &rest, src, EncodeOptions{Header: h, Start: int64(start), Chooser: func() (codec.Chooser, error) {
			return codec.NewFixed(codec.Raw, codec.Options{})
		}})
		require.NoError(t, err)
		r, err := NewRestReader(bytes.NewReader(rest.Bytes()), int64(start))
		require.NoError(t, err)
		to := &memory{p: make([]byte, len(b))}
		copy(to.p, a)
		copy(to.p[:start], b)
		var last int64
		_, err = Apply(t.Context(), r, base, to, ApplyOptions{Wrote: func(done int64) error { last = done; return nil }})
		require.NoError(t, err)
		require.True(t, bytes.Equal(b, to.p), "seed %d from %d", seed, start)
		if sum.Records > 0 {
			require.Greater(t, last, int64(start))
			_, err = readAllFrom(rest.Bytes(), last)
			require.ErrorIs(t, err, ErrCorrupt, "a record before the begin")
		}
	}
}

func readAllFrom(p []byte, start int64) (Summary, error) {
	r, err := NewRestReader(bytes.NewReader(p), start)
	for err == nil {
		_, err = r.Next()
	}
	if r == nil {
		return Summary{}, err
	}
	return r.Summary(), err
}

// TestRestBegins: it begins with a chunk of the volume, or not at all.
func TestRestBegins(t *testing.T) {
	p := bytes.Repeat([]byte("x"), 10*propertyChunk)
	h := headerOf(nil, p)
	h.Codecs = []codec.ID{codec.Raw}
	for _, start := range []int64{-propertyChunk, 1, 11 * propertyChunk} {
		_, err := newWriter(&bytes.Buffer{}, h, start)
		require.Error(t, err)
		_, err = NewRestReader(bytes.NewReader(h.append(nil)), start)
		require.ErrorIs(t, err, ErrCorrupt)
	}
	_, err := readAllFrom(h.append(nil), 2*propertyChunk)
	require.ErrorIs(t, err, ErrCut)
}
