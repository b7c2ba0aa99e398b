// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/delta/codec"
)

// memory is content in memory.
type memory struct {
	p      []byte
	writes int
}

func (m *memory) Size() int64 { return int64(len(m.p)) }
func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(m.p).ReadAt(p, off)
}

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	m.writes++
	return copy(m.p[off:], p), nil
}

func (m *memory) Zero(off, n int64) error {
	clear(m.p[off : off+n])
	return nil
}

func (m *memory) Flush() error { return nil }

const propertyChunk = 4096

// mutate returns what a volume of size bytes becomes by some writes, moves and resizes.
func mutate(rng *rand.Rand, old []byte, size int) []byte {
	p := make([]byte, size)
	copy(p, old)
	for range rng.IntN(30) {
		off := rng.IntN(size)
		n := min(1+rng.IntN(20000), size-off)
		switch rng.IntN(5) {
		case 0:
			for i := range n {
				p[off+i] = byte(rng.Uint32())
			}
		case 1:
			copy(p[off:off+n], bytes.Repeat([]byte("lorem ipsum "), n/12+1))
		case 2:
			clear(p[off : off+n])
		case 3: // moved within
			to := rng.IntN(size/propertyChunk) * propertyChunk
			copy(p[to:], p[off/propertyChunk*propertyChunk:][:min(n, size-off)])
		case 4:
			p[off]++
		}
	}
	return p
}

// changed lists the chunks that differ, and some that don't.
func changed(rng *rand.Rand, from, to []byte) (list []Extent) {
	for off := 0; off < len(to); off += propertyChunk {
		end := min(off+propertyChunk, len(to))
		if end <= len(from) && bytes.Equal(from[off:end], to[off:end]) && rng.IntN(8) > 0 {
			continue
		}
		if n := len(list) - 1; n >= 0 && list[n].Offset+list[n].Length == int64(off) {
			list[n].Length += int64(end - off)
			continue
		}
		list = append(list, Extent{int64(off), int64(end - off)})
	}
	return list
}

func headerOf(from, to []byte) Header {
	h := Header{ChunkSize: propertyChunk, Extent: 64 << 10, To: End{Identity: Identity{Generation: 2}, Size: int64(len(to))}}
	if from != nil {
		h.From = &End{Identity: Identity{Generation: 1}, Size: int64(len(from))}
	}
	return h
}

func create(t testing.TB, h Header, from, to []byte, list []Extent, id codec.ID, workers int) ([]byte, Summary) {
	return createWith(t, EncodeOptions{Header: h, Workers: workers}, from, to, list, id)
}

func createWith(t testing.TB, o EncodeOptions, from, to []byte, list []Extent, id codec.ID) ([]byte, Summary) {
	h := &o.Header
	h.Codecs = []codec.ID{codec.Raw}
	if id != codec.Raw {
		h.Codecs = append(h.Codecs, id)
	}
	src := Source{Target: &memory{p: to}, Extents: list}
	if from != nil {
		src.Base = &memory{p: from}
	}
	var b bytes.Buffer
	o.Memory = 1
	o.Chooser = func() (codec.Chooser, error) { return codec.NewFixed(id, codec.Options{Extent: h.Extent}) }
	sum, err := Encode(t.Context(), &b, src, o)
	require.NoError(t, err)
	return b.Bytes(), sum
}

func apply(t testing.TB, delta, from []byte, size int, o ApplyOptions) ([]byte, error) {
	r, err := NewReader(bytes.NewReader(delta))
	require.NoError(t, err)
	to := &memory{p: make([]byte, max(size, len(from)))}
	copy(to.p, from)
	var base Content
	if from != nil {
		base = &memory{p: from}
	}
	_, err = Apply(t.Context(), r, base, to, o)
	return to.p[:size], err
}

// codecs are all, the one that looks anywhere in the base last.
var codecs = []codec.ID{codec.Raw, codec.Zlib, codec.Zstd, codec.ZstdPatch, codec.Bsdiff, codec.VCDIFF, codec.Similar}

// TestApplyOfCreate: apply(create(a, b)) on a is b, byte for byte, whatever the codec, the
// sizes and the number of workers.
func TestApplyOfCreate(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 1))
		size := func() int { return (1+rng.IntN(80))*propertyChunk + rng.IntN(8)*512 }
		a := mutate(rng, nil, size())
		b := mutate(rng, a, size())
		if rng.IntN(2) == 0 {
			b = mutate(rng, a, len(a))
		}
		if rng.IntN(5) == 0 {
			a = nil
		}
		id := codecs[rng.IntN(len(codecs))]
		h, list := headerOf(a, b), changed(rng, a, b)
		o := EncodeOptions{Header: h, Join: rng.IntN(4) * propertyChunk}
		o.Workers = 1 + rng.IntN(4)
		delta, sum := createWith(t, o, a, b, list, id)
		got, err := apply(t, delta, a, len(b), ApplyOptions{})
		require.NoError(t, err, "seed %d", seed)
		require.True(t, bytes.Equal(b, got), "seed %d, %v", seed, id)
		require.EqualValues(t, len(delta), sum.Bytes)
		o.Workers = 1 + rng.IntN(4)
		other, _ := createWith(t, o, a, b, list, id)
		require.True(t, bytes.Equal(delta, other), "seed %d: the same source makes the same delta", seed)
		rep, err := Inspect(t.Context(), bytes.NewReader(delta), true)
		require.NoError(t, err)
		require.Equal(t, sum, rep.Summary)
	}
}

