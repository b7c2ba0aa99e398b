// SPDX-License-Identifier: Apache-2.0

package trace_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"zumastor.org/zumastor/workloads"
	"zumastor.org/zumastor/workloads/gen"
	"zumastor.org/zumastor/workloads/trace"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var header = trace.Header{Name: "sample", Description: "made by hand\n", Size: 1 << 30, BlockSize: 4096}

func sample() *trace.Trace {
	return &trace.Trace{
		Header: header,
		Ops: []workloads.Op{
			{Kind: workloads.Write, Off: 1 << 20, Len: 8192},
			{Kind: workloads.Write, Off: 1<<20 + 8192, Len: 8192, Gap: 3 * time.Millisecond}, // follows, same length
			{Kind: workloads.Flush, Gap: time.Microsecond},
			{Kind: workloads.Write, Off: 512, Len: 512, FUA: true},
			{Kind: workloads.Discard, Off: 0, Len: 1 << 30},
			{Kind: workloads.Zero, Off: 4096, Len: 4096, FUA: true},
			{Kind: workloads.Read, Off: 1<<30 - 512, Len: 512},
		},
		Marks: []trace.Mark{{Name: "begin", At: 0}, {Name: "middle", At: 3}, {Name: "none", At: 3}, {Name: "end", At: 7}},
	}
}

func encode(t testing.TB, tr *trace.Trace) []byte {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, tr.Write(&b))
	return b.Bytes()
}

func TestRoundTrip(t *testing.T) {
	got, err := trace.Read(bytes.NewReader(encode(t, sample())))
	require.NoError(t, err)
	require.Equal(t, sample(), got)
}

func TestRoundTripOfManyFrames(t *testing.T) {
	want := &trace.Trace{Header: header}
	s, err := gen.New(gen.Spec{Pattern: gen.Random, Range: 1 << 30, Block: 4096, Count: 200000, Reads: 0.3, SyncEvery: 100})
	require.NoError(t, err)
	for op, ok := s.Next(); ok; op, ok = s.Next() {
		op.Gap = time.Duration(len(want.Ops)%1000) * time.Microsecond
		want.Ops = append(want.Ops, op)
		if len(want.Ops)%1000 == 0 {
			want.Marks = append(want.Marks, trace.Mark{Name: fmt.Sprint(len(want.Ops)), At: len(want.Ops)})
		}
	}
	b := encode(t, want)
	require.Greater(t, len(b), 600<<10)
	got, err := trace.Read(bytes.NewReader(b))
	require.NoError(t, err)
	require.Len(t, got.Ops, len(want.Ops))
	require.True(t, slices.Equal(want.Ops, got.Ops))
	require.Equal(t, want.Marks, got.Marks)
}

// TestGoldenBytes pins the format: a file written today must be read for ever.
func TestGoldenBytes(t *testing.T) {
	path := filepath.Join("testdata", "sample.trace")
	if os.Getenv("REWRITE") != "" {
		require.NoError(t, os.WriteFile(path, encode(t, sample()), 0o644))
	}
	got, err := trace.Open(path)
	require.NoError(t, err)
	require.Equal(t, sample(), got)
}

func TestPhases(t *testing.T) {
	tr := sample()
	phases := tr.Phases()
	require.Equal(t, []string{"begin", "middle", "none", "end"}, []string{phases[0].Name, phases[1].Name, phases[2].Name, phases[3].Name})
	require.Equal(t, tr.Ops[:3], phases[0].Ops)
	require.Empty(t, phases[1].Ops)
	require.Equal(t, tr.Ops[3:], phases[2].Ops)
	require.Empty(t, phases[3].Ops)

	tr.Marks = []trace.Mark{{Name: "late", At: 5}}
	phases = tr.Phases()
	require.Len(t, phases, 2)
	require.Equal(t, trace.Phase{Ops: tr.Ops[:5]}, phases[0])
	tr.Ops, tr.Marks = nil, nil
	require.Empty(t, tr.Phases())
}

