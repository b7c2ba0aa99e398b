// SPDX-License-Identifier: Apache-2.0

package goals

import (
	"slices"

	"zumastor.org/zumastor/analysis/group"
	"zumastor.org/zumastor/results"
)

// Units of samples that only goals ask for.
const (
	// BeyondFlush is the time of an operation less that of the flushes in it,
	// in nanoseconds.
	BeyondFlush = "beyond-flush-ns"
	// CacheUse is the most bytes that the page cache ever held, divided by its
	// configured limit.
	CacheUse = "cache-use"
	// PeakBytes is the most memory that a process of its own ever had resident.
	PeakBytes = "peak-B"
	// FreedExceptions is how many a deletion has freed.
	FreedExceptions = "freed-exceptions"
	// FreedPerSecond is that by the time that it took.
	FreedPerSecond = "freed/s"
	// Crashes counts power cuts after which all that was promised was there.
	Crashes = "crashes"
	// Kills counts how often the server's process was killed.
	Kills = "kills"
	// FailedRequests counts those of a load that failed meanwhile.
	FailedRequests = "failed-requests"
	// WrongContents counts volumes and snapshots that were not what they are to be.
	WrongContents = "wrong-contents"
	// FalseAlarms counts comparisons of equal builds that found a difference.
	FalseAlarms = "false-alarms"
	// CaughtShare is the share of comparisons with a slower build that found it.
	CaughtShare = "caught-share"
)

// CrashVerbs is how many verbs, ops of the experiment, the goal of crashes is about.
const CrashVerbs = 9

// ratio is a goal on throughput against a baseline.
func ratio(name, what string, least float64, where, against group.Selector) Goal {
	return Goal{
		Name: name, What: what, Comparison: AtLeast, Threshold: least, Unit: "x", Kind: results.Measured,
		Query: group.Query{Where: where, Unit: results.NsPerOp, As: group.Speed, Against: against},
	}
}

// cost is a goal on time against a baseline.
func cost(name, what string, most float64, where, against group.Selector) Goal {
	g := ratio(name, what, most, where, against)
	g.Comparison, g.Query.As = AtMost, group.Cost
	return g
}

// amount is a goal on a value as it is.
func amount(name, what string, most float64, unit, sampleUnit string, where group.Selector) Goal {
	return Goal{
		Name: name, What: what, Comparison: AtMost, Threshold: most, Unit: unit, Kind: results.Measured,
		Query: group.Query{Where: where, Unit: sampleUnit},
	}
}

func (g Goal) bound(text string) Goal {
	g.Bound = text
	return g
}

func (g Goal) modelled() Goal {
	g.Kind = results.Modelled
	return g
}

// All returns the goals in the order in which they are shown.
func All() []Goal {
	return slices.Concat(dataPath(), placements(), snapshotsAndPeers(), snapshotIO(), ownServer(), probes(), scale(), crashes(), deltas(), kernelTarget(), gate())
}

func ownServer() []Goal {
	of := func(op string) group.Selector {
		return group.Selector{"experiment": "E8", "op": op, "variant": "inline-server"}
	}
	first := of("firstwrite")
	first["qd"] = "32"
	embedded := group.Selector{"variant": "inline"}
	killed := func(name, what string, most float64, unit, sampleUnit string) Goal {
		return amount(name, what, most, unit, sampleUnit, group.Selector{"experiment": "E11"})
	}
	kills := killed("server-kills", "kills of the server's process under an origin that is written to and read back, in a round", 50, "kills", Kills)
	kills.Comparison = AtLeast
	return []Goal{
		kills,
		killed("server-kills-failed", "requests that failed meanwhile", 0, "requests", FailedRequests).
			bound("I/O that needs the server is held until the next one has recovered"),
		killed("server-kills-wrong", "contents that were wrong: reads, the origin at the end, and snapshots taken meanwhile", 0, "contents", WrongContents),
		ratio("server-rewrite", "rewrite of settled chunks with the server in another process against the embedded one", 0.99, of("rewrite"), embedded).
			bound("a settled write asks no server; what is left is the noise of two measurements"),
		ratio("server-firstwrite", "first write, queue depth 32, with the server in another process against the embedded one", 0.95, first, embedded).
			bound("a report is one message that is not waited for, and leases are asked for ahead"),
	}
}

func probes() []Goal {
	return []Goal{cost("probe-overhead", "rewrite of settled chunks with eBPF probes on block devices, stages and threads against without", 1.03,
		group.Selector{"experiment": "E13", "op": "rewrite", "variant": "inline-probes"}, group.Selector{"variant": "inline"}).
		bound("two tracepoints a request of the device, four a context switch; one of 16 writes is marked")}
}

