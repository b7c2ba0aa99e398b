// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"maps"

	"zumastor.org/zumastor/analysis/goals"
	"zumastor.org/zumastor/analysis/group"
	"zumastor.org/zumastor/analysis/plot"
	"zumastor.org/zumastor/analysis/quantity"
	"zumastor.org/zumastor/results"
)

// section is one experiment in the report.
type section struct {
	Experiment string
	Title      string
	// Says is what the experiment shows; Modelled replaces it for modelled
	// samples.
	Says, Modelled string
	figures        []figure
}

type shape uint8

const (
	lines shape = iota
	bars
	percentiles
)

// figure is a chart and the samples that it is made of.
type figure struct {
	// Name is the file's name without kind and extension.
	Name string
	plot.Figure
	shape shape
	query group.Query
	// each lists keys, of whose every combination of values found there is a
	// figure of its own.
	each []string
	// goalOf chooses the settings to which the figure's references apply, nil for
	// all: the goal of a model is no goal for measured numbers.
	goalOf group.Selector
	// apart is a line that only the table has: it would squash the others.
	apart string
}

// split returns a figure for each combination of values of the keys in each.
func (f figure) split(set results.Set) []figure {
	var out []figure
	seen := map[string]bool{}
	for s := range set.Filter(f.query.Where.Match).All() {
		if f.query.As != group.Absolute && f.query.Against.Match(s) {
			continue // a baseline: it may lack keys, and belongs to every figure
		}
		g := f
		g.query.Where = maps.Clone(f.query.Where)
		for _, key := range f.each {
			v := s.Config.Get(key)
			g.query.Where[key] = v
			if v != "" {
				g.Name += "-" + key + v
				g.Subtitle = joined(g.Subtitle, settingText(key, v))
			}
		}
		if !f.goalOf.Match(s) {
			g.References = nil
		}
		if g.query.X == "model" && set.Kind() == results.Measured {
			g.query.X, g.X.Label = "op", "operation"
		}
		if !seen[g.Name] {
			seen[g.Name] = true
			out = append(out, g)
		}
	}
	return out
}

func joined(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + ", " + b
}

// settingText says a setting in words.
func settingText(key, value string) string {
	switch key {
	case "chunk":
		return quantity.Bytes(value) + " chunks"
	case "qd":
		return "queue depth " + value
	case "model":
		return value + " model"
	}
	return fmt.Sprintf("%s %s", key, value)
}

func goal(v float64, text string) []plot.Reference { return []plot.Reference{{Value: v, Label: text}} }

// sections returns the experiments in the order of the report. The same ones
// serve both kinds; a figure appears where there are samples for it.
func sections() []section {
	return []section{nsnaps(), chunkSize(), placement(), originRead(), manySnapshots(), depth(), snapshotIO(), ownServer(), scale(), crashes(), kills(), gate(), peer(), fioClient(), deltas(), changeLists(), deltaStreams(), replicationCuts(), kernelTarget()}
}

func nsnaps() section {
	return section{
		Experiment: "E1", Title: "Untar with snapshots held",
		Says:     "A recorded untar and sync is replayed with a snapshot between rounds, against the same replay on the raw device. The first snapshot costs the copying; further ones should cost nothing.",
		Modelled: "The same I/O on the models. Synchronous copying moves each chunk three times (read old, write copy, write new), so 3x is its floor on a disk.",
		figures: []figure{{
			Name: "e1-nsnaps",
			Figure: plot.Figure{
				Title: "Slowdown of untar by number of snapshots held", X: plot.Axis{Label: "snapshots held", Scale: plot.Log},
				Y: plot.Axis{Label: "time against raw", Unit: "x"}, References: goal(3.2, "goal for inline: at most 3.2x"),
			},
			query: group.Query{Where: group.Selector{"experiment": "E1"}, Unit: results.NsPerOp, As: group.Cost,
				Against: group.Selector{"variant": "raw"}, X: "snapshots", Line: "variant"},
			each:   []string{"chunk", "model"},
			goalOf: group.Selector{"chunk": "16384", "model": "hdd"},
		}},
	}
}

func chunkSize() section {
	var figures []figure
	for _, op := range []struct{ op, title, name string }{
		{"firstwrite", "Cost of a random 4 KiB first write", "e2-chunk"}, {"sequential", "Cost of a sequential first write", "e2-sequential"},
	} {
		figures = append(figures, figure{
			Name: op.name,
			Figure: plot.Figure{
				Title: op.title + " by chunk size", X: plot.Axis{Label: "chunk size", Scale: plot.Log, Unit: "B"},
				Y: plot.Axis{Label: "time against raw", Unit: "x"},
			},
			query: group.Query{Where: group.Selector{"experiment": "E2", "op": op.op}, Unit: results.NsPerOp, As: group.Cost,
				Against: group.Selector{"variant": "raw"}, X: "chunk", Line: "variant"},
			each: []string{"qd", "model"},
		})
	}
	return section{
		Experiment: "E2", Title: "Chunk size",
		Says:    "Small chunks copy little for a small random write; large ones need fewer exceptions and seeks.",
		figures: figures,
	}
}

