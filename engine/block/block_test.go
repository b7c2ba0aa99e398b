// SPDX-License-Identifier: Apache-2.0

package block_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"zumastor.org/zumastor/engine/block"
)

func TestGeometryBounds(t *testing.T) {
	for name, test := range map[string]struct {
		size  int64
		chunk int
		ok    bool
	}{
		"least":                 {512, 4 << 10, true},
		"most":                  {1 << 50, 1 << 20, true},
		"most, small chunks":    {1 << 50, 4 << 10, true},
		"no size":               {0, 4 << 10, false},
		"negative size":         {-512, 4 << 10, false},
		"unaligned size":        {1000, 4 << 10, false},
		"beyond 1 PiB":          {1<<50 + 512, 4 << 10, false},
		"as large as it gets":   {math.MaxInt64 &^ 511, 4 << 10, false},
		"no chunk":              {1 << 20, 0, false},
		"negative chunk":        {1 << 20, -4096, false},
		"small chunk":           {1 << 20, 2 << 10, false},
		"large chunk":           {1 << 20, 2 << 20, false},
		"no power of two":       {1 << 20, 12 << 10, false},
		"almost a power of two": {1 << 20, 64<<10 + 1, false},
	} {
		g, err := block.NewGeometry(test.size, test.chunk)
		if !test.ok {
			require.ErrorIs(t, err, block.ErrGeometry, name)
			continue
		}
		require.NoError(t, err, name)
		require.Equal(t, test.size, g.Size(), name)
		require.Equal(t, test.chunk, g.ChunkSize(), name)
		require.Equal(t, test.chunk, 1<<g.ChunkShift(), name)
	}
}

func TestChunksAndTheLast(t *testing.T) {
	for _, test := range []struct {
		size   int64
		chunk  int
		chunks uint64
		last   int // length
	}{
		{512, 4 << 10, 1, 512},
		{4 << 10, 4 << 10, 1, 4 << 10},
		{4<<10 + 512, 4 << 10, 2, 512},
		{8<<10 - 512, 4 << 10, 2, 4<<10 - 512},
		{1 << 50, 4 << 10, 1 << 38, 4 << 10},
		{1<<50 - 512, 1 << 20, 1 << 30, 1<<20 - 512},
	} {
		g, err := block.NewGeometry(test.size, test.chunk)
		require.NoError(t, err)
		last := block.Chunk(test.chunks - 1)
		require.Equal(t, test.chunks, g.Chunks())
		require.Equal(t, test.last, g.Len(last))
		require.Equal(t, test.size, g.Offset(last)+int64(g.Len(last)))
		require.Equal(t, last, g.ChunkOf(test.size-1))
	}
}

func TestSpan(t *testing.T) {
	g, err := block.NewGeometry(1<<50, 64<<10)
	require.NoError(t, err)
	for _, test := range []struct {
		off, n     int64
		first, end block.Chunk
	}{
		{0, 0, 0, 0},
		{1 << 20, 0, 16, 16},
		{1 << 20, -512, 16, 16},
		{0, 512, 0, 1},
		{0, 64 << 10, 0, 1},
		{0, 64<<10 + 512, 0, 2},
		{64<<10 - 512, 1024, 0, 2},
		{1<<50 - 512, 512, 1<<34 - 1, 1 << 34},
		{0, 1 << 50, 0, 1 << 34},
	} {
		first, end := g.Span(test.off, test.n)
		require.Equal(t, test.first, first, "%+v", test)
		require.Equal(t, test.end, end, "%+v", test)
	}
}

func TestCheckRange(t *testing.T) {
	g, err := block.NewGeometry(1<<20+512, 64<<10)
	require.NoError(t, err)
	for _, r := range [][2]int64{{0, 0}, {0, 512}, {1 << 20, 512}, {1<<20 + 512, 0}, {0, 1<<20 + 512}} {
		require.NoError(t, g.CheckRange(r[0], r[1]), r)
	}
	for _, r := range [][2]int64{
		{-512, 512}, {0, -512}, {1, 512}, {0, 511}, {1<<20 + 512, 512}, {1 << 20, 1024}, {1<<20 + 1024, 0},
		{512, math.MaxInt64 &^ 511}, {math.MaxInt64 &^ 511, 512}, {math.MaxInt64 &^ 511, math.MaxInt64 &^ 511}, {math.MinInt64, math.MinInt64},
	} {
		require.ErrorIs(t, g.CheckRange(r[0], r[1]), block.ErrGeometry, r)
	}
}

// Every sector is in exactly the chunk that says so, and chunks tile the origin.
func TestChunksTileTheOrigin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Int64Range(1, block.MaxOriginSize/block.SectorSize).Draw(t, "sectors") * block.SectorSize
		g, err := block.NewGeometry(size, block.MinChunkSize<<rapid.IntRange(0, 8).Draw(t, "shift"))
		require.NoError(t, err)
		off := rapid.Int64Range(0, size-1).Draw(t, "off")
		c := g.ChunkOf(off)
		require.Less(t, uint64(c), g.Chunks())
		require.GreaterOrEqual(t, off, g.Offset(c))
		require.Less(t, off, g.Offset(c)+int64(g.Len(c)))
		if uint64(c)+1 < g.Chunks() {
			require.Equal(t, g.ChunkSize(), g.Len(c))
		}
	})
}
