// SPDX-License-Identifier: Apache-2.0

package where

import (
	"strconv"
	"strings"

	"zumastor.org/zumastor/analysis/quantity"
	"zumastor.org/zumastor/analysis/table"
	"zumastor.org/zumastor/results"
)

// Probes is what eBPF probes counted, as probes-E6.json has it.
type Probes struct {
	Series []ProbeSeries `json:"series"`
	Lost   uint64        `json:"lost"`
}

// ProbeSeries is a histogram of one thing.
type ProbeSeries struct {
	Probe   string `json:"probe"`
	Subject string `json:"subject"`
	Kind    string `json:"kind"`
	Metric  string `json:"metric"`
	Count   uint64 `json:"count"`
	Sum     uint64 `json:"sum"`
	P50     uint64 `json:"p50"`
	P90     uint64 `json:"p90"`
	P99     uint64 `json:"p99"`
}

// sum returns the sum of another metric of the same probe, subject and kind.
func (p Probes) sum(like ProbeSeries, metric string) uint64 {
	for _, s := range p.Series {
		if s.Probe == like.Probe && s.Subject == like.Subject && s.Kind == like.Kind && s.Metric == metric {
			return s.Sum
		}
	}
	return 0
}

// ProbeTables shows the stages that probes saw, and the operations of block devices.
func ProbeTables(experiment string, p Probes) []Table {
	stages := probeTable(experiment, "stages", "By eBPF probes: stages of all settings of the experiment together (writes and reads: one of 16)",
		"stage", "times", "all", "mean", "median", "99th percentile")
	blocks := probeTable(experiment, "block", "By eBPF probes: operations of block devices",
		"device", "kind", "operations", "bytes", "median", "99th percentile", "half within", "90 % within")
	blocks.Numeric[1] = false
	ns := func(v uint64) string { return quantity.Value(float64(v), "ns") }
	far := func(sectors uint64) string { return quantity.Value(float64(sectors)*512, "B") }
	for _, s := range p.Series {
		count := strconv.FormatUint(s.Count, 10)
		switch what := s.Probe + " " + s.Metric; {
		case s.Count == 0:
		case what == "stage latency":
			stages.Rows = append(stages.Rows, []string{s.Kind, count, ns(s.Sum), ns(s.Sum / s.Count), ns(s.P50), ns(s.P99)})
		case what == "block latency":
			bytes := quantity.Value(float64(p.sum(s, "size")), "B")
			blocks.Rows = append(blocks.Rows, []string{s.Subject, s.Kind, count, bytes, ns(s.P50), ns(s.P99), "", ""})
		case what == "block distance":
			blocks.Rows = append(blocks.Rows, []string{s.Subject, s.Kind, count, "", "", "", far(s.P50), far(s.P90)})
		}
	}
	var out []Table
	for _, t := range []Table{stages, blocks} {
		if len(t.Rows) > 0 {
			out = append(out, t)
		}
	}
	return out
}

func probeTable(experiment, what, title string, header ...string) Table {
	numeric := make([]bool, len(header))
	for i := range numeric {
		numeric[i] = i > 0
	}
	return Table{
		Name: strings.ToLower(experiment) + "-probes-" + what, Title: title,
		Table: table.Table{Kind: results.Measured, Header: header, Numeric: numeric},
	}
}