func placement() section {
	against := group.Selector{"variant": "nvram"}
	return section{
		Experiment: "E3", Title: "Where metadata becomes durable",
		Says:     "Is NVRAM needed? Inline puts the commit record into the write that carries the copied chunks, so it should come near to a store with NVRAM.",
		Modelled: "The same question on each device model, where the difference is exact.",
		figures: []figure{{
			Name: "e3-placement", shape: bars,
			Figure: plot.Figure{
				Title: "Speed of first writes by placement, against NVRAM", X: plot.Axis{Label: "device"},
				Y: plot.Axis{Label: "speed against nvram", Unit: "x"}, References: goal(0.95, "goal for inline: at least 0.95x"),
			},
			query: group.Query{Where: group.Selector{"experiment": "E3", "op": "firstwrite"}, Unit: results.NsPerOp, As: group.Speed,
				Against: against, X: "model", Line: "variant"},
			each:  []string{"chunk"},
			apart: "raw",
		}},
	}
}

func originRead() section {
	return section{
		Experiment: "E4", Title: "Reading the origin",
		Says: "Reads of the origin never ask the index, so their speed is that of the raw device however many snapshots there are.",
		figures: []figure{
			{
				Name: "e4-read",
				Figure: plot.Figure{
					Title: "Origin read by number of snapshots held", X: plot.Axis{Label: "snapshots held", Scale: plot.Log},
					Y: plot.Axis{Label: "speed against raw", Unit: "x"}, References: goal(0.98, "goal: at least 0.98x"),
				},
				query: group.Query{Where: group.Selector{"experiment": "E4", "op": "read"}, Unit: results.NsPerOp, As: group.Speed,
					Against: group.Selector{"variant": "raw"}, X: "snapshots", Line: "variant"},
				each: []string{"qd", "model"},
			},
		},
	}
}

func manySnapshots() section {
	var figures []figure
	for _, op := range []struct{ op, title string }{
		{"create", "Creating a snapshot"}, {"firstwrite", "First write"}, {"read", "Reading a snapshot"}, {"delete", "Deleting a snapshot"},
	} {
		figures = append(figures, figure{
			Name: "e5-" + op.op,
			Figure: plot.Figure{
				Title: op.title + " by number of snapshots", X: plot.Axis{Label: "snapshots held", Scale: plot.Log},
				Y: plot.Axis{Label: "time an operation", Unit: results.NsPerOp},
			},
			query: group.Query{Where: group.Selector{"experiment": "E5", "op": op.op}, Unit: results.NsPerOp, X: "snapshots", Line: "variant"},
			each:  []string{"model"},
		})
	}
	figures = append(figures, figure{
		Name: "e5-space",
		Figure: plot.Figure{
			Title: "Metadata an exception, by volume size", X: plot.Axis{Label: "volume", Scale: plot.Log, Unit: "B"},
			Y: plot.Axis{Label: "bytes on the device", Unit: results.BytesPerException}, References: goal(24, "goal: at most 24 B"),
		},
		query: group.Query{Where: group.Selector{"experiment": "E5", "op": "space"}, Unit: results.BytesPerException, X: "volume", Line: "pattern"},
	})
	return section{
		Experiment: "E5", Title: "Up to 10,000 snapshots",
		Says:    "What one more snapshot costs: to create, to write under, to read and to delete; and what an exception takes.",
		figures: figures,
	}
}

func depth() section {
	var figures []figure
	for _, op := range []struct{ op, title string }{{"firstwrite", "First write"}, {"rewrite", "Rewrite"}} {
		where := group.Selector{"experiment": "E6", "op": op.op}
		figures = append(figures,
			figure{
				Name: "e6-" + op.op,
				Figure: plot.Figure{
					Title: op.title + ", random 4 KiB, by queue depth", X: plot.Axis{Label: "queue depth", Scale: plot.Log},
					Y: plot.Axis{Label: "operations a second", Unit: results.IOPS, Scale: plot.Log},
				},
				query: group.Query{Where: where, Unit: results.IOPS, X: "qd", Line: "variant"},
				each:  []string{"model"},
			},
			figure{
				Name: "e6-latency-" + op.op, shape: percentiles,
				Figure: plot.Figure{Title: op.title + ", random 4 KiB: latency", Y: plot.Axis{Label: "latency"}},
				query:  group.Query{Where: where, Line: "variant"},
				each:   []string{"qd", "model"},
			})
	}
	return section{
		Experiment: "E6", Title: "First write and rewrite by queue depth",
		Says:    "A first write copies the old chunk before it goes on; copybound is the least that this costs. A rewrite of a settled chunk goes straight through and should match raw. Under depth, copies share one flush.",
		figures: figures,
	}
}

