// SPDX-License-Identifier: Apache-2.0

// Package codectest is the conformance suite of package codec's coders.
//
// It owns the tests of the contract and the cases; it does not test how small
// payloads become. Every codec's tests call [Run] with functions that make its
// coders. A violation fails the test that found it.
package codectest

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/delta/codec"
	"zumastor.org/zumastor/engine/delta/corpus"
)

// Coders make the coders under test.
type Coders struct {
	Encoder func(extent int) (codec.Encoder, error)
	Decoder func(l codec.Limits) (codec.Decoder, error)
	Slow    bool // leave out contents of more than 64 KiB and some
}

// Case is content with a base.
type Case struct {
	Name    string
	Content []byte
	Offset  int64
	Base    codec.Base // nil for none
}

// Cases returns content of every kind, from 1 byte to 1 MiB.
func Cases() []Case { return casesUpTo(1 << 20) }

func casesUpTo(most int) []Case {
	var all []Case
	for _, n := range []int{1, 511, 4096, 64<<10 + 1, 1 << 20} {
		if n <= most {
			all = append(all, casesOf(n)...)
		}
	}
	return all
}

// most returns the size of the largest content.
func (c Coders) most() int {
	if c.Slow {
		return 64<<10 + 1
	}
	return 1 << 20
}

func casesOf(n int) []Case {
	text, random, zeros := corpus.Text(uint64(n), n), corpus.Random(uint64(n), n), make([]byte, n)
	volume := append(append(corpus.Text(7, 2*n), corpus.Random(7, n)...), text...)
	sparse := make([]byte, n)
	for i := 0; i < n; i += 3000 {
		copy(sparse[i:], random[:min(n-i, 10+i%37)])
	}
	at := func(name string, content []byte, offset int, base codec.Base) Case {
		return Case{fmt.Sprintf("%s-%d", name, n), content, int64(offset), base}
	}
	return []Case{
		at("zeros without base", zeros, 0, nil),
		at("random without base", random, n, nil),
		at("text without base", text, 0, nil),
		at("text on empty base", text, 0, corpus.Memory{}),
		at("same as base", text, 3*n, corpus.Memory(volume)),
		at("edited", corpus.Edited(3, volume[n:2*n]), n, corpus.Memory(volume)),
		at("edited random", corpus.Edited(4, volume[2*n:3*n]), 2*n, corpus.Memory(volume)),
		at("shifted", volume[n/2:n/2+n], n, corpus.Memory(volume)),
		at("moved", text, 0, corpus.Memory(volume)),
		at("zeros on text", zeros, n, corpus.Memory(volume)),
		at("text on zeros", text, n, corpus.Memory(make([]byte, 2*n))),
		at("sparse on zeros", sparse, 0, corpus.Memory(make([]byte, n))),
		at("sparse on sparse", corpus.Edited(5, sparse), 0, corpus.Memory(sparse)),
		at("unlike base", random, 0, corpus.Memory(volume)),
		at("base shorter than extent", volume[3*n:], 3*n, corpus.Memory(volume[:3*n+(n+1)/2])),
		at("base ends before extent", text, 9*n, corpus.Memory(volume)),
	}
}

// Run tests the coders.
func Run(t *testing.T, c Coders) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, c Coders)
	}{
		{"RoundTrip", testRoundTrip},
		{"Reuse", testReuse},
		{"Length", testLength},
		{"Damage", testDamage},
		{"Limits", testLimits},
		{"Memory", testMemory},
		{"BaseFails", testBaseFails},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, c) })
	}
}

func (c Coders) open(t *testing.T) (codec.Encoder, codec.Decoder) {
	e, err := c.Encoder(codec.DefaultExtent)
	require.NoError(t, err)
	d, err := c.Decoder(codec.Limits{Extent: codec.DefaultExtent})
	require.NoError(t, err)
	return e, d
}

// encode returns the payload, or nil where the codec does not do the case.
func encode(t *testing.T, e codec.Encoder, k Case) []byte {
	out, err := e.Encode([]byte("before"), k.Content, k.Offset, k.Base)
	require.Equal(t, "before", string(out[:6]), "what stood in dst stays")
	if errors.Is(err, codec.ErrUnsuitable) {
		require.Len(t, out, 6, "nothing is appended on an error")
		return nil
	}
	require.NoError(t, err)
	return out[6:]
}

// testRoundTrip uses the same coders for all cases, so that nothing of an extent
// may be left in them.
func testRoundTrip(t *testing.T, c Coders) {
	e, d := c.open(t)
	done := 0
	for _, k := range casesUpTo(c.most()) {
		content := bytes.Clone(k.Content)
		coded := encode(t, e, k)
		require.True(t, bytes.Equal(content, k.Content), "%s: the encoder leaves content as it is", k.Name)
		if coded == nil {
			continue
		}
		done++
		dst := bytes.Repeat([]byte{0xa5}, len(k.Content))
		require.NoError(t, d.Decode(dst, coded, k.Offset, k.Base), k.Name)
		require.True(t, bytes.Equal(k.Content, dst), "%s: decoded content differs", k.Name)
	}
	require.Greater(t, done, 10, "the codec does some of the cases")
}