func TestDumpReadsBackAsText(t *testing.T) {
	var b strings.Builder
	require.NoError(t, sample().Dump(&b))
	require.Contains(t, b.String(), "# trace sample of a device of 1073741824 bytes in blocks of 4096\n# made by hand\n# mark \"begin\"\nwrite 1048576+8192\n")
	var ops []workloads.Op
	s := workloads.NewScanner(strings.NewReader(b.String()))
	for op, ok := s.Next(); ok; op, ok = s.Next() {
		ops = append(ops, op)
	}
	require.NoError(t, s.Err())
	require.Equal(t, sample().Ops, ops)
}

func TestStat(t *testing.T) {
	in, err := trace.Stat(sample().Stream())
	require.NoError(t, err)
	require.Equal(t, [workloads.Kinds]int64{1, 3, 1, 1, 1}, in.Ops)
	require.Equal(t, [workloads.Kinds]int64{512, 16896, 0, 1 << 30, 4096}, in.Bytes)
	require.Equal(t, int64(2), in.FUA)
	require.Equal(t, int64(16896), in.Footprint)
	require.Equal(t, int64(1<<30), in.End)
	require.InDelta(t, 1.0/3, in.Sequential, 1e-9)
	require.Equal(t, int64(2), in.WriteSizes[13])
	require.Equal(t, int64(1), in.WriteSizes[9])
	require.Equal(t, 3*time.Millisecond+time.Microsecond, in.Span)

	in, err = trace.Stat(workloads.NewSlice([]workloads.Op{
		{Kind: workloads.Write, Off: 0, Len: 4096}, {Kind: workloads.Write, Off: 2048, Len: 4096},
	}))
	require.NoError(t, err)
	require.Equal(t, int64(6144), in.Footprint)
	require.InDelta(t, 0.25, in.Rewritten, 1e-9)
	var b strings.Builder
	require.NoError(t, in.WriteText(&b))
	require.Contains(t, b.String(), "rewritten    25.0 % of bytes\n")
}

func TestEveryTruncationAndBitFlipIsFound(t *testing.T) {
	whole := encode(t, sample())
	for n := range whole {
		_, err := trace.Read(bytes.NewReader(whole[:n]))
		require.ErrorIs(t, err, trace.ErrCorrupt, "cut at %d", n)
	}
	for bit := range 8 * len(whole) {
		b := bytes.Clone(whole)
		b[bit/8] ^= 1 << (bit % 8)
		_, err := trace.Read(bytes.NewReader(b))
		require.ErrorIs(t, err, trace.ErrCorrupt, "bit %d of byte %d", bit%8, bit/8)
	}
	_, err := trace.Read(bytes.NewReader(append(whole, 0)))
	require.ErrorIs(t, err, trace.ErrCorrupt)
}

// frames builds a file with a good header and the given frames, each with a
// proper checksum.
func frames(t testing.TB, payloads ...[]byte) []byte {
	t.Helper()
	b := encode(t, &trace.Trace{Header: header})
	b = b[:len(b)-16] // without the end frame
	for _, p := range payloads {
		b = append(b, binary.LittleEndian.AppendUint32(p, crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)))...)
	}
	return b
}

func frame(raw []byte, announced, records uint32) []byte {
	z, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	defer z.Close()
	c := z.EncodeAll(raw, nil)
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(c)))
	b = binary.LittleEndian.AppendUint32(b, announced)
	return append(binary.LittleEndian.AppendUint32(b, records), c...)
}