func scale() []Goal {
	of := func(op string) group.Selector {
		return group.Selector{"experiment": "E9", "op": op, "exceptions": "10000000"}
	}
	check := amount("online-check-seconds", "check of a store in use, 10 million exceptions, metadata", 60, "s", results.NsPerOp, of("check")).
		bound("every page of the trees is read and decoded once; the page cache is dropped, the host's is not")
	memory := amount("online-check-mib", "memory of that check: the whole process at its fullest", 256, "MiB", PeakBytes, of("check")).
		bound("two bits a slot and one a tree page, and the run time of Go")
	recovery := amount("recovery-seconds", "longest hold of I/O, from a crash until the first write after it, 10 million exceptions", 2, "s", results.NsPerOp, of("recovery")).
		bound("killed when the log is nearly as long as checkpoints let it become, a record a write; the page cache is dropped, the host's is not; a page of the trees is read for each chunk in the log")
	check.Scale, memory.Scale, recovery.Scale = 1e-9, 1.0/(1<<20), 1e-9
	deleting := of("foreground")
	deleting["deleting"] = "yes"
	loaded := amount("delete-rate-loaded", "exceptions that deletions free a second under the load of delete-foreground", 500, "/s", FreedPerSecond, deleting)
	loaded.Comparison = AtLeast
	return []Goal{check, memory, recovery,
		ratio("delete-foreground", "rewrite of settled chunks while snapshots of 1,000 are deleted against without, 10 million exceptions", 0.95,
			deleting, group.Selector{"deleting": "no"}).
			bound("what is freed is freed in small steps; reads and writes of tree pages share the device"),
		loaded.bound("the least rate, 1,000 in the long run (--delete-rate): each slice begins a deletion, which has to find its pace"),
	}
}

func crashes() []Goal {
	survived := amount("crashes-survived", "power cuts in each of resize, revert, merge, delete, drop, squash and group snapshot, every promise held after each", 1000, "crashes", Crashes,
		group.Selector{"experiment": "E10"})
	survived.Comparison, survived.Settings = AtLeast, CrashVerbs
	return []Goal{survived.bound("a crash inside a verb is a power cut at a write, or at the begin or end of a flush, that the devices see from the verb's call to its return, or within a step of its background work, drawn at random; at times another cut is in the recovery; volumes are in memory; a broken promise ends the run with an error; only the full suite makes as many as the goal asks for")}
}

func gate() []Goal {
	of := func(name, what string, threshold float64, c Comparison, unit, sampleUnit, op string) Goal {
		g := amount(name, what, threshold, unit, sampleUnit, group.Selector{"experiment": "E12", "op": op})
		g.Comparison = c
		return g
	}
	return []Goal{
		of("gate-false-alarms", "differences that the gate by wall-clock time finds between equal builds, in 20 comparisons", 0, AtMost, "alarms", FalseAlarms, "same").
			bound("an alarm wants 5 % and p below 0.01 by the number of benchmarks"),
		of("gate-caught", "comparisons with a build that is slower by 10 % in wall-clock time in which the gate finds it", 0.9, AtLeast, "x", CaughtShare, "slowed").
			bound("both sides run in turns on one processor; a sample is the fastest of short repetitions"),
		of("gate-exact", "5 % more writes planted below the engine, found by the exact counters", 1, AtLeast, "x", CaughtShare, "exact").
			bound("counters have no tolerance: one more write is found"),
		of("gate-history-false-alarms", "changes that the check of the history finds in 20 runs of one build", 0, AtMost, "alarms", FalseAlarms, "history-same").
			bound("a run is a comparison of equal builds; a change wants 5 % and p below 0.01 by the number of metrics"),
		of("gate-history-caught", "orders of 20 such runs and 5 of a build that is slower by 10 % in which the history shows where it got worse, and nothing else", 0.9, AtLeast, "x", CaughtShare, "history-slowed").
			bound("a change point has to be found in every benchmark, at the first run of the slower build or the next"),
	}
}

func snapshotIO() []Goal {
	of := func(op string) group.Selector {
		return group.Selector{"experiment": "E7", "op": op, "variant": "inline"}
	}
	raw := group.Selector{"variant": "raw"}
	return []Goal{
		ratio("snapshot-read-shared", "snapshot read of a never-changed chunk against raw read", 0.9, of("read-shared"), raw).
			bound("the index is asked before and after the read of the origin"),
		ratio("snapshot-read-stored", "snapshot read of a changed chunk against raw read, index in memory", 0.9, of("read-stored"), raw).
			bound("the chunks lie in the store in the order in which they were copied"),
		ratio("snapshot-write", "snapshot write of full chunks against raw write, both flushed", 0.8, of("write-chunk"), raw).
			bound("a lease, a report and one record at the flush; nothing is copied"),
	}
}

