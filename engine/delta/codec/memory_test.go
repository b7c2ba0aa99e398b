// SPDX-License-Identifier: Apache-2.0

package codec_test

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/delta/codec"
	"zumastor.org/zumastor/engine/delta/corpus"
	"zumastor.org/zumastor/engine/delta/similar"
)

// held returns the bytes that stay in memory for what make returns.
func held(make func() any) uint64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	kept := make()
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(kept)
	return after.HeapAlloc - min(before.HeapAlloc, after.HeapAlloc)
}

// TestEncoderMemory holds encoders of extents of 1 MiB to what their comments say.
func TestEncoderMemory(t *testing.T) {
	old := corpus.Memory(corpus.Text(1, 4<<20))
	content := corpus.Edited(1, old[2<<20:3<<20])
	index, err := similar.NewIndex(1<<20, old.Size())
	require.NoError(t, err)
	index.Add(0, old)
	for _, c := range []struct {
		id          codec.ID
		level, most int // MiB
	}{
		{codec.Raw, 0, 1}, {codec.Zlib, 9, 2}, {codec.Zstd, 3, 8}, {codec.ZstdPatch, 3, 16},
		{codec.Similar, 1, 24}, {codec.Similar, 7, 32}, {codec.Similar, 11, 100}, {codec.VCDIFF, 0, 20},
	} {
		got := held(func() any {
			e, err := codec.NewEncoder(c.id, codec.Options{Level: c.level, Similar: index})
			require.NoError(t, err)
			_, err = e.Encode(nil, content, 0, old)
			require.NoError(t, err)
			return e
		})
		t.Logf("%s %d: %.1f MiB", c.id, c.level, float64(got)/(1<<20))
		require.LessOrEqual(t, got, uint64(c.most)<<20, "%s at level %d", c.id, c.level)
	}
	workers := func(n int) uint64 {
		return held(func() any {
			kept := []any{}
			learned := codec.NewLearned()
			for range n {
				best, err := codec.NewBest(codec.BestOptions{Similar: index, Learned: learned})
				require.NoError(t, err)
				_, _, err = best.Encode(nil, content, 0, old)
				require.NoError(t, err)
				kept = append(kept, best, learned)
			}
			return kept
		})
	}
	one, two := workers(1), workers(2)
	t.Logf("best: %.1f MiB, and each more worker %.1f", float64(one)/(1<<20), float64(two-one)/(1<<20))
	require.LessOrEqual(t, two-one, uint64(30)<<20)
	require.LessOrEqual(t, one-(two-one), uint64(80)<<20, "what workers share")
}
