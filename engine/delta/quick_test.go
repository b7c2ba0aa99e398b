// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/delta/codec"
	"zumastor.org/zumastor/engine/delta/corpus"
)

// twoStates are two states of a volume, and where they differ.
func twoStates(seed uint64) (a, b []byte, list []Extent) {
	rng := rand.New(rand.NewPCG(seed, 1))
	a = mutate(rng, nil, 60*propertyChunk)
	b = mutate(rng, mutate(rng, a, 60*propertyChunk), 60*propertyChunk)
	return a, b, changed(rng, a, b)
}

// quickAndPlain are a raw delta of a to b with quick sums, and one without.
func quickAndPlain(t *testing.T, h Header, a, b []byte, list []Extent) (quick, plain []byte) {
	quick, _ = createWith(t, EncodeOptions{Header: h, QuickSums: true}, a, b, list, codec.Raw)
	plain, _ = create(t, h, a, b, list, codec.Raw, 1)
	return quick, plain
}

// TestQuickSums: a delta with quick sums makes the same state, and for who keeps its
// records they are those of a delta without.
func TestQuickSums(t *testing.T) {
	a, b, list := twoStates(1)
	quick, plain := quickAndPlain(t, headerOf(a, b), a, b, list)
	require.Len(t, quick, len(plain))
	require.NotEqual(t, plain, quick)

	got, err := apply(t, quick, a, len(b), ApplyOptions{})
	require.NoError(t, err)
	require.Equal(t, b, got)
	_, want, _, err := readAll(bytes.NewReader(plain))
	require.NoError(t, err)
	_, records, _, err := readAll(bytes.NewReader(quick))
	require.NoError(t, err)
	require.Equal(t, want, records)

	x, err := OpenIndexed(bytes.NewReader(quick), int64(len(quick)))
	require.NoError(t, err)
	records = nil
	require.NoError(t, eachRecord(x, 0, int64(len(b)), func(r *Record) error {
		records = append(records, *r)
		return nil
	}))
	require.Equal(t, want, records)

	c := mutate(rand.New(rand.NewPCG(2, 1)), b, len(b))
	h := headerOf(b, c)
	h.From.Generation, h.To.Generation = 2, 3
	next, _ := create(t, h, b, c, []Extent{{0, int64(len(c))}}, codec.Raw, 1)
	first, err := composed(t, quick, next)
	require.NoError(t, err)
	second, err := composed(t, plain, next)
	require.NoError(t, err)
	require.Equal(t, second, first)
}

// TestQuickSumsAgain: what the receiver has is known by the quick sum, too.
func TestQuickSumsAgain(t *testing.T) {
	a, b, list := twoStates(3)
	quick, _ := quickAndPlain(t, headerOf(a, b), a, b, list)
	to := &memory{p: bytes.Clone(b)}
	r, err := NewReader(bytes.NewReader(quick))
	require.NoError(t, err)
	_, err = Apply(t.Context(), r, &memory{p: a}, to, ApplyOptions{Resume: true})
	require.NoError(t, err)
	require.Equal(t, b, to.p)
	require.Zero(t, to.writes)
}

// TestQuickSumsDamage: no byte may differ, though the checksums of records leave payloads
// to their sums, and the digest of the whole does.
func TestQuickSumsDamage(t *testing.T) {
	a, b, list := twoStates(4)
	quick, _ := quickAndPlain(t, headerOf(a, b), a, b, list)
	for at := 0; at < len(quick); at += step(at, len(quick)) {
		p := bytes.Clone(quick)
		p[at] ^= 0x10
		_, _, _, err := readAll(bytes.NewReader(p))
		require.Error(t, err, "at %d", at)
		r, err := NewReader(bytes.NewReader(p))
		if err != nil {
			continue
		}
		_, err = Apply(t.Context(), r, &memory{p: a}, &memory{p: bytes.Clone(a)}, ApplyOptions{})
		require.Error(t, err, "at %d", at)
	}
}

// TestQuickSumOnlyOfPayloads: no other record may have such a sum.
func TestQuickSumOnlyOfPayloads(t *testing.T) {
	h, records := sample()
	for i := range records {
		r := records[i]
		if r.Quick = true; r.bare() {
			continue
		}
		require.ErrorIs(t, r.check(&h), ErrCorrupt, "%v", r.Kind)
	}
	part := Record{Kind: KindExtent, Codec: codec.Raw, Length: 4096, Payload: make([]byte, 4096), Quick: true}
	whole := Record{Kind: KindComposed, Length: 4096, Parts: []Record{part}}
	p := whole.append(nil, 0)
	require.ErrorIs(t, (&Record{Kind: KindComposed, Length: 4096}).decodePayload(p[recordSize:], &h), ErrCorrupt)
}

// TestQuickKey: the key is of the header, all of it, and never another one.
func TestQuickKey(t *testing.T) {
	h, _ := sample()
	k := h.quickKey()
	require.Equal(t, "a99014a9e39388cd2d4d7a4c8c9d012bc7ba76807297ae12a0fdc79db78618c7", hex.EncodeToString(k[:]))
	sum := k.sumOf(corpus.Random(1, 1000))
	require.Equal(t, "e365ed9700e5e42aa5df46e0b29dba3b", hex.EncodeToString(sum[:]))
	h.To.Created++
	require.NotEqual(t, k, h.quickKey())
}
