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

// comparable makes a run of given times on a machine.
func comparable(t *testing.T, root, id, cpu string, times ...float64) {
	run, err := results.Create(root, results.Manifest{ID: id, Suite: "smoke"})
	require.NoError(t, err)
	require.NoError(t, run.SetEnvironment(results.Environment{CPU: cpu, Commit: id}))
	for round, v := range times {
		require.NoError(t, run.Append(results.Sample{
			Experiment: "E6", Kind: results.Measured, N: 1, Round: round, Values: map[string]float64{results.NsPerOp: v},
			Config: results.Conf("op", "rewrite", "variant", "inline"),
		}))
	}
}

func TestCompareAcrossMachines(t *testing.T) {
	root := t.TempDir()
	comparable(t, root, "one", "X", 100, 101, 102, 100)
	comparable(t, root, "two", "X", 120, 121, 122, 120)
	comparable(t, root, "three", "Y", 120, 121, 122, 120)
	code, out, errs := zbench(t, "--results", root, "compare", "one", "two")
	require.Equal(t, cli.ExitOK, code, errs)
	require.Contains(t, out, "worse")
	require.NotContains(t, out, "differ")
	code, out, errs = zbench(t, "--results", root, "compare", "one", "three")
	require.Equal(t, cli.ExitError, code)
	require.Contains(t, errs, "the machines differ: CPU: X, Y: --across compares")
	require.NotContains(t, out, "worse")
	code, out, errs = zbench(t, "--results", root, "compare", "--across", "--check", "one", "three")
	require.Equal(t, cli.ExitNotMet, code, errs)
	require.Contains(t, out, "note: the machines differ: CPU: X, Y")
	require.Contains(t, out, "worse")
}

// TestCompareSeveralRuns pins the table of three runs, in Markdown.
func TestCompareSeveralRuns(t *testing.T) {
	root := t.TempDir()
	comparable(t, root, "one", "X", 100, 101, 102, 100, 101, 102)
	comparable(t, root, "two", "X", 120, 121, 122, 120, 121, 122)
	comparable(t, root, "three", "X", 101, 100, 102, 101, 100, 102)
	code, out, errs := zbench(t, "--results", root, "compare", "--markdown", "one", "two", "three")
	require.Equal(t, cli.ExitOK, code, errs)
	require.Equal(t, `measured, two against one

| setting                      |          old |          new |          speed |     p | verdict |
|:-----------------------------|-------------:|-------------:|---------------:|------:|:--------|
| E6/op=rewrite/variant=inline | 101 ±1 ns/op | 121 ±1 ns/op | 0.835 ±0.012 x | 0.002 | worse   |

measured, three against one

| setting                      |          old |          new |        speed |     p | verdict       |
|:-----------------------------|-------------:|-------------:|-------------:|------:|:--------------|
| E6/op=rewrite/variant=inline | 101 ±1 ns/op | 101 ±1 ns/op | 1.00 ±0.01 x | 1.000 | no difference |

`, out)
}

// TestComparePage writes the page beside what is printed, and not of machines that differ.
func TestComparePage(t *testing.T) {
	root := t.TempDir()
	comparable(t, root, "one", "X", 100, 101, 102, 100, 101, 102)
	comparable(t, root, "two", "X", 120, 121, 122, 120, 121, 122)
	comparable(t, root, "three", "Y", 120, 121, 122, 120, 121, 122)
	page := filepath.Join(root, "page.html")
	code, _, errs := zbench(t, "--results", root, "compare", "one", "three", "--html", page)
	require.Equal(t, cli.ExitError, code)
	require.Contains(t, errs, "the machines differ")
	require.NoFileExists(t, page)
	code, out, errs := zbench(t, "--results", root, "compare", "--check", "one", "two", "--html", page)
	require.Equal(t, cli.ExitNotMet, code, errs)
	require.Contains(t, out, page+"\n")
	html, err := os.ReadFile(page)
	require.NoError(t, err)
	require.Contains(t, string(html), "0.835 x")
	require.NoError(t, os.Remove(page))
	code, _, errs = zbench(t, "--results", root, "compare", "--across", "one", "three", "--html", page)
	require.Equal(t, cli.ExitOK, code, errs)
	html, err = os.ReadFile(page)
	require.NoError(t, err)
	require.Contains(t, string(html), "other machine")
}