func TestHostileFrames(t *testing.T) {
	end := make([]byte, 12)
	huge := binary.AppendUvarint(nil, 1<<63)
	for name, payloads := range map[string][][]byte{
		"decompression bomb":     {frame(make([]byte, 16<<20), 1<<20, 1)},
		"false length":           {frame([]byte{2, 2}, 3, 2)},
		"no records":             {frame([]byte{2, 2}, 2, 0), end},
		"too few records":        {frame([]byte{2, 2}, 2, 1), end},
		"too many records":       {frame([]byte{7, 2, 'a', 'b'}, 4, 2), end},
		"more records than told": {frame([]byte{2}, 1, 1), end},
		"announced huge":         {binary.LittleEndian.AppendUint64(nil, 0xffffffffffffffff)},
		"not zstd":               {append(binary.LittleEndian.AppendUint32(nil, 3), 1, 0, 0, 0, 1, 0, 0, 0, 'a', 'b', 'c')},
		"unknown kind":           {frame([]byte{5}, 1, 1), end},
		"reserved bit":           {frame([]byte{0x82}, 1, 1), end},
		"flush with a range":     {frame([]byte{2 | 1<<5}, 1, 1), end},
		"flush with fua":         {frame([]byte{2 | 1<<3}, 1, 1), end},
		"mark with flags":        {frame([]byte{7 | 1<<3, 1, 'a'}, 3, 1), end},
		"mark without name":      {frame([]byte{7, 0}, 2, 1), end},
		"write of nothing":       {frame([]byte{1 | 1<<5 | 1<<6}, 1, 1), end},
		"huge length":            {frame(append([]byte{1 | 1<<5}, huge...), 11, 1), end},
		"negative offset":        {frame([]byte{1, 1, 8}, 3, 1), end},
		"endless gap":            {frame(append([]byte{2 | 1<<4}, huge...), 11, 1), end},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := trace.Read(bytes.NewReader(frames(t, payloads...)))
			require.ErrorIs(t, err, trace.ErrCorrupt)
		})
	}
	good := frames(t, frame([]byte{2, 7, 1, 'm'}, 4, 2), append(make([]byte, 8), 2, 0, 0, 0))
	tr, err := trace.Read(bytes.NewReader(good))
	require.NoError(t, err, "the way these are built is right")
	require.Len(t, tr.Ops, 1)
}

func TestWriterRefuses(t *testing.T) {
	for _, h := range []trace.Header{
		{},
		{Name: strings.Repeat("x", 256), Size: 512, BlockSize: 512},
		{Name: "x", Size: 100, BlockSize: 512},
		{Name: "x", Size: 512, BlockSize: 100},
		{Name: "x", Size: 512, BlockSize: 512, Description: "\xff"},
	} {
		_, err := trace.NewWriter(io.Discard, h)
		require.Error(t, err)
	}
	w, err := trace.NewWriter(io.Discard, header)
	require.NoError(t, err)
	require.Error(t, w.Op(workloads.Op{Kind: workloads.Write, Off: 1 << 30, Len: 512}))
	require.Error(t, w.Close(), "an error stays")

	w, err = trace.NewWriter(io.Discard, header)
	require.NoError(t, err)
	require.Error(t, w.Mark(""))
	_, err = trace.NewWriter(brokenWriter{}, header)
	require.ErrorIs(t, err, errBroken)
}

var errBroken = errors.New("broken")

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }

func FuzzRead(f *testing.F) {
	f.Add(encode(f, sample()))
	f.Add(frames(f, frame([]byte{2, 7, 1, 'm'}, 4, 2), append(make([]byte, 8), 2, 0, 0, 0)))
	f.Fuzz(func(t *testing.T, b []byte) {
		tr, err := trace.Read(bytes.NewReader(b))
		if err != nil {
			require.ErrorIs(t, err, trace.ErrCorrupt)
			return
		}
		again, err := trace.Read(bytes.NewReader(encode(t, tr)))
		require.NoError(t, err)
		require.Equal(t, tr, again)
	})
}

// FuzzRecords gets past the checksums and the compression, where FuzzRead seldom
// does.
func FuzzRecords(f *testing.F) {
	f.Add([]byte{1, 2, 8, 1 | 1<<5 | 1<<6, 2 | 1<<4, 100, 7, 1, 'm'}, uint32(4))
	f.Fuzz(func(t *testing.T, raw []byte, records uint32) {
		end := binary.LittleEndian.AppendUint32(make([]byte, 8), records)
		tr, err := trace.Read(bytes.NewReader(frames(t, frame(raw, uint32(len(raw)), records), end)))
		if err != nil {
			require.ErrorIs(t, err, trace.ErrCorrupt)
			return
		}
		for _, op := range tr.Ops {
			require.NoError(t, op.Check(header.Size))
		}
	})
}
