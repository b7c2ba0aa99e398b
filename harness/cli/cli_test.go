// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"zumastor.org/zumastor/analysis/goals"
	"zumastor.org/zumastor/harness/cli"
	"zumastor.org/zumastor/results"
)

// TestMain lets the test binary be zbench too, which a run starts as the process
// that serves an export.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "export" {
		os.Exit(cli.Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	goleak.VerifyTestMain(m)
}

// zbench runs a command line and returns what it printed.
func zbench(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = cli.Main(t.Context(), args, strings.NewReader(""), &o, &e)
	return code, o.String(), e.String()
}

func TestCommandLinesThatAreWrong(t *testing.T) {
	empty := t.TempDir()
	for line, want := range map[string]struct {
		code int
		says string
	}{
		"think":                                  {cli.ExitUsage, `unknown command "think": zbench --help`},
		"run --speed 3":                          {cli.ExitUsage, "unknown flag: --speed: zbench run --help lists the flags"},
		"run now":                                {cli.ExitUsage, "zbench run takes no arguments, not 1"},
		"run --chunks 4Q":                        {cli.ExitUsage, `--chunks: size "4Q" is not a number of bytes such as`},
		"run --snapshots many":                   {cli.ExitUsage, "--snapshots"},
		"tune":                                   {cli.ExitUsage, "--trace is missing"},
		"tune --trace sqlite --device floppy":    {cli.ExitError, `no disk model "floppy": there are hdd, ssd and nvme`},
		"compare one":                            {cli.ExitUsage, "takes the names of two runs or more"},
		"export --variant raw":                   {cli.ExitUsage, `variant "raw" is no placement`},
		"run --suite nightly":                    {cli.ExitError, `no suite "nightly": there are smoke, quick, full and delta`},
		"run --experiments E0":                   {cli.ExitError, "zbench list shows those that there are"},
		"run --placements tape --experiments E6": {cli.ExitError, `unknown variant "tape"`},
		"run --chunks 5000 --experiments E6":     {cli.ExitError, "not a power of two"},
		"goals":                                  {cli.ExitError, "make one with zbench run"},
		"report nothing":                         {cli.ExitError, `run "nothing"`},
		"record nothing":                         {cli.ExitError, `no recipe "nothing": there are git-checkout`},
		"trace info nothing":                     {cli.ExitError, `no trace "nothing": there are git-checkout`},
		"list --suite nightly":                   {cli.ExitError, `no suite "nightly"`},
	} {
		code, out, errs := zbench(t, append([]string{"--results", empty}, strings.Fields(line)...)...)
		require.Equal(t, want.code, code, "%s: %s", line, errs)
		require.Contains(t, errs, want.says, line)
		require.Empty(t, out, line)
		require.True(t, strings.HasPrefix(errs, "zbench: "), line)
	}
	_, err := os.Lstat(filepath.Join(empty, results.Latest))
	require.ErrorIs(t, err, os.ErrNotExist, "no run was begun")
}

func TestWhatCommandsPrint(t *testing.T) {
	for line, says := range map[string]string{
		"":                    "Exit codes: 0 done",
		"run --help":          "a `device`",
		"list":                "E1    Untar with snapshots held",
		"list --suite smoke":  "PEER  Against qemu-nbd",
		"record --help":       "untar-go         tar: the source tree of Go",
		"trace":               "info        Say what a trace amounts to",
		"trace info untar-go": `phase        "round 1"`,
		"trace dump sqlite":   "# mark \"load\"",
		"env":                 `"kernel": "Linux`,
	} {
		code, out, errs := zbench(t, strings.Fields(line)...)
		require.Equal(t, cli.ExitOK, code, "%s: %s", line, errs)
		require.Contains(t, strings.ReplaceAll(out, "--device device", "a `device`"), says, line)
	}
}

// TestRunFromBeginToEnd runs an experiment on files, and all that shows a run.
func TestRunFromBeginToEnd(t *testing.T) {
	if testing.Short() {
		t.Skip("writes some hundred MiB")
	}
	root := t.TempDir()
	at := func(args ...string) []string { return append([]string{"--results", root}, args...) }
	code, out, errs := zbench(t, at("run", "--suite", "smoke", "--experiments", "E6,PEER", "--dir", t.TempDir())...)
	require.Equal(t, cli.ExitOK, code, errs)
	require.Contains(t, out, "rewrite-vs-raw")
	for _, file := range []string{"report.html", "summary.json", "samples.txt", "environment.json", "figures/e6-rewrite-measured.svg", "figures/e6-rewrite-measured.png"} {
		require.FileExists(t, filepath.Join(root, results.Latest, file))
	}

	code, out, errs = zbench(t, at("goals", "--json")...)
	require.Equal(t, cli.ExitOK, code, errs)
	var summary goals.Summary
	require.NoError(t, json.Unmarshal([]byte(out), &summary))
	reached := map[string]goals.Row{}
	for _, row := range summary.Goals {
		reached[row.Name] = row
	}
	require.Equal(t, goals.Met, reached["settled-allocs"].Status)
	require.Positive(t, reached["firstwrite-vs-copybound"].N)
	require.Zero(t, reached["create-10000th"].N)

	code, _, errs = zbench(t, at("report", "latest")...)
	require.Equal(t, cli.ExitOK, code, errs)
	code, out, errs = zbench(t, at("compare", "--check", "latest", "latest")...)
	require.Equal(t, cli.ExitOK, code, errs)
	require.Contains(t, out, "E6/op=rewrite/variant=inline/chunk=65536/qd=32")
	code, _, errs = zbench(t, at("run", "--suite", "smoke", "--experiments", "E6", "--resume", "latest")...)
	require.Equal(t, cli.ExitError, code)
	require.Contains(t, errs, "resume it with the same flags")
}

func TestGoalsCheck(t *testing.T) {
	root := t.TempDir()
	run, err := results.Create(root, results.Manifest{Suite: "smoke"})
	require.NoError(t, err)
	require.NoError(t, run.Append(results.Sample{
		Experiment: "E6", Kind: results.Measured, N: 1, Values: map[string]float64{results.AllocsPerOp: 2},
		Config: results.Conf("op", "rewrite", "variant", "inline"),
	}))
	code, out, _ := zbench(t, "--results", root, "goals")
	require.Equal(t, cli.ExitOK, code)
	require.Contains(t, out, "not met")
	code, _, errs := zbench(t, "--results", root, "goals", "--check")
	require.Equal(t, cli.ExitNotMet, code)
	require.Contains(t, errs, "not met: settled-allocs")
}

func TestInterruptedRunExitsWithItsCode(t *testing.T) {
	root := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, errs bytes.Buffer
	code := cli.Main(ctx, []string{"--results", root, "run", "--suite", "smoke", "--experiments", "E1"}, strings.NewReader(""), &out, &errs)
	require.Equal(t, cli.ExitInterrupted, code)
	require.Contains(t, errs.String(), "go on with zbench run --resume ")
}
