// SPDX-License-Identifier: Apache-2.0

package report

import (
	"zumastor.org/zumastor/analysis/goals"
	"zumastor.org/zumastor/analysis/group"
	"zumastor.org/zumastor/analysis/plot"
	"zumastor.org/zumastor/results"
)

// deltaSize is of deltas of extents of 1 MiB, made without regard to a link.
func deltaSize() group.Selector {
	return group.Selector{"experiment": "D1", "op": "encode", "told": ""}
}

func deltas() section {
	const extent = "1048576"
	sizes := deltaSize()
	sizes["extent"], sizes["level"] = extent, "default"
	levels := deltaSize()
	levels["extent"] = extent
	peers := deltaSize()
	peers["peer"] = "yes"
	arrivals := group.Selector{"experiment": "D1", "op": "replicate", "told": "", "extent": extent, "level": "default"}
	speeds := deltaSize()
	speeds["extent"], speeds["level"] = extent, "default"
	return section{
		Experiment: "D1", Title: "Deltas of data evolving in place",
		Says: "A file system on which packages are upgraded, or a database updated, between two snapshots: the size of the delta, how fast it is made and applied, what memory that takes, and when it has arrived over a link. Making, sending and applying overlap: the longest of the three counts, and one extent's time of the others. Other programs get the whole images, and send what they made when it is complete.",
		figures: []figure{
			deltaBars("d1-size", "Size of a delta by codec", plot.Axis{Label: "share of what changed"}, sizes, goals.DeltaShare),
			deltaBars("d1-peers", "Size of a delta by other programs", plot.Axis{Label: "share of what changed"}, peers, goals.DeltaShare),
			{
				Name: "d1-level", shape: bars,
				Figure: plot.Figure{Title: "Size of a delta by level", X: plot.Axis{Label: "level"}, Y: plot.Axis{Label: "share of what changed"}},
				query:  group.Query{Where: levels, Unit: goals.DeltaShare, X: "level", Line: "variant"},
				each:   []string{"data"}, apart: "raw",
			},
			deltaBars("d1-speed", "Making a delta", plot.Axis{Label: "MB of changes a second", Unit: results.MBPerSec, Scale: plot.Log}, speeds, results.MBPerSec),
			deltaBars("d1-memory", "Memory of making a delta, the whole process", plot.Axis{Label: "at its fullest", Unit: goals.PeakBytes}, speeds, goals.PeakBytes),
			{
				Name: "d1-extent",
				Figure: plot.Figure{
					Title: "Size of a delta by the bound of extents", X: plot.Axis{Label: "extent", Scale: plot.Log, Unit: "B"},
					Y: plot.Axis{Label: "share of what changed", Scale: plot.Log},
				},
				query: group.Query{Where: group.Selector{"experiment": "D1", "op": "encode", "told": "", "level": "default"}, Unit: goals.DeltaShare, X: "extent", Line: "variant"},
				each:  []string{"data"},
			},
			replicationTimes("d1-replication", "Time of a replication by the link's speed", arrivals),
			replicationTimes("d1-replication-peers", "Time of a replication by other programs",
				group.Selector{"experiment": "D1", "op": "replicate", "told": "", "peer": "yes"}),
		},
	}
}

func replicationTimes(name, title string, where group.Selector) figure {
	return figure{
		Name: name,
		Figure: plot.Figure{
			Title: title, X: plot.Axis{Label: "Mbit/s", Scale: plot.Log},
			Y: plot.Axis{Label: "time until all is applied", Unit: results.NsPerOp, Scale: plot.Log},
		},
		query: group.Query{Where: where, Unit: results.NsPerOp, X: "link", Line: "variant"},
		each:  []string{"data"},
	}
}

func deltaBars(name, title string, y plot.Axis, where group.Selector, unit string) figure {
	return figure{
		Name: name, shape: bars,
		Figure: plot.Figure{Title: title, X: plot.Axis{Label: "data"}, Y: y},
		query:  group.Query{Where: where, Unit: unit, X: "data", Line: "variant"},
	}
}

func changeLists() section {
	return section{
		Experiment: "D2", Title: "Lists of what changed",
		Says: "What changed between two snapshots is one range of the index, so that its cost follows the changes and not the volume or its other exceptions.",
		figures: []figure{{
			Name: "d2-list",
			Figure: plot.Figure{
				Title: "Time of a list by how many chunks changed", X: plot.Axis{Label: "changed chunks", Scale: plot.Log},
				Y: plot.Axis{Label: "time of a list", Unit: results.NsPerOp},
			},
			query: group.Query{Where: group.Selector{"experiment": "D2", "op": "list"}, Unit: results.NsPerOp, X: "changed", Line: "exceptions"},
		}},
	}
}

func deltaStreams() section {
	return section{
		Experiment: "D3", Title: "Raw deltas and apply",
		Says: "A raw delta of all of a volume, from memory over a Unix socket to a file, and from a file to another, with all checksums, against writing the same bytes. Files are flushed.",
		figures: []figure{{
			Name: "d3-carry", shape: bars,
			Figure: plot.Figure{
				Title: "Carrying and applying raw deltas", X: plot.Axis{Label: "operation"},
				Y: plot.Axis{Label: "speed against writing the bytes", Unit: "x"}, References: goal(0.8, "goal for the stream: at least 0.8x"),
			},
			query: group.Query{Where: group.Selector{"experiment": "D3"}, Unit: results.NsPerOp, As: group.Speed,
				Against: group.Selector{"variant": "write"}, X: "op", Line: "variant"},
			apart: "memory-copy",
		}},
	}
}

func replicationCuts() section {
	return section{
		Experiment: "D4", Title: "Cuts of replication",
		Says: "Connections are cut after any byte and senders and receivers killed, on machines in memory, while snapshots of a volume in use are replicated; each copy is compared with what it is to be.",
		figures: []figure{{
			Name: "d4-cuts", shape: bars,
			Figure: plot.Figure{
				Title: "Faults of replication that were survived", X: plot.Axis{Label: "operation"},
				Y: plot.Axis{Label: "faults a round"},
			},
			query: group.Query{Where: group.Selector{"experiment": "D4"}, Unit: goals.Faults, X: "op", Line: "variant"},
		}},
	}
}
