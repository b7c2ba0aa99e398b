// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/delta/codec"
)

// history is states of a volume, and the deltas from each to the next; the first one is
// of all of it.
func history(t *testing.T, rng *rand.Rand, size, n int, id func() codec.ID) (states [][]byte, deltas [][]byte) {
	var last []byte
	for i := range n {
		state := mutate(rng, last, size)
		h := headerOf(last, state)
		h.Extent = 32 << 10 << rng.IntN(2)
		h.To.Generation = block.Generation(i + 1)
		if h.From != nil {
			h.From.Generation = block.Generation(i)
		}
		o := EncodeOptions{Header: h, Workers: 2, Join: rng.IntN(3) * propertyChunk}
		delta, _ := createWith(t, o, last, state, changed(rng, last, state), id())
		states, deltas, last = append(states, state), append(deltas, delta), state
	}
	return states, deltas
}

func composed(t *testing.T, a, b []byte) ([]byte, error) {
	var out bytes.Buffer
	_, err := Compose(t.Context(), &out, bytes.NewReader(a), bytes.NewReader(b))
	return out.Bytes(), err
}

// TestComposed: what two deltas make one after another, the composed one makes at once; so
// do those of three, in either order.
func TestComposed(t *testing.T) {
	done, kinds := 0, map[Kind]uint64{}
	for seed := range uint64(120) {
		rng := rand.New(rand.NewPCG(seed, 2))
		size := (1+rng.IntN(60))*propertyChunk + rng.IntN(8)*512
		states, deltas := history(t, rng, size, 4, func() codec.ID { return codecs[rng.IntN(len(codecs)-1)] })
		check := func(base int, p []byte, to int) {
			var from []byte
			if base >= 0 {
				from = states[base]
			}
			got, err := apply(t, p, from, size, ApplyOptions{})
			require.NoError(t, err, "seed %d", seed)
			require.True(t, bytes.Equal(states[to], got), "seed %d: from %d to %d", seed, base, to)
			rep, err := Inspect(t.Context(), bytes.NewReader(p), true)
			require.NoError(t, err)
			for k, n := range rep.Kinds {
				kinds[k] += n.Records
			}
			done++
		}
		for i := range 3 {
			two, err := composed(t, deltas[i], deltas[i+1])
			if errors.Is(err, ErrNeedsVolume) {
				continue
			}
			require.NoError(t, err, "seed %d", seed)
			check(i-1, two, i+1)
			if i == 2 {
				continue
			}
			three, err := composed(t, two, deltas[i+2])
			if errors.Is(err, ErrNeedsVolume) {
				continue
			}
			require.NoError(t, err, "seed %d", seed)
			check(i-1, three, i+2)
			if rest, err := composed(t, deltas[i+1], deltas[i+2]); err == nil {
				if other, err := composed(t, deltas[i], rest); err == nil {
					check(i-1, other, i+2)
				}
			}
		}
	}
	require.Greater(t, done, 200, "most can be composed")
	require.Greater(t, kinds[KindComposed], uint64(50))
}

func TestComposeRefuses(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 9))
	_, deltas := history(t, rng, 20*propertyChunk, 3, func() codec.ID { return codec.Raw })
	_, err := composed(t, deltas[1], deltas[1])
	require.ErrorIs(t, err, ErrChain)
	_, err = composed(t, deltas[0], deltas[0])
	require.ErrorIs(t, err, ErrChain)
	_, err = composed(t, deltas[0], deltas[2])
	require.ErrorIs(t, err, ErrChain)
	for n := range []int{0, 50, 300} {
		_, err = composed(t, deltas[0], deltas[1][:n])
		require.ErrorIs(t, err, ErrCut)
		_, err = composed(t, deltas[0][:n], deltas[1])
		require.ErrorIs(t, err, ErrCut)
	}
	a := mutate(rng, nil, 20*propertyChunk)
	h := headerOf(a, a[:10*propertyChunk])
	small, _ := create(t, h, a, a[:10*propertyChunk], nil, codec.Raw, 1)
	h = headerOf(nil, a)
	h.To.Generation = 1
	full, _ := create(t, h, nil, a, []Extent{{0, int64(len(a))}}, codec.Raw, 1)
	_, err = composed(t, full, small)
	require.ErrorIs(t, err, ErrNeedsVolume)

	// What the first repeats from a place that the second changes is not there any more.
	b := bytes.Clone(a)
	copy(b[:propertyChunk], bytes.Repeat([]byte("new "), propertyChunk/4))
	copy(b[5*propertyChunk:], b[:propertyChunk])
	c := bytes.Clone(b)
	c[7]++
	h = headerOf(a, b)
	list := changed(rng, a, b)
	one, _ := create(t, h, a, b, list, codec.Raw, 1)
	other, _ := create(t, h, a, b, list, codec.ZstdPatch, 1)
	h = headerOf(b, c)
	h.From.Generation, h.To.Generation = 2, 3
	two, _ := create(t, h, b, c, changed(rng, b, c), codec.Raw, 1)
	_, err = composed(t, other, two)
	require.ErrorIs(t, err, ErrNeedsVolume)
	require.ErrorContains(t, err, "at offset 20480 the first one repeats")
	p, err := composed(t, one, two)
	require.NoError(t, err, "it is in a record that needs no base")
	got, err := apply(t, p, a, len(c), ApplyOptions{})
	require.NoError(t, err)
	require.True(t, bytes.Equal(c, got))
}

// TestComposeComparesDigests: what is known of the state between two deltas must agree.
func TestComposeComparesDigests(t *testing.T) {
	one, two := &Header{}, &Header{From: &End{}}
	one.To.Algorithm, one.To.Digest = DigestTree, [32]byte{1}
	_, err := composedHeader(one, two)
	require.NoError(t, err, "the second does not know its digest")
	two.From.Algorithm, two.From.Digest = DigestTree, [32]byte{2}
	_, err = composedHeader(one, two)
	require.ErrorIs(t, err, ErrChain)
	two.From.Digest = one.To.Digest
	_, err = composedHeader(one, two)
	require.NoError(t, err)
}
