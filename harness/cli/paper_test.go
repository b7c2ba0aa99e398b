// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/harness/cli"
	"zumastor.org/zumastor/results"
)

// settled makes a run of rewrites that take the given part of raw's time.
func settled(t *testing.T, root, id string, part float64) { settledOf(t, root, "quick", id, part) }

func settledOf(t *testing.T, root, suite, id string, part float64) {
	run, err := results.Create(root, results.Manifest{ID: id, Suite: suite})
	require.NoError(t, err)
	var all []results.Sample
	for round := range 6 {
		for variant, ns := range map[string]float64{"raw": 1000, "inline": 1000 * part} {
			all = append(all, results.Sample{
				Experiment: "E6", Kind: results.Measured, N: 1, Round: round, Values: map[string]float64{results.NsPerOp: ns, results.IOPS: 1e9 / ns},
				Config: results.Conf("op", "rewrite", "variant", variant, "qd", "32"),
			})
		}
	}
	require.NoError(t, run.Append(all...))
	require.NoError(t, run.Complete("E6"))
}

func TestPaper(t *testing.T) {
	root, dir := t.TempDir(), t.TempDir()
	file, figure := filepath.Join(dir, "PAPER.md"), filepath.Join(dir, "docs/paper/e6-rewrite-measured.svg")
	const text = "Rewrites: <!-- = goal rewrite-vs-raw -->?<!-- -->.\n\n<!-- zbench: figure e6-rewrite-measured -->\n<!-- end -->\n"
	require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
	settled(t, root, "one", 1.0)
	settled(t, root, "two", 1.25)
	paper := func(args ...string) (int, string) {
		code, _, errs := zbench(t, append([]string{"--results", root, "paper", "--file", file, "--record", filepath.Join(dir, "record")}, args...)...)
		return code, errs
	}

	code, errs := paper("--check")
	require.Equal(t, cli.ExitNotMet, code)
	require.Contains(t, errs, `goal rewrite-vs-raw: the paper says "?", its run "(not measured yet)"`)
	require.Contains(t, errs, "make paper renders it anew")

	code, errs = paper("--from", "one")
	require.Equal(t, cli.ExitOK, code, errs)
	require.Contains(t, errs, "E6: of run one")
	require.FileExists(t, figure)
	rendered, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, string(rendered), "-->1 x<!-- -->")
	code, errs = paper("--check")
	require.Equal(t, cli.ExitOK, code, errs)

	drawn, err := os.ReadFile(figure)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(figure, append(drawn, ' '), 0o644))
	code, errs = paper("--check")
	require.Equal(t, cli.ExitNotMet, code)
	require.Contains(t, errs, "figure e6-rewrite-measured.svg is not what its run gives")

	code, errs = paper("--from", "two")
	require.Equal(t, cli.ExitOK, code, errs)
	rendered, err = os.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, string(rendered), "-->0.800 x<!-- -->")

	require.NoError(t, os.WriteFile(file, append(rendered, "It is 5 % slower.\n"...), 0o644))
	code, errs = paper()
	require.Equal(t, cli.ExitError, code)
	require.Contains(t, errs, `stay as they were:`)
	require.Contains(t, errs, `"5 %" looks like a result`)
	code, errs = paper("--from", "one")
	require.Equal(t, cli.ExitError, code, errs)
	recorded, err := results.Open(filepath.Join(dir, "record", "E6"))
	require.NoError(t, err)
	require.Equal(t, "two", recorded.Manifest().ID, "what cannot be rendered is not recorded")
	code, _ = paper("--check", "--from", "one")
	require.Equal(t, cli.ExitUsage, code)
}

// TestPaperOfAShortRun makes a draft of it, which says what the run lacks; the paper stays.
func TestPaperOfAShortRun(t *testing.T) {
	root, dir := t.TempDir(), t.TempDir()
	file := filepath.Join(dir, "PAPER.md")
	const text = "Rewrites: <!-- = goal rewrite-vs-raw -->?<!-- -->, at 99 <!-- = E6 speed op=rewrite variant=inline qd=99 / variant=raw -->1 x<!-- -->.\n\n" +
		"<!-- zbench: figure e6-rewrite-measured -->\n<!-- end -->\n\n<!-- zbench: figure e6-firstwrite-measured -->\nold\n<!-- end -->\n"
	require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
	settledOf(t, root, "smoke", "short", 1.25)
	args := []string{"--results", root, "paper", "--file", file, "--record", filepath.Join(dir, "record")}
	code, _, errs := zbench(t, append(args, "--from", "short")...)
	require.Equal(t, cli.ExitOK, code, errs)
	draft := filepath.Join(root, "short", "paper", "PAPER.md")
	require.Contains(t, errs, "PAPER.md keeps the runs that it has: those of short (suite smoke) are too short for it. A draft with them: "+draft)
	require.Contains(t, errs, "figure e6-firstwrite-measured: the run of E6 has no samples for this figure")
	drawn, err := os.ReadFile(draft)
	require.NoError(t, err)
	require.Contains(t, string(drawn), "> **A draft**, not to be cited: with the experiments of short (suite smoke)")
	require.Contains(t, string(drawn), "-->0.800 x<!-- -->, at 99 <!-- = E6 speed op=rewrite variant=inline qd=99 / variant=raw -->(not in this run)<!-- -->")
	require.Contains(t, string(drawn), "*(not in this run)*")
	require.NotContains(t, string(drawn), "old")
	require.FileExists(t, filepath.Join(root, "short", "paper", "docs", "paper", "e6-rewrite-measured.svg"))

	kept, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, string(kept), "(not measured yet)", "it is rendered of what is recorded")
	require.NoDirExists(t, filepath.Join(dir, "record"))
}

func TestHypothesesOfARun(t *testing.T) {
	root := t.TempDir()
	settled(t, root, "one", 1.0)
	code, out, errs := zbench(t, "--results", root, "goals", "--hypotheses", "one")
	require.Equal(t, cli.ExitOK, code, errs)
	require.Contains(t, out, "Hypotheses, modelled")
	require.Regexp(t, `H4 .* >= 1 x +values known `, out)
	require.Regexp(t, `H1 +5 +origin read performance is great .* not measured`, out)
	code, out, errs = zbench(t, "--results", root, "goals", "--hypotheses", "--json", "one")
	require.Equal(t, cli.ExitOK, code, errs)
	require.Contains(t, out, `"verdict": "not measured"`)
	require.Contains(t, out, `"criterion_from": "values known"`)
}
