// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/harness/cli"
	"zumastor.org/zumastor/harness/probe"
)

// attachable skips the test where no probe can be attached.
func attachable(t *testing.T) {
	s, err := probe.Attach(probe.Options{Block: true})
	if err != nil {
		t.Skip(err)
	}
	require.NoError(t, s.Close())
}

func TestProbePrints(t *testing.T) {
	attachable(t)
	code, out, errs := zbench(t, "probe", "--duration", "20ms", "--json", "--listen", "localhost:0")
	require.Equal(t, cli.ExitOK, code, errs)
	var reading struct{ Series []probe.Summary }
	require.NoError(t, json.Unmarshal([]byte(out), &reading))

	code, out, errs = zbench(t, "probe", "--duration", "20ms")
	require.Equal(t, cli.ExitOK, code, errs)
	require.NotEmpty(t, strings.TrimSpace(out))
}

func TestProbeRefuses(t *testing.T) {
	for line, want := range map[string]string{
		"probe --device null":         "not a block device",
		"probe --device no-such-disk": "no-such-disk: no such file",
		"probe --sample 0":            "--sample are to be above 0",
		"probe --interval 0s":         "to be above 0",
		"probe vda":                   "takes no arguments",
	} {
		code, _, errs := zbench(t, strings.Fields(line)...)
		require.NotEqual(t, cli.ExitOK, code, line)
		require.Contains(t, errs, want, line)
	}
}
