// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/delta/codec"
)

// eachRecord reads the records of a range.
func eachRecord(x *Indexed, off, end int64, each func(*Record) error) error {
	places, err := x.Places(off, end)
	for _, p := range places {
		r, err := x.Read(p)
		if err == nil {
			err = each(r)
		}
		if err != nil {
			return err
		}
	}
	return err
}

// TestIndexedFindsAll: for any range, the index finds the records that reading the whole
// finds, and the decoder makes the newer state of them.
func TestIndexedFindsAll(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 9))
		a := mutate(rng, nil, 150*propertyChunk)
		b := mutate(rng, mutate(rng, a, 150*propertyChunk), 160*propertyChunk)
		if seed%4 == 0 {
			a = nil
		}
		list := changed(rng, a, b)
		coded, sum := create(t, headerOf(a, b), a, b, list, codec.ZstdPatch, 2)
		_, records, _, err := readAll(bytes.NewReader(coded))
		require.NoError(t, err)
		x, err := OpenIndexed(bytes.NewReader(coded), int64(len(coded)))
		require.NoError(t, err)
		require.Equal(t, sum, x.Summary())
		for range 100 {
			off := rng.Int64N(int64(len(b)))
			end := off + 1 + rng.Int64N(int64(len(b))-off)
			var want, got []Record
			for _, r := range records {
				if r.end() > off && r.Offset < end {
					want = append(want, r)
				}
			}
			require.NoError(t, eachRecord(x, off, end, func(r *Record) error {
				got = append(got, *r)
				return nil
			}))
			require.Equal(t, len(want), len(got), "seed %d: [%d, %d)", seed, off, end)
			for i := range want {
				require.Equal(t, want[i].Offset, got[i].Offset)
				require.Equal(t, want[i].Sum, got[i].Sum)
			}
		}
		made := make([]byte, len(b))
		copy(made, a)
		d := NewDecoder(x.header.Extent)
		var base Content
		if a != nil {
			base = &memory{p: a}
		}
		require.NoError(t, eachRecord(x, 0, int64(len(b)), func(r *Record) error {
			return d.Content(made[r.Offset:r.end()], &x.header, r, base, bytes.NewReader(made))
		}))
		require.True(t, bytes.Equal(b, made))
	}
}

// TestIndexedSparse: where the index has not every record, those between are found.
func TestIndexedSparse(t *testing.T) {
	const chunk, n = 4096, maxIndex + 5000
	h := Header{ChunkSize: chunk, Extent: chunk, Codecs: []codec.ID{codec.Raw},
		From: &End{Identity: Identity{Generation: 1}, Size: 2 * n * chunk}, To: End{Identity: Identity{Generation: 2}, Size: 2 * n * chunk}}
	var b bytes.Buffer
	w, err := NewWriter(&b, h)
	require.NoError(t, err)
	for i := range int64(n) {
		require.NoError(t, w.Write(&Record{Kind: KindZero, Offset: 2 * i * chunk, Length: chunk}))
	}
	_, err = w.Close()
	require.NoError(t, err)
	x, err := OpenIndexed(bytes.NewReader(b.Bytes()), int64(b.Len()))
	require.NoError(t, err)
	require.Less(t, x.entries, n)
	require.LessOrEqual(t, len(x.kept)*16, 16<<10)
	for _, i := range []int64{0, 1, 2, 63, 64, 65, 127, 128, 129, 4097, n - 2, n - 1} {
		var got []int64
		require.NoError(t, eachRecord(x, 2*i*chunk, 2*i*chunk+2*chunk, func(r *Record) error {
			got = append(got, r.Offset)
			return nil
		}))
		require.Equal(t, []int64{2 * i * chunk}, got)
		require.NoError(t, eachRecord(x, 2*i*chunk+chunk, 2*i*chunk+2*chunk, func(*Record) error {
			t.Error("there is none between")
			return nil
		}))
	}
}

func TestIndexedDamage(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 9))
	a := mutate(rng, nil, 50*propertyChunk)
	coded, _ := create(t, headerOf(nil, a), nil, a, []Extent{{0, int64(len(a))}}, codec.Zstd, 2)
	for n := 0; n < len(coded); n += 1 + n/5 {
		_, err := OpenIndexed(bytes.NewReader(coded[:n]), int64(n))
		require.Error(t, err, "%d bytes", n)
	}
	_, records, _, err := readAll(bytes.NewReader(coded))
	require.NoError(t, err)
	for at := range coded {
		bad := bytes.Clone(coded)
		bad[at] ^= 1
		x, err := OpenIndexed(bytes.NewReader(bad), int64(len(bad)))
		if err != nil {
			continue
		}
		_ = eachRecord(x, 0, int64(len(a)), func(r *Record) error {
			require.True(t, slices.ContainsFunc(records, func(w Record) bool {
				return w.Offset == r.Offset && w.Sum == r.Sum && bytes.Equal(w.Payload, r.Payload)
			}), "byte %d: what is returned was written", at)
			return nil
		})
	}
}

func FuzzIndexed(f *testing.F) {
	a := bytes.Repeat([]byte("x"), 8*propertyChunk)
	coded, _ := create(f, headerOf(nil, a), nil, a, []Extent{{0, int64(len(a))}}, codec.Zstd, 1)
	f.Add(coded)
	f.Fuzz(func(t *testing.T, p []byte) {
		x, err := OpenIndexed(bytes.NewReader(p), int64(len(p)))
		if err != nil {
			return
		}
		_ = eachRecord(x, 0, x.header.To.Size, func(*Record) error { return nil })
	})
}
