// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"fmt"
	"slices"
	"time"

	"zumastor.org/zumastor/analysis/trend"
	"zumastor.org/zumastor/results"
	"zumastor.org/zumastor/results/history"
)

// recordedAfter is how many runs of a slower build are recorded when it is to be found.
const recordedAfter = 5

// overTime has the check of the history look at comparisons as if each were a recorded
// run: at those of equal builds, in which alarms are false, and at those followed by
// some of a slower build, in as many orders as there are of the slower ones. It returns
// in how many of these orders each benchmark got worse at the first slower run or the
// next, and nothing else was found: single runs of two builds may overlap.
func overTime(same, slowed []results.Sample) (alarms, caught, orders int) {
	equal, slower := relativeTimes(same), relativeTimes(slowed)
	for _, t := range trend.Judge(seriesOf(equal)).Trends {
		alarms += len(t.Changes())
	}
	for i := range slower {
		before := rotated(equal, 2*i)
		after := rotated(slower, i)[:min(recordedAfter, len(slower))]
		if onlyWorse(trend.Judge(seriesOf(slices.Concat(before, after))), len(before)) {
			caught++
		}
	}
	return alarms, caught, len(slower)
}

// onlyWorse reports whether each metric has one change, for the worse, at run n or the
// next.
func onlyWorse(r trend.Report, n int) bool {
	for _, t := range r.Trends {
		for _, track := range t.Tracks {
			if len(track.Changes) != 1 || track.Changes[0].Verdict != trend.Worse {
				return false
			}
			if at := track.Changes[0].At; at != revisionOf(n) && at != revisionOf(n+1) {
				return false
			}
		}
	}
	return len(r.Trends) > 0
}

func rotated[T any](all []T, by int) []T {
	by %= len(all)
	return slices.Concat(all[by:], all[:by])
}

// relativeTimes are the times of the second build over those of the first, by
// benchmark, of each comparison.
func relativeTimes(samples []results.Sample) []map[string]map[string]history.Value {
	var order []string
	runs := map[string]map[string]map[string]history.Value{}
	for _, s := range samples {
		duel := s.Config.Get("duel")
		if s.Values["speed"] == 0 {
			continue
		}
		if runs[duel] == nil {
			order, runs[duel] = append(order, duel), map[string]map[string]history.Value{}
		}
		runs[duel][s.Config.Get("bench")] = map[string]history.Value{results.NsPerOp: history.Exact(1 / s.Values["speed"])}
	}
	var all []map[string]map[string]history.Value
	for _, duel := range order {
		all = append(all, runs[duel])
	}
	return all
}

// seriesOf makes a history of runs: one a minute, each of another revision.
func seriesOf(runs []map[string]map[string]history.Value) history.History {
	s := history.Series{Name: "gate"}
	for i, metrics := range runs {
		at := time.Unix(int64(60*i), 0)
		s.Records = append(s.Records, history.Record{
			Kind: results.Measured, Suite: "gate", Revision: revisionOf(i), Committed: at, Recorded: at, Metrics: metrics,
		})
	}
	if len(runs) == 0 {
		return history.History{}
	}
	return history.History{Series: []history.Series{s}}
}

func revisionOf(i int) string { return fmt.Sprintf("%040x", i) }
