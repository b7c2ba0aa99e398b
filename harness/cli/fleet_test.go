// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/harness/cli"
)

func TestFleetLinesThatAreWrong(t *testing.T) {
	place := t.TempDir()
	for line, want := range map[string]struct {
		code int
		says string
	}{
		"merge " + place:                      {cli.ExitUsage, "-o is missing"},
		"merge":                               {cli.ExitUsage, "the places of trials"},
		"merge -o m " + place:                 {cli.ExitError, "there are no trials"},
		"merge -o m " + place + "/none":       {cli.ExitError, "make it before trials are collected there"},
		"run --trial 4/4":                     {cli.ExitUsage, `trial "4/4" is not such as`},
		"run --collect x --resume latest":     {cli.ExitUsage, "a trial goes on by itself"},
		"run --collect " + place + " --job A": {cli.ExitError, "a job's name has"},
		"run --trial 0/999 --experiments E6":  {cli.ExitError, "have only 15 rounds"},
		"fleet":                               {cli.ExitUsage, "takes the name of a command"},
		"fleet start":                         {cli.ExitUsage, `unknown command "start"`},
		"fleet render --to /mnt/lab E6":       {cli.ExitUsage, `no engine ""`},
		"fleet render --engine slurm E6":      {cli.ExitUsage, `"" is neither`},
		"fleet render --engine slurm E0":      {cli.ExitError, "zbench list shows"},
		"fleet render --engine slurm --to /mnt/lab --trials 16 E6":         {cli.ExitUsage, "have 15 rounds"},
		"fleet render --engine kubernetes --to s3://b E6":                  {cli.ExitUsage, "Kubernetes runs images"},
		"fleet render --engine slurm --to /mnt/lab --select nodes=3 E6":    {cli.ExitUsage, "want constraint, partition"},
		"fleet render --engine slurm --to /mnt/lab --device /dev/$(id) E6": {cli.ExitUsage, "means something to engines"},
	} {
		code, out, errs := zbench(t, append([]string{"--results", t.TempDir()}, strings.Fields(line)...)...)
		require.Equal(t, want.code, code, "%s: %s", line, errs)
		require.Contains(t, errs, want.says, line)
		require.Empty(t, out, line)
	}
}

// TestFleetFromBeginToEnd renders a job, does what its task would do, and merges it.
func TestFleetFromBeginToEnd(t *testing.T) {
	root, place := t.TempDir(), t.TempDir()
	file := filepath.Join(t.TempDir(), "job.sh")
	code, _, errs := zbench(t, "fleet", "render", "--engine", "slurm", "--to", place, "--suite", "smoke", "--name", "lab", "--seed", "3", "-o", file, "E10")
	require.Equal(t, cli.ExitOK, code, errs)
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, string(text), "#SBATCH --array=0-0\n")
	_, task, ok := strings.Cut(string(text), `exec "zbench" `)
	require.True(t, ok)
	task = strings.NewReplacer("\\\n", "", `"`, "", "$SLURM_ARRAY_TASK_ID", "0", "$SLURMD_NODENAME", "node7", "/var/tmp/zbench-$(id -un)", root).Replace(task)
	code, out, errs := zbench(t, strings.Fields(task)...)
	require.Equal(t, cli.ExitOK, code, errs)
	require.Empty(t, out, "one trial decides no goal")
	require.FileExists(t, filepath.Join(place, "lab", "trial-0000-of-0001.tar.zst"))

	code, out, errs = zbench(t, "--results", root, "merge", place, "-o", "merged", "--check")
	require.Equal(t, cli.ExitOK, code, errs)
	require.Contains(t, out, "job lab: 1 of 1 trials\n")
	require.Contains(t, out, "E10: rounds 0 of 1")
	reports, err := filepath.Glob(filepath.Join(root, "merged", "*", "report.html"))
	require.NoError(t, err)
	require.Len(t, reports, 1)
	name, err := filepath.Rel(root, filepath.Dir(reports[0]))
	require.NoError(t, err)
	code, out, errs = zbench(t, "--results", root, "goals", name)
	require.Equal(t, cli.ExitOK, code, errs)
	require.Contains(t, out, "crashes-survived")
	code, out, errs = zbench(t, "--results", root, "report", "merged")
	require.Equal(t, cli.ExitOK, code, errs)
	require.Contains(t, out, filepath.Join(name, "report.html"), "a merge with one run is that run")

	require.NoError(t, os.Rename(filepath.Join(place, "lab", "trial-0000-of-0001.tar.zst"), filepath.Join(place, "lab", "trial-0000-of-0002.tar.zst")))
	code, _, errs = zbench(t, "--results", root, "merge", place, "-o", "other")
	require.Equal(t, cli.ExitError, code)
	require.Contains(t, errs, "it says that it is trial 0/1")
	require.NoDirExists(t, filepath.Join(root, "other"))
}

// TestPartsOfARunAreNotTheRun asks what commands say of trials of two machines, of their merge, and of a pooled one.
func TestPartsOfARunAreNotTheRun(t *testing.T) {
	commits(t, 1)
	require.NoError(t, os.Mkdir("place", 0o755))
	run := []string{"run", "--suite", "smoke", "--experiments", "E2", "--chunks", "64K"}
	for _, i := range []string{"0", "1"} {
		code, _, errs := zbench(t, append(run, "--collect", "place", "--trial", i+"/2", "--machine", "m"+i)...)
		require.Equal(t, cli.ExitOK, code, errs)
	}
	for _, args := range [][]string{{"both"}, {"one", "--pool"}} {
		code, _, errs := zbench(t, append([]string{"merge", "place", "-o"}, args...)...)
		require.Equal(t, cli.ExitOK, code, errs)
	}
	glob := func(pattern string) []string {
		found, err := filepath.Glob("results/runs/" + pattern)
		require.NoError(t, err)
		require.NotEmpty(t, found, pattern)
		return found
	}
	trial, half := glob("bench-0000-of-0002-*")[0], glob("both/*-*")
	for line, says := range map[string]string{
		"history add " + trial:                          "only part 0/2 of a run, which zbench merge puts together",
		"history add " + half[0]:                        "this machine has not all rounds of E2: zbench merge again when all trials are there, with --pool",
		"history add both":                              "both is a merge of runs of several machines, which are not averaged: name one of them: both/",
		"history add results/runs/both":                 "name one of them: results/runs/both/",
		"compare results/runs/both/ one":                "name one of them: results/runs/both/",
		"paper --from both":                             "name one of them: both/",
		"paper --from nothing":                          "neither a run under results/runs nor the directory of one",
		strings.Join(run, " ") + " --resume " + half[0]: "is a merge of trials, to which nothing is added",
	} {
		code, _, errs := zbench(t, strings.Fields(line)...)
		require.Equal(t, cli.ExitError, code, line)
		require.Contains(t, errs, says, line)
	}
	code, out, errs := zbench(t, "history", "add", "--force", "one")
	require.Equal(t, cli.ExitOK, code, errs)
	require.Contains(t, out, "results/history/smoke-", "measured figures of this kind of machine")
	_, out, _ = zbench(t, "history", "list")
	require.NotContains(t, out, "not all rounds", "those of both machines are all")
	code, out, errs = zbench(t, "compare", half[0], "one")
	require.Equal(t, cli.ExitOK, code, errs)
	require.Contains(t, out+errs, "E2: this is rounds")
}
