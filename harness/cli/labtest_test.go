// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/harness/lab"
)

// TestFlaky: only what failed and then passed is flaky, and nothing else hides a failure.
func TestFlaky(t *testing.T) {
	all := []lab.Test{{Name: "001", Outcome: "pass"}, {Name: "002", Outcome: "fail", Reason: "hm"}, {Name: "003", Outcome: "fail"}, {Name: "004", Outcome: "skip"}}
	flaky(all, []lab.Test{{Name: "002", Outcome: "pass"}, {Name: "003", Outcome: "fail"}, {Name: "004", Outcome: "pass"}})
	require.Equal(t, []string{"001"}, testNames(all, "pass"))
	require.Equal(t, []string{"002"}, testNames(all, "flaky"))
	require.Equal(t, []string{"003"}, testNames(all, "fail"))
	require.Equal(t, []string{"004"}, testNames(all, "skip"))
	require.ErrorContains(t, testsFailed(all), "tests failed: 003")
	require.NoError(t, testsFailed(all[:2]))
	require.ErrorContains(t, testsFailed(all[3:]), "no test ran")
}