func snapshotIO() section {
	return section{
		Experiment: "E7", Title: "Reading and writing snapshots",
		Says: "What a snapshot shares is read from the origin, what was copied out from the store, and whole chunks are written to it without a copy. Each should be near the bare device.",
		figures: []figure{{
			Name: "e7-snapshots",
			Figure: plot.Figure{
				Title: "Snapshot I/O by queue depth", X: plot.Axis{Label: "queue depth", Scale: plot.Log},
				Y: plot.Axis{Label: "speed against raw", Unit: "x"}, References: goal(0.9, "goal for reads: at least 0.9x"),
			},
			query: group.Query{Where: group.Selector{"experiment": "E7"}, Unit: results.NsPerOp, As: group.Speed,
				Against: group.Selector{"variant": "raw"}, X: "qd", Line: "op"},
			each: []string{"chunk"},
		}},
	}
}

func ownServer() section {
	return section{
		Experiment: "E8", Title: "The server in a process of its own",
		Says: "An origin whose metadata server is another process, behind a Unix socket, against the same with the server in its own process. Settled writes ask no server, and the reports of first writes are not waited for.",
		figures: []figure{{
			Name: "e8-server",
			Figure: plot.Figure{
				Title: "Server in another process, by queue depth", X: plot.Axis{Label: "queue depth", Scale: plot.Log},
				Y: plot.Axis{Label: "speed against the embedded server", Unit: "x"}, References: goal(0.95, "goal for first writes: at least 0.95x"),
			},
			query: group.Query{Where: group.Selector{"experiment": "E8", "variant": "inline-server"}, Unit: results.NsPerOp, As: group.Speed,
				Against: group.Selector{"variant": "inline"}, X: "qd", Line: "op"},
			each: []string{"chunk"},
		}},
	}
}

func scale() section {
	return section{
		Experiment: "E9", Title: "Stores of very many exceptions",
		Says: "A store of ten million exceptions in use: how long its check takes, how long a crash holds I/O, what deletions cost who writes meanwhile, and how long they take by how many snapshots share the exceptions: the fewer, the more each frees.",
		figures: []figure{{
			Name: "e9-times", shape: bars,
			Figure: plot.Figure{Title: "Check, recovery and deletion of a snapshot", X: plot.Axis{Label: "operation"}, Y: plot.Axis{Label: "time", Unit: results.NsPerOp}},
			query:  group.Query{Where: group.Selector{"experiment": "E9", "deleting": ""}, Unit: results.NsPerOp, X: "op", Line: "snapshots"},
		}, {
			Name: "e9-foreground", shape: bars,
			Figure: plot.Figure{
				Title: "Settled rewrites while snapshots are deleted", X: plot.Axis{Label: "operation"},
				Y: plot.Axis{Label: "speed against no deletion", Unit: "x"}, References: goal(0.95, "goal: at least 0.95x"),
			},
			query: group.Query{Where: group.Selector{"experiment": "E9", "op": "foreground", "deleting": "yes"}, Unit: results.NsPerOp, As: group.Speed,
				Against: group.Selector{"deleting": "no"}, X: "op", Line: "snapshots"},
		}},
	}
}

func crashes() section {
	return section{
		Experiment: "E10", Title: "Power cuts amid operations",
		Says: "The power of volumes in memory is cut inside every operation: at a write, or the begin or end of a flush, that the devices see from its call to its return, or within a step of its background work; at times again during the recovery; after each cut the store is checked and all is compared with what was promised. A broken promise ends the run.",
		figures: []figure{{
			Name: "e10-crashes", shape: bars,
			Figure: plot.Figure{
				Title: "Power cuts that were survived, by operation", X: plot.Axis{Label: "operation"},
				Y: plot.Axis{Label: "power cuts a round"},
			},
			query: group.Query{Where: group.Selector{"experiment": "E10"}, Unit: goals.Crashes, X: "op", Line: "variant"},
		}},
	}
}

