// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/delta/corpus"
)

// counted counts the bytes that are read.
type counted struct {
	corpus.Memory
	n *int64
}

func (c counted) ReadAt(p []byte, off int64) (int, error) {
	*c.n += int64(len(p))
	return c.Memory.ReadAt(p, off)
}

// TestIndexBase: what changed is found, and what did not as far as the changes are worth
// its reading.
func TestIndexBase(t *testing.T) {
	base := corpus.Memory(corpus.Random(1, 16<<20))
	for _, tt := range []struct {
		changed, link float64
		read          int64 // at most
		rest          bool  // is found
	}{
		{1 << 20, 0, 16 << 20, true},
		{16 << 10, 0, 65*16<<10 + restPiece, false},
		{1 << 20, 1e9, 0, false},
		{1 << 20, 100e6, 0, false},
		{1 << 20, 50e6, 5 << 20, false},
		{1 << 20, 10e6, 16 << 20, true},
		{1 << 20, 10e9, 0, false},
	} {
		var n int64
		src := Source{Base: counted{base, &n}, Extents: []Extent{{Offset: 4 << 20, Length: int64(tt.changed)}}}
		index, err := IndexBase(t.Context(), src, tt.link)
		require.NoError(t, err)
		require.LessOrEqual(t, n, tt.read, "%v", tt)
		if index == nil {
			require.Zero(t, tt.read)
			continue
		}
		found, samples := index.Count(base[4<<20 : 4<<20+int(tt.changed)])
		require.GreaterOrEqual(t, found, samples-4, "of what changed, but for full buckets: %v", tt)
		found, samples = index.Count(base[8<<20 : 12<<20])
		require.Equal(t, tt.rest, found*10 > samples*9, "%d of %d, %v", found, samples, tt)
	}
	index, err := IndexBase(t.Context(), Source{}, 0)
	require.NoError(t, err)
	require.Nil(t, index)
}
