// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/delta/codec"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// sample is a small delta with a record of every kind.
func sample() (Header, []Record) {
	h := Header{
		ChunkSize: 4096, Extent: 64 << 10, Codecs: []codec.ID{codec.Raw, codec.Zstd},
		From: &End{Identity: Identity{Store: [16]byte{1, 2, 3}, Generation: 5}, Tag: 7, Name: "monday", Created: 11, Size: 1 << 20},
		To: End{Identity: Identity{Store: [16]byte{1, 2, 3}, Generation: 9}, Tag: 8, Created: 13, Size: 1<<20 + 4096 + 512,
			Algorithm: 1, Digest: [32]byte{17}},
	}
	text := []byte(strings.Repeat("some text ", 410)[:4096])
	part := func(off int64, b byte) Record {
		p := bytes.Repeat([]byte{b}, 4096)
		return Record{Kind: KindExtent, Codec: codec.Raw, Offset: off, Length: 4096, Sum: SumOf(p), Payload: p}
	}
	first := part(4096, 9)
	first.Base, first.HasBase = SumOf(make([]byte, 4096)), true
	return h, []Record{
		first,
		{Kind: KindZero, Offset: 8192, Length: 192 << 10},
		{Kind: KindCopy, Offset: 256 << 10, Length: 8192, Sum: SumOf(make([]byte, 8192)), Source: 4096},
		{Kind: KindAgain, Offset: 320 << 10, Length: 4096, Sum: SumOf(first.Payload), Source: 4096},
		{Kind: KindComposed, Offset: 384 << 10, Length: 12288, Parts: []Record{
			part(384<<10, 1), {Kind: KindZero, Offset: 388 << 10, Length: 8192}, part(388<<10, 2),
		}},
		{Kind: KindExtent, Codec: codec.Zstd, Offset: 1 << 20, Length: 4096, Sum: SumOf(text), Payload: zstd(text)},
		{Kind: KindZero, Offset: 1<<20 + 4096, Length: 512},
	}
}

func zstd(p []byte) []byte {
	e, err := codec.NewEncoder(codec.Zstd, codec.Options{})
	if err != nil {
		panic(err)
	}
	q, err := e.Encode(nil, p, 0, nil)
	if err != nil {
		panic(err)
	}
	return q
}

func encode(t testing.TB, h Header, records []Record) ([]byte, Summary) {
	var b bytes.Buffer
	w, err := NewWriter(&b, h)
	require.NoError(t, err)
	for i := range records {
		require.NoError(t, w.Write(&records[i]))
	}
	sum, err := w.Close()
	require.NoError(t, err)
	require.EqualValues(t, b.Len(), sum.Bytes)
	return b.Bytes(), sum
}

// readAll returns the records before the first error, and that unless it is io.EOF.
func readAll(p io.Reader) (h Header, records []Record, sum Summary, err error) {
	r, err := NewReader(p)
	if err != nil {
		return h, nil, sum, err
	}
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			return r.Header(), records, r.Summary(), nil
		}
		if err != nil {
			return r.Header(), records, sum, err
		}
		c := *rec
		c.Payload = bytes.Clone(rec.Payload)
		c.Parts = nil
		for _, part := range rec.Parts {
			part.Payload = bytes.Clone(part.Payload)
			c.Parts = append(c.Parts, part)
		}
		records = append(records, c)
	}
}

// TestGolden: what this version writes is what the file has that an earlier one wrote.
func TestGolden(t *testing.T) {
	h, records := sample()
	p, _ := encode(t, h, records)
	path := filepath.Join("testdata", "version1.delta")
	if *rewrite {
		require.NoError(t, os.WriteFile(path, p, 0o644))
	}
	golden, err := os.ReadFile(path)
	require.NoError(t, err)
	gotHeader, got, sum, err := readAll(bytes.NewReader(golden))
	require.NoError(t, err)
	require.Equal(t, h, gotHeader)
	require.Len(t, got, len(records))
	for i := range got {
		require.Equal(t, records[i].Kind, got[i].Kind)
		require.Equal(t, records[i].Sum, got[i].Sum)
		require.Equal(t, records[i].Offset, got[i].Offset)
		require.Len(t, got[i].Parts, len(records[i].Parts))
	}
	require.EqualValues(t, len(records), sum.Records)
	require.EqualValues(t, len(golden), sum.Bytes)
	again, _ := encode(t, gotHeader, got)
	require.Equal(t, golden, again, "what was read is written as it was")
	rep, err := Inspect(t.Context(), bytes.NewReader(golden), true)
	require.NoError(t, err)
	require.EqualValues(t, 8192, rep.Decoded)
	require.EqualValues(t, 192<<10+512, rep.Kinds[KindZero].Content)
}

// step goes over all of a delta's begin and end, and over some of the rest.
func step(at, size int) int {
	if at < 600 || at > size-900 {
		return 1
	}
	return 13
}

// TestCuts: a delta that ends anywhere before its end is known to.
func TestCuts(t *testing.T) {
	h, records := sample()
	p, _ := encode(t, h, records)
	for n := 0; n < len(p); n += step(n, len(p)) {
		_, _, _, err := readAll(bytes.NewReader(p[:n]))
		require.ErrorIs(t, err, ErrCut, "cut after %d bytes", n)
	}
}

