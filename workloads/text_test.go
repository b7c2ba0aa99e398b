// SPDX-License-Identifier: Apache-2.0

package workloads_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/workloads"
)

func TestTextRoundTrip(t *testing.T) {
	ops := []workloads.Op{
		{Kind: workloads.Read, Off: 4096, Len: 512},
		{Kind: workloads.Write, Off: 0, Len: 8192, FUA: true, Gap: 1500 * time.Microsecond},
		{Kind: workloads.Flush, Gap: time.Second},
		{Kind: workloads.Discard, Off: 1 << 40, Len: 1 << 30},
		{Kind: workloads.Zero, Off: 512, Len: 512, FUA: true},
	}
	var text strings.Builder
	require.NoError(t, workloads.Format(&text, workloads.NewSlice(ops)))
	require.Equal(t, "read 4096+512\nwrite 0+8192 fua gap=1.5ms\nflush gap=1s\n"+
		"discard 1099511627776+1073741824\nzero 512+512 fua\n", text.String())

	s := workloads.NewScanner(strings.NewReader("# made by hand\n\n" + text.String()))
	var got []workloads.Op
	for op, ok := s.Next(); ok; op, ok = s.Next() {
		got = append(got, op)
	}
	require.NoError(t, workloads.Err(s))
	require.Equal(t, ops, got)
}

func TestParseRefuses(t *testing.T) {
	for line, complaint := range map[string]string{
		"":                                       "empty",
		"scribble 0+512":                         "unknown kind",
		"write":                                  "range offset+length is missing",
		"write 0":                                "not offset+length",
		"write 0+x":                              "invalid syntax",
		"write 1+512":                            "multiples of 512",
		"write 0+0":                              "multiples of 512",
		"write -512+512":                         "multiples of 512",
		"read 0+512 fua":                         "only write and zero take fua",
		"flush 0+512":                            "unknown option",
		"write 0+512 gap=later":                  "invalid duration",
		"write 0+512 gap=-1s":                    "negative",
		"write 0+134217728":                      "longest transfer",
		"zero 9223372036854775296+512 fua fua x": "unknown option",
		"discard 9223372036854775296+1024":       "exceeds the device size",
	} {
		_, err := workloads.Parse(line)
		require.ErrorContains(t, err, complaint, "%q", line)
	}
}

func TestScannerNamesTheLine(t *testing.T) {
	s := workloads.NewScanner(strings.NewReader("flush\nflush\nwrite\nflush\n"))
	n := 0
	for _, ok := s.Next(); ok; _, ok = s.Next() {
		n++
	}
	require.Equal(t, 2, n)
	require.ErrorContains(t, workloads.Err(s), "line 3:")
	_, ok := s.Next()
	require.False(t, ok)
}

func TestCheckKnowsTheDevice(t *testing.T) {
	op := workloads.Op{Kind: workloads.Write, Off: 1 << 20, Len: 4096}
	require.NoError(t, op.Check(1<<20+4096))
	require.ErrorContains(t, op.Check(1<<20), "exceeds the device size")
	require.ErrorContains(t, workloads.Op{Kind: 9}.Check(1<<20), "unknown kind")
	require.ErrorContains(t, workloads.Op{Kind: workloads.Flush, Len: 512}.Check(1<<20), "must have none")
}

func FuzzParse(f *testing.F) {
	f.Add("write 4096+8192 fua gap=1ms")
	f.Add("flush")
	f.Add("discard 0+1099511627776")
	f.Fuzz(func(t *testing.T, line string) {
		op, err := workloads.Parse(line)
		if err != nil {
			return
		}
		again, err := workloads.Parse(op.String())
		require.NoError(t, err)
		require.Equal(t, op, again)
	})
}
