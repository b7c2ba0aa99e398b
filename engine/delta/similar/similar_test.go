// SPDX-License-Identifier: Apache-2.0

package similar

import (
	"encoding/binary"
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/delta/corpus"
)

// encode codes content with all of the base indexed, and checks that it decodes.
func encode(t *testing.T, content []byte, offset int64, base corpus.Memory) []byte {
	x, err := NewIndex(0, base.Size())
	require.NoError(t, err)
	x.Add(0, base)
	e, err := NewEncoder(0, len(content), x)
	require.NoError(t, err)
	payload, ok, err := e.Encode(nil, content, offset, base)
	require.NoError(t, err)
	require.True(t, ok)
	d, err := NewDecoder()
	require.NoError(t, err)
	dst := make([]byte, len(content))
	require.NoError(t, d.Decode(dst, payload, offset, base))
	require.Equal(t, content, dst)
	return payload
}

// TestMoved shows that what stands anywhere in the base costs next to nothing,
// aligned or not, in one piece or many.
func TestMoved(t *testing.T) {
	base := corpus.Memory(corpus.Random(1, 4<<20))
	require.Less(t, len(encode(t, base[3<<20:4<<20], 0, base)), 20, "aligned")
	require.Less(t, len(encode(t, base[2<<20+777:3<<20+777], 1<<20, base)), 40, "not aligned")
	var shuffled []byte
	for i := range 64 {
		shuffled = append(shuffled, base[(i*37)%64<<16:][:16384]...)
	}
	require.Less(t, len(encode(t, shuffled, 1<<20, base)), 64*12, "in 64 pieces")
}

// TestEdited shows that what was changed here and there costs little more than
// the changes, wherever it is from.
func TestEdited(t *testing.T) {
	base := corpus.Memory(corpus.Random(1, 4<<20))
	edited := corpus.Edited(1, base[1<<20:2<<20]) // some 1500 bytes of change
	require.Less(t, len(encode(t, edited, 1<<20, base)), 8000, "at the same place")
	require.Less(t, len(encode(t, edited, 3<<20, base)), 8000, "elsewhere")
}

// TestSparseIndex shows that an index of few samples finds most.
func TestSparseIndex(t *testing.T) {
	base := corpus.Memory(corpus.Random(1, 8<<20))
	x, err := NewIndex(MinMemory, 1<<40)
	require.NoError(t, err)
	x.Add(0, base)
	require.Greater(t, x.rate, uint(densest+4))
	e, err := NewEncoder(0, 1<<20, x)
	require.NoError(t, err)
	payload, ok, err := e.Encode(nil, corpus.Edited(1, base[5<<20:6<<20]), 0, base)
	require.NoError(t, err)
	require.True(t, ok)
	require.Less(t, len(payload), 1<<18)
}

// golden is a payload of the first version: what was coded stays readable.
const golden = "02030d002940d807970ff8078240000028b52ffd040025020022430b12b0c700ec7c8cfaad31348b26458663cfda09005560c29019d5cc75f01e71eee18fdc2ff21eeacd177439a12306003ddb690f03081184460801cced2984ae3506e36a4e9c"

func goldenCase() (content []byte, offset int64, base corpus.Memory) {
	base = corpus.Text(1, 16384)
	content = append([]byte{}, base[8192:12288]...)
	copy(content[1000:], "forty bytes of text that the base has not")
	copy(content[3000:], base[100:164])
	return content, 4096, base
}

func TestGolden(t *testing.T) {
	content, offset, base := goldenCase()
	payload, err := hex.DecodeString(golden)
	require.NoError(t, err)
	d, err := NewDecoder()
	require.NoError(t, err)
	dst := make([]byte, len(content))
	require.NoError(t, d.Decode(dst, payload, offset, base), "now it is %x", encode(t, content, offset, base))
	require.Equal(t, content, dst)
}