// TestDamage: no byte of a delta can be another unnoticed.
func TestDamage(t *testing.T) {
	h, records := sample()
	p, _ := encode(t, h, records)
	for i := 0; i < len(p); i += step(i, len(p)) {
		p[i] ^= 0x55
		_, _, _, err := readAll(bytes.NewReader(p))
		require.Error(t, err, "byte %d", i)
		require.True(t, errors.Is(err, ErrCorrupt) || errors.Is(err, ErrVersion) || errors.Is(err, ErrCut), "byte %d: %v", i, err)
		p[i] ^= 0x55
	}
}

func TestLaterVersions(t *testing.T) {
	h, records := sample()
	p, _ := encode(t, h, records)
	p[8] = 2
	_, _, _, err := readAll(bytes.NewReader(p))
	require.ErrorIs(t, err, ErrVersion)
	require.ErrorContains(t, err, "format 2")

	r := records[0]
	for name, change := range map[string]func([]byte){
		"kind 9": func(p []byte) { p[0] = 9 },
		"flags":  func(p []byte) { p[1] |= 4 },
	} {
		head := h.append(nil)
		q := r.append(nil, 0)
		change(q)
		binary.LittleEndian.PutUint32(q[recordSize-4:], partsCRC(q[:recordSize], q[recordSize:]))
		_, _, _, err := readAll(bytes.NewReader(append(head, q...)))
		require.ErrorIs(t, err, ErrVersion)
		require.ErrorContains(t, err, name)
	}
}

func TestWriterRefuses(t *testing.T) {
	h, records := sample()
	tests := map[string]func(*Record){
		"beyond the volume":              func(r *Record) { r.Offset = h.To.Size },
		"beyond the volume ":             func(r *Record) { r.Length = math.MaxInt64 },
		"not of whole chunks":            func(r *Record) { r.Offset = 512 },
		"not of whole chunks ":           func(r *Record) { r.Length = 512 },
		"crosses the bound":              func(r *Record) { r.Length = 64 << 10 },
		"is not one of the header's":     func(r *Record) { r.Codec = codec.VCDIFF },
		"no record of content":           func(r *Record) { r.Kind = KindEnd },
		"no record of content ":          func(r *Record) { r.Kind = 0 },
		"its source is beyond the base":  func(r *Record) { r.Kind, r.Codec, r.Source = KindCopy, 0, 1<<20 },
		"its source is beyond the base ": func(r *Record) { r.Kind, r.Codec, r.Source = KindCopy, 0, math.MaxInt64 },
		"does not stand before it":       func(r *Record) { r.Kind, r.Codec, r.Source = KindAgain, 0, 4096 },
		"there is no base at its place":  func(r *Record) { r.Offset = 1 << 20 },
		"it has a sum":                   func(r *Record) { r.Kind, r.Codec = KindZero, 0 },
	}
	for want, change := range tests {
		t.Run(want, func(t *testing.T) {
			w, err := NewWriter(io.Discard, h)
			require.NoError(t, err)
			r := records[0]
			change(&r)
			require.ErrorContains(t, w.Write(&r), strings.TrimSpace(want))
		})
	}
	w, err := NewWriter(io.Discard, h)
	require.NoError(t, err)
	require.NoError(t, w.Write(&records[1]))
	require.ErrorContains(t, w.Write(&records[0]), "follows one")
	_, err = w.Close()
	require.ErrorContains(t, err, "beyond the base", "what the base has not must be said")
	h.Extent = 96 << 10
	_, err = NewWriter(io.Discard, h)
	require.Error(t, err)
}

// TestIndexIsBounded: however many records there are, the index has room for them.
func TestIndexIsBounded(t *testing.T) {
	var x index
	for i := range int64(5 * maxIndex) {
		x.add(i, i)
		require.LessOrEqual(t, len(x.entries), maxIndex)
	}
	require.Equal(t, 8, x.stride)
	for i, e := range x.entries {
		require.EqualValues(t, i*x.stride, e.offset)
	}
}

// FuzzReader: any bytes are a delta or an error, and cost no more memory than their
// header lets them.
func FuzzReader(f *testing.F) {
	h, records := sample()
	p, _ := encode(f, h, records)
	f.Add(p)
	f.Add(p[:200])
	for i := range records {
		f.Add(records[i].append(nil, 0))
	}
	head := h.append(nil)
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) >= recordSize && string(p[:8]) != Magic { // a record, to which the checksum is made to fit
			p = bytes.Clone(p)
			binary.LittleEndian.PutUint32(p[4:], uint32(len(p)-recordSize))
			binary.LittleEndian.PutUint32(p[recordSize-4:], partsCRC(p[:recordSize], p[recordSize:]))
			p = append(bytes.Clone(head), p...)
		}
		r, err := NewReader(bytes.NewReader(p))
		if err != nil {
			return
		}
		d := newDecoder(r.Header())
		for {
			rec, err := r.Next()
			if err != nil {
				break
			}
			require.LessOrEqual(t, rec.end(), r.header.To.Size)
			require.LessOrEqual(t, r.buf.Cap(), 4*len(p)+(64<<10), "memory grows with what did come only")
			if rec.Kind != KindZero {
				_ = d.content(make([]byte, rec.Length), rec, nothing{}, nothing{})
			}
		}
	})
}

// nothing is content that cannot be read.
type nothing struct{}

func (nothing) Size() int64                       { return 0 }
func (nothing) ReadAt([]byte, int64) (int, error) { return 0, fmt.Errorf("nothing to read") }
