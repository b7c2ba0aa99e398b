// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/harness/spec"
	"zumastor.org/zumastor/results"
)

func TestServerInAnotherProcess(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	all := []spec.Experiment{{
		Name: "E8", Procedure: spec.Server, Measured: true, Variants: []string{"raw", "inline", spec.Served}, Ops: []string{"firstwrite", "rewrite"},
		Chunks: []int64{16 << 10}, Depths: []int{1, 8}, Block: 4096, Origin: 4 * mib, Store: 32 * mib,
		Window: 4 * time.Millisecond, MinOps: 8, MaxOps: 40, Rounds: 2,
	}}
	r := start(t, t.TempDir(), all)
	r.Program, r.Bed.Dir = []string{self}, t.TempDir()
	require.NoError(t, r.all(t.Context(), all))
	got := names(r.record.Measured())
	for _, want := range []string{
		"E8/op=firstwrite/variant=inline-server/chunk=16384/qd=8", "E8/op=rewrite/variant=inline-server/chunk=16384/qd=1",
		"E8/op=rewrite/variant=inline/chunk=16384/qd=1", "E8/op=firstwrite/variant=raw/chunk=16384/qd=8",
	} {
		require.Equal(t, 2, got[want], "%s in %v", want, got)
	}
	for s := range r.record.Measured().All() {
		require.Positive(t, s.Values[results.NsPerOp], s.Name())
	}
	left, err := os.ReadDir(r.Bed.Dir)
	require.NoError(t, err)
	require.Empty(t, left)
}
