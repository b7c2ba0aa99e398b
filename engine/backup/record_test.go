// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/backup/storage"
	"zumastor.org/zumastor/engine/delta"
	"zumastor.org/zumastor/engine/delta/codec"
)

// addRecords adds a point whose delta has just these records.
func (h *history) addRecords(base string, size int, records []delta.Record) *Point {
	h.gen++
	from, err := h.r.point(h.t.Context(), base)
	require.NoError(h.t, err)
	_, l, err := h.r.Lock(h.t.Context(), "test", false)
	require.NoError(h.t, err)
	p := &Point{ID: "20260101t000000z-" + randomName(8), Base: base, Snapshot: h.end(size), ChunkSize: testChunk, Extent: 4 * testChunk, data: randomName(16), partSize: PartSize}
	out := h.r.newParts(h.t.Context(), p)
	w, err := delta.NewWriter(out, delta.Header{ChunkSize: testChunk, Extent: p.Extent, From: &from.Snapshot, To: p.Snapshot, Codecs: []codec.ID{codec.Raw, codec.Similar}})
	require.NoError(h.t, err)
	for i := range records {
		require.NoError(h.t, w.Write(&records[i]))
	}
	p.Delta, err = w.Close()
	require.NoError(h.t, err)
	require.NoError(h.t, out.close())
	require.NoError(h.t, h.r.publish(h.t.Context(), l, p))
	require.NoError(h.t, l.Close())
	return p
}

// TestRepeats: what is repeated may stand in a record, in the base, in the same window or
// in an earlier one.
func TestRepeats(t *testing.T) {
	h := newHistory(t, newRepository(t, storage.NewMemory(), nil), 31)
	h.id, h.size = codec.Raw, 16*testChunk
	h.last = make(content, h.size)
	for i := range h.last {
		h.last[i] = byte(h.rng.Uint32())
	}
	full, err := h.add("")
	require.NoError(t, err)
	want := bytes.Clone(h.states[full.ID])
	raw := func(text string) delta.Record {
		p := bytes.Repeat([]byte(text), testChunk)[:testChunk]
		copy(want, p)
		return delta.Record{Kind: delta.KindExtent, Codec: codec.Raw, Length: testChunk, Payload: p, Sum: delta.SumOf(p)}
	}
	before := h.addRecords(full.ID, len(want), []delta.Record{raw("before")})
	h.states[before.ID] = bytes.Clone(want)
	var records []delta.Record
	again := func(at, from int64) {
		p := want[from*testChunk : (from+1)*testChunk]
		records = append(records, delta.Record{Kind: delta.KindAgain, Offset: at * testChunk, Length: testChunk, Source: from * testChunk, Sum: delta.SumOf(p)})
		copy(want[at*testChunk:], p)
	}
	again(1, 0)  // of the base, in the same window
	again(6, 3)  // of the base, in an earlier window
	again(7, 1)  // of what is itself repeated
	again(13, 7) // and again
	again(14, 13)
	p := h.addRecords(before.ID, len(want), records)
	h.states[p.ID] = bytes.Clone(want)
	q := h.addRecords(p.ID, len(want), []delta.Record{raw("newer")}) // hides what the older one repeats
	h.states[q.ID] = want
	h.verify()
	h.check()
}

// TestNotForRepositories: records that look at other places of the base are refused, and
// so are repetitions without end.
func TestNotForRepositories(t *testing.T) {
	h := newHistory(t, newRepository(t, storage.NewMemory(), nil), 32)
	h.id, h.size = codec.Raw, 64*testChunk
	full, err := h.add("")
	require.NoError(t, err)
	old := h.states[full.ID]
	size := len(old)
	sum := delta.SumOf(old[:testChunk])
	first := delta.Record{Offset: testChunk, Length: testChunk, Sum: sum}
	copied, similar := first, first
	copied.Kind = delta.KindCopy
	similar.Kind, similar.Codec, similar.Payload = delta.KindExtent, codec.Similar, []byte{0}
	var chain []delta.Record
	for i := int64(1); i <= 10; i++ { // each in a window of its own
		chain = append(chain, delta.Record{Kind: delta.KindAgain, Offset: 4 * i * testChunk, Length: testChunk, Source: 4 * (i - 1) * testChunk, Sum: sum})
	}
	for want, records := range map[string][]delta.Record{
		"a record of copy": {copied}, "codec similar": {similar}, "repeated too often": chain,
	} {
		p := h.addRecords(full.ID, size, records)
		m, err := h.r.NewReader().Image(t.Context(), p.ID)
		require.NoError(t, err)
		last := records[len(records)-1]
		_, err = m.ReadAt(make([]byte, testChunk), last.Offset)
		require.ErrorContains(t, err, want)
	}
}