func dataPath() []Goal {
	raw := group.Selector{"variant": "raw"}
	rewrite := group.Selector{"experiment": "E6", "op": "rewrite", "variant": "inline"}
	return []Goal{
		ratio("origin-read-vs-raw", "origin read against raw through the same data plane", 0.98,
			group.Selector{"experiment": "E4", "op": "read", "variant": "inline"}, raw).
			bound("an origin read never asks the index; what is left is one call more"),
		ratio("rewrite-vs-raw", "rewrite of settled chunks against raw", 0.95, rewrite, raw).
			bound("the test of the settled bit and the tracking of writes in flight"),
		amount("settled-allocs", "allocations on the path of settled writes", 0, "allocs/op", results.AllocsPerOp, rewrite),
		ratio("firstwrite-vs-copybound", "first write, random 4 KiB, 64 KiB chunks, queue depth 32, inline, against copybound", 0.90,
			group.Selector{"experiment": "E6", "op": "firstwrite", "variant": "inline", "chunk": "65536", "qd": "32"},
			group.Selector{"variant": "copybound"}).
			bound("copybound does the same reads, writes and flushes without index, leases or checksums"),
	}
}

func placements() []Goal {
	inline := group.Selector{"experiment": "E3", "op": "firstwrite", "variant": "inline"}
	goals := []Goal{
		ratio("inline-vs-nvram-measured", "inline on a plain disk against nvram, first write, measured", 0.95,
			inline, group.Selector{"variant": "nvram"}).
			bound("simulated NVRAM costs memory copies only: the strongest opponent"),
	}
	for _, m := range []struct{ model, name, bound string }{
		{"hdd", "hard disk", "both move the old data once; inline adds a descriptor to a write that is made anyway"},
		{"ssd", "SATA SSD", "the flush of a batch, which nvram needs as well for the copied data"},
		{"nvme", "NVMe", "the descriptor's 4 KiB beside each batch"},
	} {
		where := group.Selector{"experiment": "E3", "op": "firstwrite", "variant": "inline", "model": m.model}
		goals = append(goals, ratio("inline-vs-nvram-"+m.model, "inline against nvram, first write, "+m.name+" model", 0.95,
			where, group.Selector{"variant": "nvram"}).modelled().bound(m.bound))
	}
	return goals
}

func snapshotsAndPeers() []Goal {
	create := amount("create-10000th", "creating the 10,000th snapshot, beyond the flush", 5, "ms", BeyondFlush,
		group.Selector{"experiment": "E5", "op": "create", "variant": "inline", "snapshots": "10000"})
	create.Scale = 1e-6
	qcow2 := group.Selector{"variant": "qcow2"}
	median := cost("write-1000-vs-1-median", "the same by the median latency, which the odd slow flush does not move", 1.03,
		group.Selector{"experiment": "E5", "op": "firstwrite", "variant": "inline", "snapshots": "1000"},
		group.Selector{"snapshots": "1"})
	median.Query.Unit = results.P50
	return []Goal{
		cost("write-1000-vs-1-snapshots", "write cost with 1,000 snapshots held against 1", 1.03,
			group.Selector{"experiment": "E5", "op": "firstwrite", "variant": "inline", "snapshots": "1000"},
			group.Selector{"snapshots": "1"}).
			bound("a write looks at the newest generation only, however many there are"),
		median,
		create.bound("a row in the snapshot table and a new generation"),
		cost("nsnaps-hdd-16k", "untar with snapshots between rounds against raw, hard disk model, 16 KiB chunks", 3.2,
			group.Selector{"experiment": "E1", "variant": "inline", "chunk": "16384", "model": "hdd"},
			group.Selector{"variant": "raw"}).modelled().
			bound("three transfers for one (read old, write copy, write new) and the seeks between them; 3x is the floor of synchronous copy-before-write"),
		amount("metadata-per-exception", "metadata bytes an exception on the device", 24, "B", results.BytesPerException,
			group.Selector{"experiment": "E5", "variant": "inline"}).
			bound("an exception at a random chunk is coded in about 14 bytes, its mirror in 3, and pages are two thirds full after random inserts"),
		amount("memory-bounded", "page cache at its fullest against its configured limit", 1, "x", CacheUse,
			group.Selector{"experiment": "E5", "variant": "inline"}),
		ratio("qemu-firstwrite", "random 4 KiB first write against qemu-nbd qcow2 over NBD", 1,
			group.Selector{"experiment": "PEER", "op": "firstwrite", "variant": "inline"}, qcow2),
		ratio("qemu-rewrite", "random 4 KiB rewrite against qemu-nbd qcow2 over NBD", 1,
			group.Selector{"experiment": "PEER", "op": "rewrite", "variant": "inline"}, qcow2),
	}
}
