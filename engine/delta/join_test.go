// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/delta/codec"
)

// gappy are two states of a volume, of which every other chunk changed in one byte, but for
// those of the last quarter, where one of eight did.
func gappy() (a, b []byte, list []Extent) {
	rng := rand.New(rand.NewPCG(7, 8))
	a = make([]byte, 256*propertyChunk)
	for i := range a {
		a[i] = byte(rng.Uint32())
	}
	b = bytes.Clone(a)
	for c := 0; c < len(a)/propertyChunk; c++ {
		if step := 2 + 6*(c/192); c%step == 0 {
			b[c*propertyChunk+rng.IntN(propertyChunk)]++
			list = append(list, Extent{int64(c) * propertyChunk, propertyChunk})
		}
	}
	return a, b, list
}

// TestJoin: what is changed shares extents with little between that is not, the delta is the
// smaller, and only what changed is written.
func TestJoin(t *testing.T) {
	a, b, list := gappy()
	apart, _ := createWith(t, EncodeOptions{Header: headerOf(a, b)}, a, b, list, codec.ZstdPatch)
	joined, _ := createWith(t, EncodeOptions{Header: headerOf(a, b), Join: 2 * propertyChunk}, a, b, list, codec.ZstdPatch)
	require.Less(t, len(joined), len(apart)*2/3)
	_, records, _, err := readAll(bytes.NewReader(joined))
	require.NoError(t, err)
	window := 64 << 10 / propertyChunk
	require.Len(t, records, 192/window+64/8, "one for each bound of an extent; beyond, one for each chunk")

	r, err := NewReader(bytes.NewReader(joined))
	require.NoError(t, err)
	to := &memory{p: bytes.Clone(a)}
	_, err = Apply(t.Context(), r, &memory{p: a}, to, ApplyOptions{})
	require.NoError(t, err)
	require.Equal(t, b, to.p)
	require.Equal(t, len(list), to.writes, "of chunks that changed")
}

// TestJoined joins extents with no more between them than the gap.
func TestJoined(t *testing.T) {
	list := []Extent{{0, 10}, {12, 3}, {20, 5}, {25, 5}, {40, 1}}
	require.Equal(t, list, joined(list, 0))
	require.Equal(t, []Extent{{0, 15}, {20, 10}, {40, 1}}, joined(list, 2))
	require.Equal(t, []Extent{{0, 41}}, joined(list, 10))
	require.Equal(t, Extent{0, 10}, list[0], "the list stays as it is")
	require.Empty(t, joined(nil, 5))
}

// TestDiffering tells chunks apart, the last of which may be short, and the base's end.
func TestDiffering(t *testing.T) {
	same := []byte("aaaabbbbccccdd")
	for content, want := range map[string][]Extent{
		"aaaabbbbccccdd":   nil,
		"aaaaxbbbxcccdd":   {{4, 8}},
		"xaaabbbbccccdx":   {{0, 4}, {12, 2}},
		"aaaabbbbccccddee": {{12, 4}},
	} {
		require.Equal(t, want, differing(nil, []byte(content), same, 4), content)
	}
	require.Equal(t, []Extent{{0, 6}}, differing(nil, []byte("aaaabb"), nil, 4))
}

func TestJoinFor(t *testing.T) {
	for _, id := range codecs {
		want := JoinGap
		if id <= codec.Bsdiff {
			want = 0
		}
		require.Equal(t, want, JoinFor(id), "%v", id)
	}
}
