// SPDX-License-Identifier: Apache-2.0

package report

import (
	"strings"

	"zumastor.org/zumastor/analysis/table"
	"zumastor.org/zumastor/results"
)

// Exhibit is a figure of the report by itself, for other pages.
type Exhibit struct {
	Experiment, Title, Subtitle string
	// SVG is the drawing; Table has its numbers, nil for distributions.
	SVG   []byte
	Table *table.Table
	Kind  results.Kind
}

// Exhibited returns the figure of a name, which is that of its file under figures/ without
// the extension: "e4-read-qd32-measured". ok is false where there is no such figure, or are
// no samples for it; experiment is that of the figures whose names begin so, "" if none do.
func Exhibited(measured, modelled results.Set, name string) (x Exhibit, experiment string, ok bool, err error) {
	set := measured
	if strings.HasSuffix(name, "-"+string(results.Modelled)) {
		set = modelled
	}
	for _, s := range sections() {
		for _, f := range s.figures {
			if !strings.HasPrefix(name, f.Name+"-") {
				continue
			}
			experiment = s.Experiment
			for _, part := range f.split(set) {
				if part.Name+"-"+string(set.Kind()) != name {
					continue
				}
				it, _, err := part.make(set)
				if it == nil || err != nil {
					return Exhibit{}, experiment, false, err
				}
				return Exhibit{Experiment: experiment, Title: part.Title, Subtitle: part.Subtitle, SVG: it.svg, Table: it.table, Kind: set.Kind()}, experiment, true, nil
			}
		}
	}
	return Exhibit{}, experiment, false, nil
}

// Experiments returns the names of those that the report has sections for.
func Experiments() []string {
	var out []string
	for _, s := range sections() {
		out = append(out, s.Experiment)
	}
	return out
}
