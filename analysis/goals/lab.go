// SPDX-License-Identifier: Apache-2.0

package goals

import (
	"fmt"

	"zumastor.org/zumastor/analysis/group"
)

// Units of samples of the lab.
const (
	// Held is how many writes the kernel's target held for its copier.
	Held = "held"
	// CodeLines is lines of code.
	CodeLines = "lines"
)

// kernelTarget are the goals of the kernel's target, measured by zbench lab bench.
func kernelTarget() []Goal {
	of := func(op string, more ...string) group.Selector {
		s := group.Selector{"experiment": "LAB", "op": op, "variant": "ddsnap"}
		for i := 0; i < len(more); i += 2 {
			s[more[i]] = more[i+1]
		}
		return s
	}
	linear := group.Selector{"variant": "linear"}
	thin := group.Selector{"variant": "thin"}
	list := []Goal{
		ratio("dm-read", "kernel target: origin read against dm-linear", 0.98, of("read"), linear).
			bound("one counter of the CPU more than dm-linear, and no bit is looked at"),
		ratio("dm-rewrite", "kernel target: rewrite of settled chunks, random 4 KiB, against dm-linear", 0.95, of("rewrite"), linear).
			bound("a reference of a counter of the CPU, and the chunk's bit"),
		amount("dm-rewrite-held", "kernel target: rewrites of settled chunks that were held, for an upcall or a copy", 0, "writes", Held, of("rewrite-held")),
	}
	list = append(list, againstSnapshot(of)...)
	many := cost("dm-many", "kernel target: first write, random 4 KiB, brd, with 1,000 snapshots against 1", 1.03,
		of("many", "snapshots", "1000"), group.Selector{"snapshots": "1"}).
		bound("a write looks at the newest generation only, however many there are")
	size := amount("dm-size", "kernel target: lines of C, without blank ones and comments", 3000, "lines", CodeLines, of("size")).
		bound("snapshot reads and writes, leases, the batches' log and the channel to the server are in the kernel")
	return append(list,
		ratio("dm-firstwrite-thin", "kernel target: first write, random 4 KiB, 64 KiB chunks, against dm-thin, 1 snapshot", 1, of("firstwrite", "snapshots", "1"), thin).
			bound("both read and write a chunk; ours writes the batch's record with the copies, and flushes nothing of its own"),
		ratio("dm-fullchunk-thin", "kernel target: first write of full 64 KiB chunks against dm-thin, 1 snapshot", 0.4, of("firstwrite-chunk"), thin).
			bound("dm-thin redirects a write of a whole block and copies nothing; ours reads and writes the old chunk before"),
		many, size,
		cost("dm-nsnaps", "kernel target: a tree unpacked with a snapshot before each round against dm-linear, one disk of 8 ms a request, 16 KiB chunks", 3.3, of("nsnaps"), linear).
			bound("three transfers for one (read old, write copy, write new); the disk has no seeks"))
}

// againstSnapshot are the goals of first writes against dm-snapshot. On a device
// without latency, what counts is the length of the code and the copying of bytes.
func againstSnapshot(of func(string, ...string) group.Selector) []Goal {
	var list []Goal
	for _, d := range []struct {
		name  string
		least [3]float64
	}{{"brd", [3]float64{1, 2.5, 8}}, {"nvme", [3]float64{1.5, 4, 12}}, {"ssd", [3]float64{1.5, 4, 12}}, {"hdd", [3]float64{1.5, 4, 12}}} {
		for i, n := range []string{"1", "4", "16"} {
			why := "dm-snapshot copies a chunk once for each snapshot, ours once"
			if n == "1" {
				why = "both copy a chunk once: three waits for the device against four, and at depth 16 the same bytes"
			}
			list = append(list, ratio(fmt.Sprintf("dm-firstwrite-%s-%s", d.name, n),
				fmt.Sprintf("kernel target: first write, random 4 KiB, 64 KiB chunks, %s, against dm-snapshot, snapshots: %s", d.name, n),
				d.least[i], of("firstwrite", "device", d.name, "snapshots", n), group.Selector{"variant": "snapshot"}).
				bound(why))
		}
	}
	return list
}
