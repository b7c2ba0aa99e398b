// SPDX-License-Identifier: Apache-2.0

package traces_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/workloads"
	"zumastor.org/zumastor/workloads/apply"
	"zumastor.org/zumastor/workloads/trace"
	"zumastor.org/zumastor/workloads/traces"
)

// TestEveryTraceIsWhole reads every committed trace and holds what makes it the
// workload that it claims to be.
func TestEveryTraceIsWhole(t *testing.T) {
	require.Equal(t, []string{"git-checkout", "package-install", "sqlite", "untar-go"}, traces.Names())
	for _, name := range traces.Names() {
		t.Run(name, func(t *testing.T) {
			tr, err := traces.Load(name)
			require.NoError(t, err)
			require.Equal(t, name, tr.Name)
			require.Contains(t, tr.Description, "made by: zbench record "+name)
			in, err := trace.Stat(tr.Stream())
			require.NoError(t, err)
			require.Positive(t, in.Ops[workloads.Flush])
			require.Greater(t, in.Footprint, int64(32<<20))
			phases := tr.Phases()
			require.Equal(t, "mount", phases[0].Name)
			require.Equal(t, "unmount", phases[len(phases)-1].Name)
			for _, p := range phases {
				require.NotEmpty(t, p.Ops, p.Name)
			}
		})
	}
}

// null is a device of any size that keeps nothing.
type null int64

func (null) ReadAt(p []byte, _ int64) (int, error)  { return len(p), nil }
func (null) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (null) Flush() error                           { return nil }
func (null) Discard(int64, int64) error             { return nil }
func (n null) Size() int64                          { return int64(n) }

func TestReplayIssuesEveryOp(t *testing.T) {
	tr, err := traces.Load("sqlite")
	require.NoError(t, err)
	want, err := trace.Stat(tr.Stream())
	require.NoError(t, err)
	for _, depth := range []int{1, 32} {
		r, err := apply.Replay(t.Context(), null(tr.Size), tr.Stream(), apply.Options{Depth: depth})
		require.NoError(t, err)
		for k, c := range r.ByKind {
			require.Equal(t, want.Ops[k], c.Ops)
			require.Equal(t, want.Bytes[k], c.Bytes)
		}
	}
}

func TestLoadNamesWhatThereIs(t *testing.T) {
	_, err := traces.Load("nothing")
	require.ErrorContains(t, err, `no trace "nothing": there are git-checkout, `)
}
