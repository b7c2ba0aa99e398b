// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/harness/cli"
)

func TestBaselineRecordAndCheck(t *testing.T) {
	file := filepath.Join(t.TempDir(), "baseline", "counters.txt")
	code, _, errs := zbench(t, "baseline", "check", "--file", file)
	require.Equal(t, cli.ExitError, code)
	require.Contains(t, errs, "make it with zbench baseline record")
	code, out, errs := zbench(t, "baseline", "record", "--file", file)
	require.Equal(t, cli.ExitOK, code, errs)
	require.Contains(t, out, " counters\n")
	code, out, errs = zbench(t, "baseline", "check", "--file", file)
	require.Equal(t, cli.ExitOK, code, out+errs)

	text, err := os.ReadFile(file)
	require.NoError(t, err)
	const now, before = "inline/chunk=64K/ssd/rewrite writes 256\n", "inline/chunk=64K/ssd/rewrite writes 243\n"
	moved := bytes.Replace(text, []byte(now), []byte(before), 1)
	require.NotEqual(t, text, moved)
	require.NoError(t, os.WriteFile(file, moved, 0o644))
	code, out, errs = zbench(t, "baseline", "check", "--file", file)
	require.Equal(t, cli.ExitNotMet, code)
	require.Regexp(t, `inline/chunk=64K/ssd/rewrite +writes +243 +256 +\+5\.35%`, out)
	require.Contains(t, errs, "1 of ")
	require.Contains(t, errs, "run zbench baseline record and commit "+file)
}
