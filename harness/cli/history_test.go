// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/harness/cli"
	"zumastor.org/zumastor/results"
)

// commits makes a repository with so many commits, a minute apart, in a directory that
// it makes the working one, and returns their names.
func commits(t *testing.T, n int) []string {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not here")
	}
	t.Chdir(t.TempDir())
	git := func(date string, args ...string) string {
		cmd := exec.Command("git", append([]string{"-c", "user.name=t", "-c", "user.email=t@example.com"}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_COMMITTER_DATE="+date, "GIT_AUTHOR_DATE="+date, "GIT_CONFIG_GLOBAL=/dev/null")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		return strings.TrimSpace(string(out))
	}
	git("", "init", "-q")
	var all []string
	for i := range n {
		git(fmt.Sprintf("2026-11-23T07:%02d:00Z", i), "commit", "-q", "--allow-empty", "-m", fmt.Sprint(i))
		all = append(all, git("", "rev-parse", "HEAD"))
	}
	return all
}

// countersOf writes a file of counters as another program would have.
func countersOf(t *testing.T, writes int) string {
	file := filepath.Join(t.TempDir(), "counters.txt")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, "inline/rewrite writes %d\ninline/rewrite flushes 1\n", writes), 0o644))
	return file
}

func TestHistoryOfCounters(t *testing.T) {
	revisions := commits(t, 3)
	for i, writes := range []int{1024, 1024, 1076} {
		code, out, errs := zbench(t, "history", "add", "--counters", "--from", countersOf(t, writes), "--revision", revisions[i][:9])
		require.Equal(t, cli.ExitOK, code, errs)
		require.Contains(t, out, fmt.Sprintf("results/history/counters/20261123-07%02d00-%s.json: 1 settings", i, revisions[i][:12]))
	}
	code, _, errs := zbench(t, "history", "add", "--counters", "--from", countersOf(t, 5), "--revision", revisions[0])
	require.Equal(t, cli.ExitError, code)
	require.Contains(t, errs, "already recorded")
	code, out, _ := zbench(t, "history", "list")
	require.Equal(t, cli.ExitOK, code)
	require.Equal(t, 3, strings.Count(out, "counters "))

	code, out, errs = zbench(t, "history", "check")
	require.Equal(t, cli.ExitNotMet, code)
	require.Regexp(t, `inline/rewrite +writes +`+revisions[1][:10]+` +`+revisions[2][:10]+` .* 1024 +1076 +\+5\.08% .* worse`, out)
	require.Contains(t, errs, "1 metrics got worse: if that is meant, say why in results/history/accepted.txt")
	code, out, _ = zbench(t, "history", "check", "--json")
	require.Equal(t, cli.ExitNotMet, code)
	var report struct {
		Worse  int
		Trends []struct {
			Changes []struct{ At, Verdict string }
		}
	}
	require.NoError(t, json.Unmarshal([]byte(out), &report))
	require.Equal(t, 1, report.Worse)
	require.Equal(t, revisions[2], report.Trends[0].Changes[0].At)

	require.NoError(t, os.WriteFile("results/history/accepted.txt", []byte("counters "+revisions[2]+" sums are kept\n"), 0o644))
	code, out, errs = zbench(t, "history", "check", "--markdown")
	require.Equal(t, cli.ExitOK, code, errs)
	require.Contains(t, out, "accepted: sums are kept")

	code, out, errs = zbench(t, "trend")
	require.Equal(t, cli.ExitOK, code, errs)
	require.Equal(t, "results/trend/trend.html\n", out)
	table, err := os.ReadFile("results/trend/trend.md")
	require.NoError(t, err)
	require.Contains(t, string(table), "| inline/rewrite | writes ")
}

// finished makes a run that has ended, of a revision.
func finished(t *testing.T, id, revision string, spread, ns float64, change ...func(*results.Environment)) {
	run, err := results.Create("runs", results.Manifest{ID: id, Suite: "smoke"})
	require.NoError(t, err)
	env := results.Environment{CPU: "X", Commit: revision, Noise: &results.Noise{Spread: spread, Limit: 0.1}}
	for _, f := range change {
		f(&env)
	}
	require.NoError(t, run.SetEnvironment(env))
	require.NoError(t, run.Append(
		results.Sample{Experiment: "E6", Kind: results.Measured, N: 1, Config: results.Conf("op", "rewrite"),
			Values: map[string]float64{results.NsPerOp: ns, results.IOPS: 1e9 / ns}},
		results.Sample{Experiment: "E1", Kind: results.Modelled, N: 1, Config: results.Conf("op", "write"), Values: map[string]float64{results.NsPerOp: 1000}}))
	require.NoError(t, run.Finish())
}

