// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/backup/seal"
	"zumastor.org/zumastor/engine/backup/storage"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/delta"
	"zumastor.org/zumastor/engine/delta/codec"
)

const testChunk = 4096

// content is content in memory.
type content []byte

func (c content) Size() int64 { return int64(len(c)) }

func (c content) ReadAt(p []byte, off int64) (int, error) { return bytes.NewReader(c).ReadAt(p, off) }

// mutate returns what a volume becomes by some writes, moves and perhaps a new size.
func mutate(rng *rand.Rand, old content, size int) content {
	p := make(content, size)
	copy(p, old)
	for range rng.IntN(25) {
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
		case 3:
			to := rng.IntN(size/testChunk) * testChunk
			copy(p[to:], bytes.Clone(p[off/testChunk*testChunk:][:min(n, size-off)]))
		case 4:
			p[off]++
		}
	}
	return p
}

// differing lists the chunks that differ, and a few that don't.
func differing(rng *rand.Rand, from, to content) (list []delta.Extent) {
	for off := 0; off < len(to); off += testChunk {
		end := min(off+testChunk, len(to))
		if end <= len(from) && bytes.Equal(from[off:end], to[off:end]) && rng.IntN(8) > 0 {
			continue
		}
		list = appendExtent(list, delta.Extent{Offset: int64(off), Length: int64(end - off)})
	}
	return list
}

// history is a volume whose states are added to a repository.
type history struct {
	t      testing.TB
	rng    *rand.Rand
	r      *Repository
	store  byte // names the volume
	size   int
	last   content
	states map[string]content // by point
	order  []string           // of the points, oldest first
	gen    block.Generation
	id     codec.ID // of deltas; zero: any
}

var testCodecs = []codec.ID{codec.Raw, codec.Zlib, codec.Zstd, codec.ZstdPatch, codec.Bsdiff, codec.VCDIFF}

func newHistory(t testing.TB, r *Repository, seed uint64) *history {
	rng := rand.New(rand.NewPCG(seed, 5))
	return &history{t: t, rng: rng, r: r, store: 1, size: (20 + rng.IntN(100)) * testChunk, states: map[string]content{}}
}

func (h *history) end(size int) delta.End {
	e := delta.End{Tag: block.Tag(h.gen), Name: fmt.Sprintf("s%d", h.gen), Size: int64(size),
		Created: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC).Add(time.Duration(h.gen) * 24 * time.Hour).UnixNano()}
	e.Store[0], e.Generation = h.store, h.gen
	return e
}

// add changes the volume and adds its state, as a delta from base, or in full.
func (h *history) add(base string) (*Point, error) {
	if h.rng.IntN(6) == 0 {
		h.size = (20+h.rng.IntN(100))*testChunk + h.rng.IntN(8)*512
	}
	next := mutate(h.rng, h.last, h.size)
	h.gen++
	id := h.id
	if id == 0 {
		id = testCodecs[h.rng.IntN(len(testCodecs))]
	}
	o := delta.EncodeOptions{Header: delta.Header{ChunkSize: testChunk, Extent: 16384 << h.rng.IntN(3), To: h.end(len(next))}, Workers: 2, Memory: 1}
	src := delta.Source{Target: next, Extents: []delta.Extent{{Length: int64(len(next))}}}
	if base != "" {
		p, err := h.r.point(h.t.Context(), base)
		if err != nil {
			return nil, err
		}
		from := p.Snapshot
		o.From, src.Base = &from, h.states[base]
		src.Extents = differing(h.rng, h.states[base], next)
	} else if id.NeedsBase() {
		id = codec.Zstd
	}
	o.Codecs = slices.Compact([]codec.ID{codec.Raw, id})
	o.Chooser = func() (codec.Chooser, error) { return codec.NewFixed(id, codec.Options{Extent: o.Extent}) }
	p, err := h.r.Add(h.t.Context(), base, src, o)
	if err != nil {
		return nil, err
	}
	h.last, h.states[p.ID] = next, next
	h.order = append(h.order, p.ID)
	return p, nil
}

