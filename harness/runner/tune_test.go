// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/analysis/chunksize"
	"zumastor.org/zumastor/workloads"
	"zumastor.org/zumastor/workloads/trace"
)

func TestBestChunkSize(t *testing.T) {
	for _, c := range []struct {
		rows []Tuned
		want int
		says string
	}{
		{[]Tuned{{Time: 100, Copied: 9}}, 0, "the only one"},
		{[]Tuned{{Time: 100, Copied: 9}, {Time: 104, Copied: 3}, {Time: 106, Copied: 1}}, 1, "5 % slower for less space"},
		{[]Tuned{{Time: 104, Copied: 9}, {Time: 100, Copied: 9}}, 0, "equal space: the smaller chunk"},
		{[]Tuned{{Time: 200, Copied: 1}, {Time: 100, Copied: 5, Index: 3}, {Time: 101, Copied: 7}}, 2, "the index is space, too"},
	} {
		require.Equal(t, c.want, chunksize.Best(Choices(c.rows)), c.says)
	}
}

// TestTuneScatteredWrites has what is known: small scattered writes want small chunks,
// each of which is copied once a phase.
func TestTuneScatteredWrites(t *testing.T) {
	const writes, apart = 256, 1 << 20
	var ops []workloads.Op
	for i := range int64(writes) {
		ops = append(ops, workloads.Op{Kind: workloads.Write, Off: i * apart, Len: 4096})
	}
	ops = append(ops, workloads.Op{Kind: workloads.Flush})
	scattered := &trace.Trace{Ops: ops}
	scattered.Size = writes * apart
	rows, err := Tune(t.Context(), TuneOptions{Trace: scattered, Model: "ssd", Chunks: []int64{4 << 10, 64 << 10}})
	require.NoError(t, err)
	require.Zero(t, chunksize.Best(Choices(rows)))
	require.InDelta(t, writes<<12, rows[0].Copied, 32<<12)
	require.Less(t, rows[0].Copied, rows[1].Copied/8)
	require.Greater(t, rows[0].Cost, 1.0)
	again, err := Tune(t.Context(), TuneOptions{Trace: scattered, Model: "ssd", Chunks: []int64{4 << 10, 64 << 10}})
	require.NoError(t, err)
	require.Equal(t, rows, again)
	_, err = Tune(t.Context(), TuneOptions{Trace: &trace.Trace{}, Model: "ssd", Chunks: []int64{4096}})
	require.ErrorContains(t, err, "nothing to tune")
}
