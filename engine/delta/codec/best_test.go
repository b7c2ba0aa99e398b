// SPDX-License-Identifier: Apache-2.0

package codec_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/delta/codec"
	"zumastor.org/zumastor/engine/delta/codec/codectest"
	"zumastor.org/zumastor/engine/delta/corpus"
	"zumastor.org/zumastor/engine/delta/similar"
)

// decode decodes what a chooser made.
func decode(t *testing.T, id codec.ID, coded []byte, k codectest.Case) {
	d, err := codec.NewDecoder(id, codec.Limits{})
	require.NoError(t, err)
	dst := make([]byte, len(k.Content))
	require.NoError(t, d.Decode(dst, coded, k.Offset, k.Base), "%s: %s", k.Name, id)
	require.True(t, string(k.Content) == string(dst), "%s: %s: decoded content differs", k.Name, id)
}

// payload returns what a chooser made of content.
func payload(t *testing.T, id codec.ID, coded, content []byte) []byte {
	if id == codec.Raw {
		require.Empty(t, coded)
		return content
	}
	require.Less(t, len(coded), len(content))
	return coded
}

func TestBestRoundTrip(t *testing.T) {
	best, err := codec.NewBest(codec.BestOptions{})
	require.NoError(t, err)
	for _, k := range codectest.Cases() {
		id, coded, err := best.Encode([]byte("before"), k.Content, k.Offset, k.Base)
		require.NoError(t, err, k.Name)
		require.Equal(t, "before", string(coded[:6]), k.Name)
		decode(t, id, payload(t, id, coded[6:], k.Content), k)
	}
}

// evolved returns an old volume, the new one, and an index of the old one: of
// each kind of content some is left, edited, moved, and new.
func evolved(t *testing.T) (old, content corpus.Memory, index *similar.Index) {
	const part = 256 << 10
	for i := range uint64(4) {
		old = append(append(old, corpus.Text(i, part)...), corpus.Random(i, part)...)
		content = append(content, corpus.Edited(i, old[len(old)-2*part:len(old)-part])...)
		content = append(content, corpus.Edited(i, old[i*part:(i+1)*part])...)
	}
	content = append(append(content, corpus.Text(9, 2*part)...), corpus.Random(9, part)...)
	content = append(content, old[777:777+part]...)
	index, err := similar.NewIndex(1<<20, old.Size())
	require.NoError(t, err)
	index.Add(0, old)
	return old, content, index
}

// code returns how many bytes a chooser makes of the volume in extents of a size.
func code(t *testing.T, c codec.Chooser, content, old corpus.Memory, extent int) (sum int) {
	for at := 0; at < len(content); at += extent {
		k := codectest.Case{Content: content[at:min(at+extent, len(content))], Offset: int64(at), Base: old}
		id, coded, err := c.Encode(nil, k.Content, k.Offset, k.Base)
		require.NoError(t, err)
		coded = payload(t, id, coded, k.Content)
		decode(t, id, coded, k)
		sum += len(coded)
	}
	return sum
}

// TestBestAgainstEach holds best to half a per cent more than the smallest codec.
func TestBestAgainstEach(t *testing.T) {
	old, content, index := evolved(t)
	const extent = 128 << 10
	best, err := codec.NewBest(codec.BestOptions{Extent: extent, Similar: index})
	require.NoError(t, err)
	got := code(t, best, content, old, extent)
	for _, id := range []codec.ID{codec.Raw, codec.Zlib, codec.Zstd, codec.ZstdPatch, codec.Similar} {
		f, err := codec.NewFixed(id, codec.Options{Extent: extent, Similar: index})
		require.NoError(t, err)
		require.LessOrEqual(t, float64(got), 1.005*float64(code(t, f, content, old, extent)), id)
	}
}

// TestBestRandom shows that random bytes cost one small trial, unless the base
// has them somewhere.
func TestBestRandom(t *testing.T) {
	old, _, index := evolved(t)
	learned := codec.NewLearned()
	best, err := codec.NewBest(codec.BestOptions{Similar: index, Learned: learned})
	require.NoError(t, err)
	id, coded, err := best.Encode(nil, corpus.Random(77, 1<<20), 0, old)
	require.NoError(t, err)
	require.Equal(t, codec.Raw, id)
	require.Empty(t, coded)
	for _, f := range learned.Figures() {
		require.Zero(t, f.Extents)
	}
	id, coded, err = best.Encode(nil, old[300<<10:400<<10], 0, old)
	require.NoError(t, err)
	require.Equal(t, codec.Similar, id)
	require.Less(t, len(coded), 100)
}

// TestBestLink shows that a fast link takes bytes as they are, and a slow one
// takes time to make few of them.
func TestBestLink(t *testing.T) {
	old, content, index := evolved(t)
	for link, want := range map[float64]codec.ID{1e15: codec.Raw, 1e3: codec.Similar} {
		learned := codec.NewLearned()
		now := time.Duration(0)
		best, err := codec.NewBest(codec.BestOptions{Similar: index, Learned: learned, LinkBitsPerSecond: link,
			Now: func() time.Duration { now += time.Millisecond; return now }})
		require.NoError(t, err)
		id, _, err := best.Encode(nil, content[:128<<10], 0, old)
		require.NoError(t, err)
		require.Equal(t, want, id, "%g bits a second", link)
		chosen := 0
		for _, f := range learned.Figures() {
			chosen += f.Chosen
			require.Equal(t, time.Duration(f.Extents)*time.Millisecond, f.Spent, "the clock is the given one")
		}
		require.Equal(t, 1, chosen)
	}
}

func TestBestOptions(t *testing.T) {
	_, err := codec.NewBest(codec.BestOptions{Extent: codec.MaxExtent + 1})
	require.ErrorContains(t, err, "extent")
	_, err = codec.NewBest(codec.BestOptions{LinkBitsPerSecond: -1})
	require.ErrorContains(t, err, "link")
}

// TestBestConcurrent shares what is learned among workers.
func TestBestConcurrent(t *testing.T) {
	old, content, index := evolved(t)
	learned := codec.NewLearned()
	var wait sync.WaitGroup
	for i := range 3 {
		best, err := codec.NewBest(codec.BestOptions{Similar: index, Learned: learned})
		require.NoError(t, err)
		wait.Go(func() {
			for at := i << 16; at+1<<16 <= 1<<20; at += 3 << 16 {
				if _, _, err := best.Encode(nil, content[at:at+1<<16], int64(at), old); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	chosen := 0
	for _, f := range learned.Figures() {
		chosen += f.Chosen
		require.LessOrEqual(t, f.Chosen, f.Extents)
	}
	require.Greater(t, chosen, 0)
}
