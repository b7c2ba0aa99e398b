// SPDX-License-Identifier: Apache-2.0

package where

import (
	"strconv"
	"strings"

	"zumastor.org/zumastor/analysis/plot"
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

// latency returns the times of a stage.
func (p Probes) latency(stage string) ProbeSeries {
	for _, s := range p.Series {
		if s.Probe == "stage" && s.Kind == stage && s.Metric == "latency" {
			return s
		}
	}
	return ProbeSeries{}
}

// probeEvery is how many writes and reads there are for one that probes see: package mark's
// Every.
const probeEvery = 16

// ProbeBars draws the stages that probes saw as parts of what they belong to, the mean of
// each: a write to the origin, which waits for the copy-out of its chunks or does not; a
// batch of copies; what is told of snapshots; and the coding of extents. It is false if they
// saw none.
func ProbeBars(experiment string, p Probes) (Picture, bool) {
	var bars []plot.Bar
	bar := func(label string, times float64, parts ...plot.Segment) {
		if times == 0 {
			return
		}
		for i := range parts {
			parts[i].Value = max(0, parts[i].Value/times)
		}
		bars = append(bars, plot.Bar{Label: label, Segments: parts})
	}
	one := func(label, name, stage string) {
		s := p.latency(stage)
		bar(label, float64(s.Count), plot.Segment{Name: name, Value: float64(s.Sum)})
	}
	sum := func(stage string) float64 { return float64(p.latency(stage).Sum) }
	writes, copies := p.latency("write"), sum("copy")
	bar("write to the origin", probeEvery*float64(writes.Count),
		plot.Segment{Name: "wait for copies", Value: copies}, plot.Segment{Name: "write origin", Value: probeEvery*float64(writes.Sum) - copies})
	one("read of the origin", "read origin", "read")
	bar("batch of copies", float64(p.latency("batch").Count),
		plot.Segment{Name: "lease", Value: sum("lease")}, plot.Segment{Name: "read old", Value: sum("batch") - sum("lease")},
		plot.Segment{Name: "write copies", Value: sum("commit")}, plot.Segment{Name: "report", Value: sum("report")})
	one("checkpoint", "checkpoints", "checkpoint")
	one("map of a snapshot", "find", "map")
	one("extent, made", "encode", "encode")
	one("extent, applied", "decode", "decode")
	title := "Where the time went, by eBPF probes"
	return Picture{
		Name: strings.ToLower(experiment) + "-probes-stages", Title: title,
		Chart: plot.Stacked(plot.Figure{Title: title, Subtitle: experiment + ", all settings together", X: plot.Axis{Label: "mean time of each", Unit: "ns"}}, results.Measured, bars),
	}, len(bars) > 0
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
