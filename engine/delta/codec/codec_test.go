// SPDX-License-Identifier: Apache-2.0

package codec_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/delta/codec"
	"zumastor.org/zumastor/engine/delta/codec/codectest"
	"zumastor.org/zumastor/engine/delta/corpus"
	"zumastor.org/zumastor/engine/delta/similar"
)

// all are the codecs of this version.
var all = []codec.ID{codec.Raw, codec.Zlib, codec.Zstd, codec.Bsdiff, codec.VCDIFF, codec.ZstdPatch, codec.Similar}

func coders(id codec.ID) codectest.Coders {
	return codectest.Coders{
		Encoder: func(extent int) (codec.Encoder, error) {
			return codec.NewEncoder(id, codec.Options{Extent: extent})
		},
		Decoder: func(l codec.Limits) (codec.Decoder, error) { return codec.NewDecoder(id, l) },
	}
}

func TestConformance(t *testing.T) {
	for _, id := range all {
		t.Run(id.String(), func(t *testing.T) {
			c := coders(id)
			if id == codec.Bsdiff {
				tool(t, "bzip2")
				c.Slow = true // it starts three processes for each extent
			}
			codectest.Run(t, c)
		})
	}
}

// TestNumbers holds what is part of the format.
func TestNumbers(t *testing.T) {
	for number, name := range map[codec.ID]string{1: "raw", 2: "zlib", 3: "zstd", 4: "bsdiff", 5: "vcdiff", 6: "zstd-patch", 7: "similar"} {
		require.Equal(t, name, number.String())
		id, err := codec.Parse(name)
		require.NoError(t, err)
		require.Equal(t, number, id)
		require.Equal(t, number > 3, id.NeedsBase())
	}
	require.Equal(t, "codec 0", codec.ID(0).String())
	require.Equal(t, "codec 200", codec.ID(200).String())
	for _, name := range []string{"", "best", "ZSTD"} {
		_, err := codec.Parse(name)
		require.ErrorContains(t, err, "raw, zlib, zstd, bsdiff")
	}
}

func TestOptions(t *testing.T) {
	for _, id := range all {
		_, err := codec.NewEncoder(id, codec.Options{Level: 23})
		require.ErrorContains(t, err, "level 23", id)
		_, err = codec.NewEncoder(id, codec.Options{Level: -1})
		require.ErrorContains(t, err, "level -1", id)
		_, err = codec.NewFixed(id, codec.Options{Extent: -1})
		require.ErrorContains(t, err, "extent of -1 bytes", id)
	}
	_, err := codec.NewEncoder(77, codec.Options{})
	require.ErrorContains(t, err, "codec 77 is not known to this version")
	_, err = codec.NewDecoder(0, codec.Limits{})
	require.ErrorContains(t, err, "codec 0 is not known to this version")
}

// TestLevels shows that levels are taken: more effort, fewer bytes.
func TestLevels(t *testing.T) {
	text := corpus.Text(1, 1<<18)
	for id, level := range map[codec.ID]int{codec.Zlib: 9, codec.Zstd: 19} {
		var sizes []int
		for _, l := range []int{1, level} {
			e, err := codec.NewEncoder(id, codec.Options{Level: l})
			require.NoError(t, err)
			out, err := e.Encode(nil, text, 0, nil)
			require.NoError(t, err)
			sizes = append(sizes, len(out))
		}
		require.Less(t, sizes[1], sizes[0], id)
	}
}

// TestFixed shows that raw, which is the content as it is, stands in for what a codec
// makes larger.
func TestFixed(t *testing.T) {
	f, err := codec.NewFixed(codec.Zlib, codec.Options{})
	require.NoError(t, err)
	random := corpus.Random(1, 4096)
	id, out, err := f.Encode([]byte("x"), random, 0, nil)
	require.NoError(t, err)
	require.Equal(t, codec.Raw, id)
	require.Equal(t, "x", string(out))
	id, out, err = f.Encode([]byte("x"), make([]byte, 4096), 0, nil)
	require.NoError(t, err)
	require.Equal(t, codec.Zlib, id)
	require.Less(t, len(out), 100)
}

// TestSharedIndex runs the suite with an index of another base: what it finds is
// never there.
func TestSharedIndex(t *testing.T) {
	index, err := similar.NewIndex(1<<20, 1<<20)
	require.NoError(t, err)
	for i, k := range codectest.Cases() {
		index.Add(int64(i)<<10, k.Content)
	}
	c := coders(codec.Similar)
	c.Encoder = func(extent int) (codec.Encoder, error) {
		return codec.NewEncoder(codec.Similar, codec.Options{Extent: extent, Similar: index})
	}
	codectest.Run(t, c)
}
