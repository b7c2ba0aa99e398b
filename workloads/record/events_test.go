// SPDX-License-Identifier: Apache-2.0

package record

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/workloads"
	"zumastor.org/zumastor/workloads/trace"
)

func TestParseRequest(t *testing.T) {
	for rwbs, want := range map[string]workloads.Op{
		"R":    {Kind: workloads.Read, Off: 4096, Len: 1024},
		"RAM":  {Kind: workloads.Read, Off: 4096, Len: 1024},
		"W":    {Kind: workloads.Write, Off: 4096, Len: 1024},
		"WSM":  {Kind: workloads.Write, Off: 4096, Len: 1024},
		"FWS":  {Kind: workloads.Write, Off: 4096, Len: 1024},
		"FWFS": {Kind: workloads.Write, Off: 4096, Len: 1024, FUA: true},
		"WFSM": {Kind: workloads.Write, Off: 4096, Len: 1024, FUA: true},
		"D":    {Kind: workloads.Discard, Off: 4096, Len: 1024},
		"DS":   {Kind: workloads.Discard, Off: 4096, Len: 1024},
		"DE":   {Kind: workloads.Discard, Off: 4096, Len: 1024},
		"NS":   {Kind: workloads.Zero, Off: 4096, Len: 1024},
		"F":    {Kind: workloads.Flush},
		"FF":   {Kind: workloads.Flush},
		"FFS":  {Kind: workloads.Flush},
	} {
		got, err := parseRequest(event{sector: 8, sectors: 2, rwbs: rwbs})
		require.NoError(t, err, rwbs)
		require.Equal(t, want, got, rwbs)
	}
	for _, rwbs := range []string{"", "ZA", "WX", "NX", "S"} {
		_, err := parseRequest(event{sectors: 2, rwbs: rwbs})
		require.ErrorIs(t, err, ErrInexact, "%q", rwbs)
	}
}

func TestToOps(t *testing.T) {
	ops, empty, err := toOps([]event{
		{time: 1, sector: 8, sectors: 8, rwbs: "W"},
		{time: 2, kind: queued, rwbs: "FWS"},
		{time: 3, rwbs: "FF"},
		{time: 4, sector: 16, sectors: 8, rwbs: "WFS"},
		{time: 5, kind: requeued, sector: 16, sectors: 8, rwbs: "WFS"},
		{time: 6, sector: 24, sectors: 8, rwbs: "R"},
		{time: 7, sector: 16, sectors: 8, rwbs: "WFS"},
	}, false)
	require.NoError(t, err)
	require.Equal(t, int64(1), empty)
	require.Equal(t, []timedOp{
		{workloads.Op{Kind: workloads.Write, Off: 4096, Len: 4096}, 1},
		{workloads.Op{Kind: workloads.Flush}, 3},
		{workloads.Op{Kind: workloads.Read, Off: 12288, Len: 4096}, 6},
		{workloads.Op{Kind: workloads.Write, Off: 8192, Len: 4096}, 7},
	}, ops)

	ops, _, err = toOps([]event{{sector: 16, sectors: 8, rwbs: "WFS"}}, true)
	require.NoError(t, err)
	require.True(t, ops[0].FUA)
	_, _, err = toOps([]event{{kind: requeued, sectors: 8, rwbs: "W"}}, false)
	require.ErrorIs(t, err, ErrInexact)
	_, _, err = toOps([]event{{kind: failed, sectors: 8, rwbs: "W", errno: -5}}, false)
	require.ErrorContains(t, err, "failed with error 5")
}

func TestAssemblePutsMarksByTime(t *testing.T) {
	op := workloads.Op{Kind: workloads.Flush}
	tr := assemble([]timedOp{{op, 10_000}, {op, 25_400}, {op, 20_000}}, []timedMark{{"a", 5_000}, {"b", 25_000}, {"c", 30_000}})
	require.Equal(t, []trace.Mark{{Name: "a", At: 0}, {Name: "b", At: 1}, {Name: "c", At: 3}}, tr.Marks)
	require.Equal(t, []time.Duration{0, 15 * time.Microsecond, 0}, []time.Duration{tr.Ops[0].Gap, tr.Ops[1].Gap, tr.Ops[2].Gap})
}

const sampleFormat = `name: block_rq_issue
ID: 2104
format:
	field:unsigned short common_type;	offset:0;	size:2;	signed:0;

	field:dev_t dev;	offset:8;	size:4;	signed:0;
	field:sector_t sector;	offset:16;	size:8;	signed:0;
	field:unsigned int nr_sector;	offset:24;	size:4;	signed:0;
	field:char rwbs[10];	offset:34;	size:10;	signed:0;
	field:__data_loc char[] cmd;	offset:60;	size:4;	signed:0;

print fmt: "%d,%d %s %u", ((unsigned int) ((REC->dev) >> 20)), REC->rwbs
`

func TestParseFormat(t *testing.T) {
	fields, err := parseFormat(sampleFormat)
	require.NoError(t, err)
	require.Equal(t, field{8, 4}, fields["dev"])
	require.Equal(t, field{34, 10}, fields["rwbs"])
	_, err = program(issued, 1, fields, 1, 1)
	require.NoError(t, err)
	_, err = program(failed, 1, fields, 1, 1)
	require.ErrorContains(t, err, "tracepoint field error has 0 bytes instead of 4")
	fields["rwbs"] = field{34, 80}
	_, err = program(issued, 1, fields, 1, 1)
	require.ErrorContains(t, err, "rwbs has 80 bytes")
	_, err = parseFormat("field:u32 dev; offset:huge; size:4;")
	require.Error(t, err)
}

func TestDecodeEventRefusesAnotherSize(t *testing.T) {
	_, err := decodeEvent(make([]byte, eventSize-1))
	require.Error(t, err)
}

func TestDeviceStatAgrees(t *testing.T) {
	in := trace.Info{
		Ops:   [workloads.Kinds]int64{1, 2, 3, 4, 5},
		Bytes: [workloads.Kinds]int64{512, 1024, 0, 2048, 4096},
	}
	stat := DeviceStat{Reads: 1, ReadSectors: 1, Writes: 8, WriteSectors: 10, Discards: 4, DiscardSectors: 4, Flushes: 3}
	require.NoError(t, stat.agrees(in, 1))
	require.ErrorIs(t, stat.agrees(in, 0), ErrInexact)
	stat.Flushes++
	require.ErrorIs(t, stat.agrees(in, 1), ErrInexact)
}