// TestHostile gives the decoder payloads that ask for what is not there.
func TestHostile(t *testing.T) {
	base := corpus.Memory(corpus.Text(1, 8192))
	d, err := NewDecoder()
	require.NoError(t, err)
	numbers := func(flags byte, v ...uint64) []byte {
		out := []byte{flags}
		for _, n := range v {
			out = binary.AppendUvarint(out, n)
		}
		return out
	}
	zigzag := func(d int64) uint64 { return uint64(d<<1^d>>63) + 2 }
	const huge = 1<<64 - 1
	for _, c := range []struct {
		name, want string
		payload    []byte
	}{
		{"empty", "no bytes", nil},
		{"flags", "flags 0x80", numbers(0x80, 0, 0)},
		{"cut", "cut short", numbers(0, 1)},
		{"endless number", "cut short", []byte{0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
		{"many copies", "copies in", numbers(0, 1<<40, 3, 0, 0, 0)},
		{"huge instructions", "cut short", numbers(0, 1, huge, 0)},
		{"huge unpacked", "copies in", numbers(1, 1, 1, huge, 0)},
		{"packed nothing", "no copies", numbers(1, 0, 0, 0)},
		{"no frame", "instructions", numbers(1, 1, 3, 3, 1, 2, 3)},
		{"gap", "gaps", numbers(0, 1, 5, 4097, 0, 0, 0)},
		{"huge gap", "copies in", numbers(0, 1, 2, huge, 0, 0)},
		{"long copy", "copy of 5000", numbers(0, 1, 4, 0, 5000, 0)},
		{"copies too long", "copy of", numbers(0, 2, 8, 0, 0, 4000, 4000, 0, 0)},
		{"before the base", "copy of 16 bytes at -1", numbers(0, 1, 3, 0, 0, zigzag(-1))},
		{"after the base", "from a base of 8192", numbers(0, 1, 4, 0, 0, zigzag(8177))},
		{"far after the base", "from a base of 8192", numbers(0, 1, 12, 0, 0, zigzag(1<<62))},
		{"more instructions", "after the instructions", numbers(0, 1, 4, 0, 0, 0, 0)},
		{"short rest", "a rest of 2 bytes for 4096", append(numbers(0, 0, 0), 1, 2)},
		{"packed rest", "the rest", append(numbers(2, 0, 0), 1, 2)},
		{"packed rest of nothing", "of nothing", append(numbers(2, 1, 4, 0, 4080, 0), 1, 2)},
	} {
		err := d.Decode(make([]byte, 4096), c.payload, 0, base)
		require.ErrorIs(t, err, ErrCorrupt, c.name)
		require.ErrorContains(t, err, c.want, c.name)
	}
}

func TestMerge(t *testing.T) {
	require.Equal(t, []span{{0, 9}, {10, 12}}, merge([]span{{10, 12}, {4, 9}, {0, 4}, {5, 6}}))
	require.Empty(t, merge(nil))
}

// TestDictionaryBound holds the dictionary to its size and to the base.
func TestDictionaryBound(t *testing.T) {
	var copies []copyOp
	const n = 1 << 20
	for at := 16; at+32 <= n; at += 32 {
		copies = append(copies, copyOp{at, 16, int64(at) * 7})
	}
	total := 0
	for _, s := range dictionary(copies, n, 1<<20, 6<<20) {
		require.True(t, 0 <= s.from && s.from < s.to && s.to <= 6<<20)
		total += int(s.to - s.from)
	}
	require.LessOrEqual(t, total, maxDictionary(n))
	require.Equal(t, []span{{0, 100}}, dictionary(nil, 50, 0, 100))
	require.Empty(t, dictionary(nil, 50, 500, 100))
}

// FuzzDecode decodes any bytes.
func FuzzDecode(f *testing.F) {
	content, offset, base := goldenCase()
	e, err := NewEncoder(0, len(content), nil)
	require.NoError(f, err)
	payload, _, err := e.Encode(nil, content, offset, base)
	require.NoError(f, err)
	f.Add(payload)
	f.Add([]byte{0, 1, 3, 0, 0, 0})
	d, err := NewDecoder()
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, payload []byte) {
		if err := d.Decode(make([]byte, len(content)), payload, offset, base); err != nil {
			require.ErrorIs(t, err, ErrCorrupt)
		}
	})
}

// FuzzEncode codes any content against any base.
func FuzzEncode(f *testing.F) {
	f.Add([]byte("content that may be like the base content that may"), []byte("base that may be like the content of it"), uint16(3))
	f.Add(corpus.Edited(1, corpus.Text(1, 3000)), corpus.Text(1, 4000), uint16(0))
	e, err := NewEncoder(0, 1<<16, nil)
	require.NoError(f, err)
	d, err := NewDecoder()
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, content, base []byte, offset uint16) {
		if len(content) == 0 || len(content) > 1<<16 {
			return
		}
		x, err := NewIndex(MinMemory, 0)
		require.NoError(t, err)
		x.rate = densest
		x.Add(0, base)
		e.index = x
		payload, ok, err := e.Encode(nil, content, int64(offset), corpus.Memory(base))
		require.NoError(t, err)
		if !ok {
			return
		}
		dst := make([]byte, len(content))
		require.NoError(t, d.Decode(dst, payload, int64(offset), corpus.Memory(base)))
		require.Equal(t, content, dst)
	})
}

// TestRecode shows that an extent's rest, coded again by a stronger encoder, decodes to the
// same, and that what was not given to Encode, or has no rest, is not recoded.
func TestRecode(t *testing.T) {
	base := corpus.Memory(corpus.Text(1, 2<<20))
	content := append(corpus.Edited(1, base[1<<20:1<<20+128<<10]), corpus.Text(2, 64<<10)...)
	e, err := NewEncoder(1, len(content), nil)
	require.NoError(t, err)
	rest, err := NewRest(7, len(content))
	require.NoError(t, err)
	recode := func() ([]byte, bool) {
		out, ok, err := e.Recode([]byte("before"), rest)
		require.NoError(t, err)
		require.Equal(t, "before", string(out[:6]))
		return out[6:], ok
	}
	_, ok := recode()
	require.False(t, ok, "nothing was coded")
	first, ok, err := e.Encode(nil, content, 1<<20, base)
	require.NoError(t, err)
	require.True(t, ok)
	again, ok := recode()
	require.True(t, ok)
	require.Less(t, len(again), len(first))
	d, err := NewDecoder()
	require.NoError(t, err)
	dst := make([]byte, len(content))
	require.NoError(t, d.Decode(dst, again, 1<<20, base))
	require.Equal(t, content, dst)
	_, ok, err = e.Encode(nil, base[:64<<10], 0, base)
	require.NoError(t, err)
	require.True(t, ok)
	out, ok := recode()
	require.False(t, ok, "no rest")
	require.Empty(t, out)
}
