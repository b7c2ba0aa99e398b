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

// adviseOn says which chunk size to use for each run that has several, and if none has,
// for all of them together, if their machines are alike.
func adviseOn(runs []*results.Run, alike bool) (all []advice) {
	for _, kind := range []results.Kind{results.Measured, results.Modelled} {
		var together []group.Cell
		var names []string
		before := len(all)
		for _, run := range runs {
			cells := costs(ofKind(run, kind))
			together, names = append(together, cells...), append(names, run.Manifest().ID)
			all = append(all, advise(run.Manifest().ID, kind, cells)...)
		}
		if len(all) == before && (alike || kind == results.Modelled) {
			all = append(all, advise(strings.Join(names, ", "), kind, together)...)
		}
	}
	return all
}

// advise says which chunk size to use where cells have several, by the rule that zbench
// tune follows; nothing where they have one.
func advise(name string, kind results.Kind, cells []group.Cell) []advice {
	s, _ := pivot(kind, cells, "chunk", nil)
	a := advice{Run: name, Kind: kind}
	for _, l := range s.Lines {
		if strings.Contains(l.Name, "copybound") {
			continue // a bound, which nobody can use
		}
		if row, ok := adviceFor(l); ok {
			a.Rows = append(a.Rows, row)
		}
	}
	if len(a.Rows) == 0 {
		return nil
	}
	return []advice{a}
}

func adviceFor(l group.Line) (adviceRow, bool) {
	var choices []chunksize.Choice
	sizes := map[int64]bool{}
	points := slices.DeleteFunc(slices.Clone(l.Points), func(p group.Point) bool { return p.Estimate.N == 0 })
	for _, p := range points {
		chunk, err := strconv.ParseInt(p.X, 10, 64)
		if err != nil {
			return adviceRow{}, false
		}
		sizes[chunk] = true
		choices = append(choices, chunksize.Choice{Chunk: chunk, Time: p.Estimate.Center})
	}
	best := chunksize.Best(choices)
	if best < 0 || len(sizes) < 2 {
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