// TestSameZeroAndAgainCostNothing: what need not be sent is not.
func TestSameZeroAndAgainCostNothing(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	a := make([]byte, 1<<20)
	for i := range a {
		a[i] = byte(rng.Uint32())
	}
	b := bytes.Clone(a)
	clear(b[256<<10 : 512<<10])
	block := bytes.Clone(b[:32<<10])
	for i := range block {
		block[i] = byte(rng.Uint32())
	}
	copy(b[600<<10:], block)
	copy(b[900<<10:], block)
	delta, sum := create(t, headerOf(a, b), a, b, []Extent{{0, 1 << 20}}, codec.Raw, 2)
	require.EqualValues(t, 256<<10, sum.Zeroes)
	require.Less(t, len(delta), len(block)+2048)
	got, err := apply(t, delta, a, len(b), ApplyOptions{})
	require.NoError(t, err)
	require.True(t, bytes.Equal(b, got))
}

// TestWrongBase: a base that is not the right one is refused before anything is written.
func TestWrongBase(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	a := mutate(rng, nil, 40*propertyChunk)
	b := mutate(rng, a, 40*propertyChunk)
	delta, _ := create(t, headerOf(a, b), a, b, changed(rng, a, b), codec.ZstdPatch, 2)
	check := func(base Content) error {
		r, err := NewReader(bytes.NewReader(delta))
		require.NoError(t, err)
		return CheckBase(t.Context(), r, base)
	}
	require.NoError(t, check(&memory{p: a}))
	other := bytes.Clone(a)
	last := int64(0)
	_, records, _, err := readAll(bytes.NewReader(delta))
	require.NoError(t, err)
	for _, r := range records {
		if r.HasBase {
			last = r.Offset
		}
	}
	other[last+5]++
	require.ErrorIs(t, check(&memory{p: other}), ErrBase)
	require.ErrorIs(t, check(&memory{p: a[:propertyChunk]}), ErrBase)
	require.ErrorIs(t, check(nil), ErrBase)
	_, err = apply(t, delta, other, len(b), ApplyOptions{})
	require.ErrorIs(t, err, ErrBase, "a stream is refused at the record")
}

// TestCutAndResume: a stream may be cut after any record, as often as it may be; to
// apply it again, from its begin, ends in the newer state.
func TestCutAndResume(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	a := mutate(rng, nil, 60*propertyChunk)
	b := mutate(rng, mutate(rng, a, 60*propertyChunk), 60*propertyChunk)
	delta, _ := create(t, headerOf(a, b), a, b, changed(rng, a, b), codec.ZstdPatch, 2)
	var cuts []int64
	r, err := NewReader(bytes.NewReader(delta))
	require.NoError(t, err)
	for err == nil {
		cuts = append(cuts, r.Summary().Bytes)
		_, err = r.Next()
	}
	require.Greater(t, len(cuts), 10)
	to := &memory{p: bytes.Clone(a)}
	for _, n := range cuts {
		r, err := NewReader(bytes.NewReader(delta[:n]))
		require.NoError(t, err)
		_, err = Apply(t.Context(), r, &memory{p: a}, to, ApplyOptions{Resume: true})
		require.ErrorIs(t, err, ErrCut)
	}
	require.LessOrEqual(t, to.writes, len(cuts), "what is there is not written again")
	r, err = NewReader(bytes.NewReader(delta))
	require.NoError(t, err)
	_, err = Apply(t.Context(), r, &memory{p: a}, to, ApplyOptions{Resume: true})
	require.NoError(t, err)
	require.True(t, bytes.Equal(b, to.p))
}

// failing fails the reads from an offset on.
type failing struct {
	*memory
	from int64
}

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.from {
		return 0, errors.New("broken")
	}
	return f.memory.ReadAt(p, off)
}

// TestEncodeEnds: with the first error, or its context, leaving nothing behind.
func TestEncodeEnds(t *testing.T) {
	p := bytes.Repeat([]byte("x"), 100*propertyChunk)
	h := headerOf(nil, p)
	h.Codecs = []codec.ID{codec.Raw}
	o := EncodeOptions{Header: h, Workers: 3, Chooser: func() (codec.Chooser, error) { return codec.NewFixed(codec.Raw, codec.Options{}) }}
	all := []Extent{{0, int64(len(p))}}
	_, err := Encode(t.Context(), io.Discard, Source{Target: failing{&memory{p: p}, 50 * propertyChunk}, Extents: all}, o)
	require.ErrorContains(t, err, "broken")
	ctx, cancel := context.WithCancelCause(t.Context())
	o.Progress = func(int64, int64) { cancel(fmt.Errorf("enough")) }
	_, err = Encode(ctx, io.Discard, Source{Target: &memory{p: p}, Extents: all}, o)
	require.ErrorContains(t, err, "enough")
	o.Progress = nil
	o.Chooser = func() (codec.Chooser, error) { return nil, errors.New("no codec") }
	_, err = Encode(t.Context(), io.Discard, Source{Target: &memory{p: p}, Extents: all}, o)
	require.ErrorContains(t, err, "no codec")
	_, err = Encode(t.Context(), io.Discard, Source{Target: &memory{p: p[:5]}, Extents: all}, o)
	require.ErrorContains(t, err, "not what the header says")
}
