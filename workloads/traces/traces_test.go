// SPDX-License-Identifier: Apache-2.0

package traces_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/workloads"
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

func TestLoadNamesWhatThereIs(t *testing.T) {
	_, err := traces.Load("nothing")
	require.ErrorContains(t, err, `no trace "nothing": there are git-checkout, `)
}
