// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/backup/storage"
	"zumastor.org/zumastor/engine/delta"
	"zumastor.org/zumastor/engine/delta/codec"
)

// generated is a large content that takes no memory: its 8-byte words count on from a
// number of their chunk and state.
type generated struct {
	size  int64
	state uint64
}

func (g generated) Size() int64 { return g.size }

func (g generated) ReadAt(p []byte, off int64) (int, error) {
	for i := 0; i+8 <= len(p); i += 8 {
		at := uint64(off) + uint64(i)
		word := at*0x9e3779b97f4a7c15 + 1
		if at/testChunk%7 < g.state { // more chunks in each state
			word += g.state * 0xd1342543de82ef95
		}
		binary.LittleEndian.PutUint64(p[i:], word)
	}
	return len(p), nil
}

// TestMemory: reading anywhere in a chain, by many at a time, keeps to what is promised,
// though the volume is larger.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("it reads much")
	}
	const size, levels, promised = 160 << 20, 4, (72 + 4 + 96) << 20
	d, err := storage.OpenDir(t.TempDir())
	require.NoError(t, err)
	h := &history{t: t, r: newRepository(t, d, nil), store: 1}
	base := ""
	for state := range uint64(levels) {
		h.gen++
		id, level := codec.Raw, 0
		src := delta.Source{Target: generated{size, state}, Extents: []delta.Extent{{Length: size}}}
		o := delta.EncodeOptions{Header: delta.Header{ChunkSize: testChunk, Extent: 1 << 20, To: h.end(size)}}
		if base != "" {
			p, err := h.r.point(t.Context(), base)
			require.NoError(t, err)
			o.From, src.Base, id, level = &p.Snapshot, generated{size, state - 1}, codec.ZstdPatch, 1
			src.Extents = []delta.Extent{{Offset: int64(state) << 20, Length: 40 << 20}}
		}
		o.Codecs = []codec.ID{codec.Raw, codec.ZstdPatch}
		o.Chooser = func() (codec.Chooser, error) {
			return codec.NewFixed(id, codec.Options{Level: level, Extent: o.Extent})
		}
		p, err := h.r.Add(t.Context(), base, src, o)
		require.NoError(t, err)
		base = p.ID
	}
	before := live()
	m, err := h.r.NewReader().Image(t.Context(), base)
	require.NoError(t, err)
	var all sync.WaitGroup
	for i := range uint64(8) {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(i, 1))
			p := make([]byte, 64<<10)
			for range 60 {
				_, err := m.ReadAt(p, rng.Int64N(size-int64(len(p))))
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	used := live() - before
	runtime.KeepAlive(m)
	t.Logf("%d MiB", used>>20)
	require.Greater(t, used, int64(windowRoom), "the caches are full")
	require.Less(t, used, int64(promised))
}

// live returns how many bytes are in use.
func live() int64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}
