// SPDX-License-Identifier: Apache-2.0

package page_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/analysis/page"
	"zumastor.org/zumastor/results"
)

// TestExplorerData has what the script reads: a number for each round, null where there is
// none, and nothing that ends the element that it is in.
func TestExplorerData(t *testing.T) {
	run, err := results.Create(t.TempDir(), results.Manifest{ID: "one"})
	require.NoError(t, err)
	const hostile = "</script><b>"
	for round, values := range []map[string]float64{{results.NsPerOp: 1.23456789}, {results.NsPerOp: 2, hostile: 3}, {hostile: 4}, {results.NsPerOp: 5}} {
		require.NoError(t, run.Append(results.Sample{
			Experiment: "E6", Kind: results.Measured, N: 1, Round: round, Values: values, Config: results.Conf("op", "rewrite", "chunk", "4096"),
		}))
	}
	html, err := page.Explorer(run)
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(html), `<script type="application/json" id="explore-data">`)
	require.True(t, found)
	text, _, _ := strings.Cut(rest, "</script>")
	require.NotContains(t, text, "<")
	var data struct {
		Cells []struct {
			Name, Run, Kind, Experiment string
			Config                      map[string]string
			Rounds                      []int
			Values                      map[string][]*float64
		}
	}
	require.NoError(t, json.Unmarshal([]byte(text), &data))
	require.Len(t, data.Cells, 1)
	c := data.Cells[0]
	require.Equal(t, "E6/op=rewrite/chunk=4096", c.Name)
	require.Equal(t, []int{0, 1, 2, 3}, c.Rounds)
	require.Equal(t, map[string]string{"op": "rewrite", "chunk": "4096"}, c.Config)
	one, two, three, four, five := 1.23457, 2.0, 3.0, 4.0, 5.0
	require.Equal(t, []*float64{&one, &two, nil, &five}, c.Values[results.NsPerOp])
	require.Equal(t, []*float64{nil, &three, &four}, c.Values[hostile])
}

// TestPagesAskNothingOfTheNetwork looks at all that is written into pages.
func TestPagesAskNothingOfTheNetwork(t *testing.T) {
	html, err := page.Explorer()
	require.NoError(t, err)
	all := strings.ReplaceAll(string(html)+string(page.Style()), "http://www.w3.org/2000/svg", "")
	for _, never := range []string{"http:", "https:", "fetch(", "XMLHttpRequest", "import ", "@import", "url(http", " src="} {
		require.NotContains(t, all, never)
	}
}