// grow adds some states, mostly each from the one before.
func (h *history) grow(n int) {
	for range n {
		base := ""
		if len(h.order) > 0 && h.rng.IntN(8) > 0 {
			base = h.order[len(h.order)-1]
			if h.rng.IntN(6) == 0 {
				base = h.order[h.rng.IntN(len(h.order))]
			}
		}
		_, err := h.add(base)
		require.NoError(h.t, err)
	}
}

// verify compares each point that is listed with the state that it was made of.
func (h *history) verify() []string {
	points, bad, err := h.r.Points(h.t.Context())
	require.NoError(h.t, err)
	require.Empty(h.t, bad)
	reader := h.r.NewReader()
	var ids []string
	for _, p := range points {
		want, known := h.states[p.ID]
		require.True(h.t, known)
		m, err := reader.Image(h.t.Context(), p.ID)
		require.NoError(h.t, err)
		require.EqualValues(h.t, len(want), m.Size())
		got := make([]byte, len(want))
		_, err = m.ReadAt(got, 0)
		require.NoError(h.t, err, p.ID)
		require.True(h.t, bytes.Equal(want, got), p.ID)
		for range 10 {
			off := h.rng.IntN(len(want))
			n := 1 + h.rng.IntN(len(want)-off)
			_, err := m.ReadAt(got[:n], int64(off))
			require.NoError(h.t, err)
			require.True(h.t, bytes.Equal(want[off:off+n], got[:n]))
		}
		n, err := m.ReadAt(got, 100)
		require.ErrorIs(h.t, err, io.EOF)
		require.Equal(h.t, len(want)-100, n)
		ids = append(ids, p.ID)
	}
	return ids
}

// check has the repository checked, and requires that nothing is wrong.
func (h *history) check() *CheckResult {
	res, err := h.r.Check(h.t.Context(), CheckOptions{Data: true})
	require.NoError(h.t, err)
	require.Empty(h.t, res.Wrong)
	return res
}

func newRepository(t testing.TB, s storage.Storage, key *seal.Key) *Repository {
	require.NoError(t, Init(t.Context(), s, key))
	r, err := Open(t.Context(), s, key)
	require.NoError(t, err)
	return r
}

// seeds returns how many histories are tried.
func seeds(n uint64) uint64 {
	if testing.Short() {
		return (n + 1) / 2
	}
	return n
}

// TestAnyPoint: of random histories, with any codec, size and order, each point reads as
// the state that it was made of, byte for byte, from begin to end and anywhere.
func TestAnyPoint(t *testing.T) {
	for seed := range seeds(6) {
		var key *seal.Key
		if seed%2 == 1 {
			key = &seal.Key{byte(seed)}
		}
		h := newHistory(t, newRepository(t, storage.NewMemory(), key), seed)
		h.grow(10)
		require.Len(t, h.verify(), 10, "seed %d", seed)
		res := h.check()
		require.Zero(t, res.Garbage)
		require.Equal(t, 10, res.Points)
	}
}

// TestRestoreToFile: a file appears whole, or not.
func TestRestoreToFile(t *testing.T) {
	h := newHistory(t, newRepository(t, storage.NewMemory(), nil), 77)
	h.grow(4)
	m, err := h.r.NewReader().Image(t.Context(), h.order[3])
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "new")
	var last int64
	require.NoError(t, RestoreToFile(t.Context(), m, path, func(done, total int64) {
		require.Greater(t, done, last)
		last = done
		require.Equal(t, m.Size(), total)
	}))
	require.Equal(t, m.Size(), last)
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.True(t, bytes.Equal(h.states[h.order[3]], got))
	require.ErrorIs(t, RestoreToFile(t.Context(), m, path, nil), os.ErrExist)
}
