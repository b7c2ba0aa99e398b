// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"zumastor.org/zumastor/analysis/chunksize"
	"zumastor.org/zumastor/analysis/group"
	"zumastor.org/zumastor/analysis/quantity"
	"zumastor.org/zumastor/results"
)

// advice is which chunk size a run recommends, workload by workload.
type advice struct {
	Run  string
	Kind results.Kind
	Rows []adviceRow
}

// adviceRow is the recommendation for a workload.
type adviceRow struct {
	Workload, Chunk, Cost, Reason string
	// Unclear is set where intervals of other sizes reach to the fastest.
	Unclear bool
}

// advise says which chunk size to use where a run has several, by the rule that zbench
// tune follows; nothing for a run that has one.
func advise(run *results.Run) (all []advice) {
	for _, kind := range []results.Kind{results.Measured, results.Modelled} {
		s, _ := pivot(kind, costs(ofKind(run, kind)), "chunk", nil)
		a := advice{Run: run.Manifest().ID, Kind: kind}
		for _, l := range s.Lines {
			if strings.Contains(l.Name, "copybound") {
				continue // a bound, which nobody can use
			}
			if row, ok := adviceFor(l); ok {
				a.Rows = append(a.Rows, row)
			}
		}
		if len(a.Rows) > 0 {
			all = append(all, a)
		}
	}
	return all
}

func adviceFor(l group.Line) (adviceRow, bool) {
	var choices []chunksize.Choice
	points := slices.DeleteFunc(slices.Clone(l.Points), func(p group.Point) bool { return p.Estimate.N == 0 })
	for _, p := range points {
		chunk, err := strconv.ParseInt(p.X, 10, 64)
		if err != nil {
			return adviceRow{}, false
		}
		choices = append(choices, chunksize.Choice{Chunk: chunk, Time: p.Estimate.Center})
	}
	best := chunksize.Best(choices)
	if best < 0 || len(choices) < 2 {
		return adviceRow{}, false
	}
	fastest := points[chunksize.Fastest(choices)].Estimate
	row := adviceRow{
		Workload: l.Name, Chunk: quantity.Bytes(fmt.Sprint(choices[best].Chunk)), Cost: quantity.Quantity(points[best].Estimate, "x"), Reason: chunksize.Reason(choices),
	}
	for _, p := range points {
		if !chunksize.Near(p.Estimate.Center, fastest.Center) && p.Estimate.Lo <= fastest.Hi {
			row.Unclear = true
		}
	}
	return row, true
}