// testReuse shows that a payload depends on its extent alone.
func testReuse(t *testing.T, c Coders) {
	used, _ := c.open(t)
	for _, k := range casesOf(4096) {
		encode(t, used, k)
	}
	for _, k := range casesOf(4096)[4:8] {
		fresh, _ := c.open(t)
		require.Equal(t, encode(t, fresh, k), encode(t, used, k), k.Name)
	}
}

// testLength decodes into memory of another length than was coded.
func testLength(t *testing.T, c Coders) {
	e, d := c.open(t)
	for _, k := range casesOf(4096) {
		coded := encode(t, e, k)
		for _, n := range []int{0, 1, len(k.Content) - 1, len(k.Content) + 1, 2 * len(k.Content)} {
			if coded != nil && n != len(k.Content) {
				require.ErrorIs(t, d.Decode(make([]byte, n), coded, k.Offset, k.Base), codec.ErrCorrupt, "%s into %d bytes", k.Name, n)
			}
		}
	}
}

// testDamage cuts payloads and changes bytes of them: an error that says so, or
// other content, since not every codec has a checksum.
func testDamage(t *testing.T, c Coders) {
	e, d := c.open(t)
	r := rand.New(rand.NewPCG(1, 1))
	for _, k := range casesOf(4096) {
		coded := encode(t, e, k)
		dst := make([]byte, len(k.Content))
		check := func(damaged []byte) {
			if err := d.Decode(dst, damaged, k.Offset, k.Base); err != nil {
				require.ErrorIs(t, err, codec.ErrCorrupt, k.Name)
			}
		}
		tries := 60
		if c.Slow {
			tries = 15
		}
		for range min(tries, len(coded)) {
			cut := r.IntN(len(coded))
			require.ErrorIs(t, d.Decode(dst, coded[:cut], k.Offset, k.Base), codec.ErrCorrupt, "%s cut to %d bytes", k.Name, cut)
			damaged := bytes.Clone(coded)
			damaged[r.IntN(len(damaged))] ^= byte(1 + r.IntN(255))
			check(damaged)
		}
		if coded != nil {
			check(append(bytes.Clone(coded), 0))
			require.NoError(t, d.Decode(dst, coded, k.Offset, k.Base), "%s: the decoder works after errors", k.Name)
			require.True(t, bytes.Equal(k.Content, dst), "%s: decoded content differs", k.Name)
		}
		check(corpus.Random(9, 100))
	}
}

func testLimits(t *testing.T, c Coders) {
	_, err := c.Encoder(codec.MaxExtent + 1)
	require.ErrorContains(t, err, "extent")
	_, err = c.Decoder(codec.Limits{Extent: codec.MaxExtent + 1})
	require.ErrorContains(t, err, "extent")
	_, err = c.Decoder(codec.Limits{Extent: -1})
	require.ErrorContains(t, err, "extent")
	e, _ := c.open(t)
	d, err := c.Decoder(codec.Limits{Extent: 4095})
	require.NoError(t, err)
	for _, k := range casesOf(4096) {
		if coded := encode(t, e, k); coded != nil {
			require.ErrorIs(t, d.Decode(make([]byte, 4096), coded, k.Offset, k.Base), codec.ErrCorrupt)
			require.ErrorIs(t, d.Decode(make([]byte, 4095), coded, -1, k.Base), codec.ErrCorrupt)
		}
	}
}

// testMemory holds the decoder to its bound: 6 extents and 16 MiB.
func testMemory(t *testing.T, c Coders) {
	e, d := c.open(t)
	for _, k := range casesOf(c.most()) {
		coded := encode(t, e, k)
		if coded == nil {
			continue
		}
		dst := make([]byte, len(k.Content))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		require.NoError(t, d.Decode(dst, coded, k.Offset, k.Base), k.Name)
		runtime.ReadMemStats(&after)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(6*codec.DefaultExtent+16<<20), k.Name)
	}
}

// failing is a base that cannot be read.
type failing struct{ corpus.Memory }

var errRead = errors.New("medium error")

func (failing) ReadAt([]byte, int64) (int, error) { return 0, errRead }

// testBaseFails shows that a base that cannot be read is not a corrupt payload,
// nor one that another codec would do.
func testBaseFails(t *testing.T, c Coders) {
	e, d := c.open(t)
	for _, k := range casesOf(4096) {
		memory, ok := k.Base.(corpus.Memory)
		coded := encode(t, e, k)
		if !ok || coded == nil {
			continue
		}
		err := d.Decode(make([]byte, len(k.Content)), coded, k.Offset, failing{memory})
		if err != nil {
			require.ErrorIs(t, err, errRead, k.Name)
			require.NotErrorIs(t, err, codec.ErrCorrupt, k.Name)
		}
		if out, err := e.Encode(nil, k.Content, k.Offset, failing{memory}); err != nil {
			require.ErrorIs(t, err, errRead, k.Name)
			require.NotErrorIs(t, err, codec.ErrUnsuitable, k.Name)
			require.Empty(t, out)
		}
	}
}