func TestHistoryOfRuns(t *testing.T) {
	revisions := commits(t, 4)
	finished(t, "quiet", revisions[0], 0.01, 100)
	finished(t, "noisy", revisions[1], 0.5, 300)
	finished(t, "dirty", revisions[2]+"-dirty", 0.01, 300)
	finished(t, "elsewhere", revisions[3], 0.01, 300, func(e *results.Environment) { e.RevisionSource = results.FromWorktree })
	code, out, errs := zbench(t, "--results", "runs", "history", "add", "quiet")
	require.Equal(t, cli.ExitOK, code, errs)
	require.Equal(t, 2, strings.Count(out, ": 1 settings of "+revisions[0][:12]), "measured and modelled figures are two series")
	for run, says := range map[string]string{"noisy": "noisy machine: 50.0% slower", "dirty": "files in git had changed",
		"elsewhere": "the revision is the working directory's: the program was built without one"} {
		code, _, errs := zbench(t, "--results", "runs", "history", "add", run)
		require.Equal(t, cli.ExitError, code)
		require.Contains(t, errs, "not fit for the history: "+says)
		require.Contains(t, errs, "--force records it, marked")
		code, _, errs = zbench(t, "--results", "runs", "history", "add", "--force", run)
		require.Equal(t, cli.ExitOK, code, errs)
	}
	_, out, _ = zbench(t, "history", "list")
	require.Contains(t, out, "files in git had changed")
	require.Contains(t, out, "the working directory's")
	code, out, errs = zbench(t, "history", "check")
	require.Equal(t, cli.ExitOK, code, out+errs)
	// One that is not recorded is checked as if it were.
	finished(t, "newest", revisions[2], 0.01, 100)
	code, out, errs = zbench(t, "--results", "runs", "history", "check", "newest")
	require.Equal(t, cli.ExitOK, code, errs)
	require.Contains(t, out, "smoke, modelled: 5 runs")
}

func TestHistoryRefusesWhatItCannotRecord(t *testing.T) {
	commits(t, 1)
	run, err := results.Create("runs", results.Manifest{ID: "half", Suite: "smoke"})
	require.NoError(t, err)
	require.NoError(t, run.SetEnvironment(results.Environment{Commit: "HEAD"}))
	part, err := results.Create("runs", results.Manifest{ID: "part", Suite: "smoke", Settings: map[string]string{results.TrialSetting: "0/3"}})
	require.NoError(t, err)
	require.NoError(t, part.SetEnvironment(results.Environment{Commit: "HEAD"}))
	require.NoError(t, part.Finish())
	finished(t, "unknown", "", 0, 1)
	finished(t, "elsewhere", strings.Repeat("12", 20), 0, 1)
	require.NoError(t, os.MkdirAll("bad/counters", 0o755))
	require.NoError(t, os.WriteFile("bad/counters/x.json", []byte(`{"format":9}`), 0o644))
	for line, want := range map[string]struct {
		code int
		says string
	}{
		"history add half":            {cli.ExitError, "has not ended"},
		"history add part":            {cli.ExitError, "only part 0/3 of a run, which zbench merge puts together"},
		"history add unknown":         {cli.ExitError, "was built without one"},
		"history add elsewhere":       {cli.ExitError, "is not in this repository"},
		"history add x --counters":    {cli.ExitUsage, "a run, or --counters"},
		"history add --from x":        {cli.ExitUsage, "--counters with --from and --revision"},
		"history check --history bad": {cli.ExitError, "bad/counters/x.json: bad record of the history: it has format 9"},
		"trend --history bad":         {cli.ExitError, "format 9"},
		"history add --counters --from nothing --revision HEAD": {cli.ExitError, "nothing: no such file"},
	} {
		code, _, errs := zbench(t, append([]string{"--results", "runs"}, strings.Fields(line)...)...)
		require.Equal(t, want.code, code, line+": "+errs)
		require.Contains(t, errs, want.says, line)
	}
}
