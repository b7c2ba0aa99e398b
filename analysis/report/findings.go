// SPDX-License-Identifier: Apache-2.0

package report

import "zumastor.org/zumastor/analysis/goals"

// findingRow is a hypothesis with its numbers written out.
type findingRow struct {
	goals.Finding
	Value, Samples, Wanted, Class string
}

// tested are the findings that a run decides, written out.
func tested(findings []goals.Finding) []findingRow {
	var out []findingRow
	for _, f := range findings {
		if f.Verdict == goals.Untested {
			continue
		}
		w := writtenOut(f.Row)
		out = append(out, findingRow{Finding: f, Value: w.Value, Samples: w.Samples, Wanted: w.Wanted, Class: w.Class})
	}
	return out
}