func kills() section {
	return section{
		Experiment: "E11", Title: "Kills of the server",
		Says: "The process of the metadata server is killed under a load that reads back what it writes, with snapshots taken meanwhile; the next process recovers, and what the load held goes on. At the end the origin and all snapshots are compared.",
		figures: []figure{{
			Name: "e11-kills", shape: bars,
			Figure: plot.Figure{
				Title: "From a kill to the next, with the requests of the load between", X: plot.Axis{Label: "operation"},
				Y: plot.Axis{Label: "time", Unit: results.NsPerOp},
			},
			query: group.Query{Where: group.Selector{"experiment": "E11"}, Unit: results.NsPerOp, X: "op", Line: "snapshots"},
		}},
	}
}

func peer() section {
	return section{
		Experiment: "PEER", Title: "Against qemu-nbd with qcow2",
		Says: "The same NBD client on the same device and cache mode, with internal snapshots of qcow2 in place of ours.",
		figures: []figure{{
			Name: "peer", shape: bars,
			Figure: plot.Figure{
				Title: "Random 4 KiB writes over NBD, against qcow2", X: plot.Axis{Label: "operation"},
				Y: plot.Axis{Label: "speed against qcow2", Unit: "x"}, References: goal(1, "goal: at least 1x"),
			},
			query: group.Query{Where: group.Selector{"experiment": "PEER"}, Unit: results.NsPerOp, As: group.Speed,
				Against: group.Selector{"variant": "qcow2"}, X: "op", Line: "variant"},
			each:  []string{"qd"},
			apart: "raw",
		}},
	}
}

func fioClient() section {
	return section{
		Experiment: "FIO", Title: "fio as the client",
		Says: "fio's own jobs on the same exports, behind a new snapshot: each block for the first time in random order, again in another, random reads, a sequential write and read.",
		figures: []figure{{
			Name: "fio", shape: bars,
			Figure: plot.Figure{
				Title: "fio over NBD, against qcow2", X: plot.Axis{Label: "job"},
				Y: plot.Axis{Label: "speed against qcow2", Unit: "x"},
			},
			query: group.Query{Where: group.Selector{"experiment": "FIO"}, Unit: results.NsPerOp, As: group.Speed,
				Against: group.Selector{"variant": "qcow2"}, X: "op", Line: "variant"},
			each:  []string{"qd"},
			apart: "raw",
		}},
	}
}

// kernelTarget is what "zbench lab bench" measures, in virtual machines.
func kernelTarget() section {
	return section{
		Experiment: "LAB", Title: "The kernel's target beside its peers",
		Says: "Device-mapper targets, and this engine in user space over ublk, in a virtual machine whose clock counts instructions: 1 ns each, on one CPU. The devices are in memory, without latency (brd) or with that of a model. Figures compare the length of code and the waits for devices; they are no times of this machine.",
		figures: []figure{{
			Name: "lab-firstwrite",
			Figure: plot.Figure{
				Title: "First write, random 4 KiB, by number of snapshots", X: plot.Axis{Label: "snapshots held", Scale: plot.Log},
				Y: plot.Axis{Label: "speed against dm-snapshot", Unit: "x", Scale: plot.Log},
			},
			query: group.Query{Where: group.Selector{"experiment": "LAB", "op": "firstwrite"}, Unit: results.NsPerOp, As: group.Speed,
				Against: group.Selector{"variant": "snapshot"}, X: "snapshots", Line: "variant"},
			each: []string{"device", "qd"},
		}, {
			Name: "lab-chunk", shape: bars,
			Figure: plot.Figure{
				Title: "First write of whole 64 KiB chunks", X: plot.Axis{Label: "device"},
				Y: plot.Axis{Label: "speed against dm-thin", Unit: "x"}, References: goal(0.4, "goal: at least 0.4x"),
			},
			query: group.Query{Where: group.Selector{"experiment": "LAB", "op": "firstwrite-chunk"}, Unit: results.NsPerOp, As: group.Speed,
				Against: group.Selector{"variant": "thin"}, X: "device", Line: "variant"},
			each: []string{"qd"},
		}, labAgainstLinear("read", "Random 4 KiB reads of the origin", 0.98),
			labAgainstLinear("rewrite", "Rewrite of settled chunks, random 4 KiB", 0.95)},
	}
}

func labAgainstLinear(op, title string, least float64) figure {
	return figure{
		Name: "lab-" + op, shape: bars,
		Figure: plot.Figure{
			Title: title, X: plot.Axis{Label: "how fio submits"},
			Y: plot.Axis{Label: "speed against dm-linear", Unit: "x"}, References: goal(least, fmt.Sprintf("goal: at least %gx", least)),
		},
		query: group.Query{Where: group.Selector{"experiment": "LAB", "op": op}, Unit: results.NsPerOp, As: group.Speed,
			Against: group.Selector{"variant": "linear"}, X: "engine", Line: "variant"},
		each: []string{"qd"},
	}
}
