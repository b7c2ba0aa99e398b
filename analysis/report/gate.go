// SPDX-License-Identifier: Apache-2.0

package report

import (
	"zumastor.org/zumastor/analysis/group"
	"zumastor.org/zumastor/analysis/plot"
)

func gate() section {
	speeds := func(bench, title string) figure {
		return figure{
			Name: "e12-gate-" + bench, shape: bars,
			Figure: plot.Figure{
				Title: title, X: plot.Axis{Label: "comparison"}, Y: plot.Axis{Label: "speed against the other build", Unit: "x"},
				References: []plot.Reference{{Value: 0.95, Label: "below: worse, if p is below 0.005, too"}},
			},
			query: group.Query{Where: group.Selector{"experiment": "E12", "bench": bench}, Unit: "speed", X: "duel", Line: "op"},
		}
	}
	return section{
		Experiment: "E12", Title: "The gate by wall-clock time",
		Says:    "A program is compared with itself, and with itself made 10 % slower, as zbench against compares two revisions: in turns, by the U test. Each comparison is a bar.",
		figures: []figure{speeds("rewrite", "Rewrites: equal builds, and a slower one"), speeds("firstwrite", "First writes: equal builds, and a slower one")},
	}
}
