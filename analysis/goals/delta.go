// SPDX-License-Identifier: Apache-2.0

package goals

import (
	"zumastor.org/zumastor/analysis/group"
	"zumastor.org/zumastor/results"
)

// Units of samples of deltas.
const (
	// DeltaBytes is the size of a delta.
	DeltaBytes = "B"
	// DeltaShare is that by what changed.
	DeltaShare = "share"
	// MemoryMiB is the most that either side of best had resident, in MiB.
	MemoryMiB = "best-MiB"
	// The others relate best to another way, of the same data in the same round.
	AgainstSmallest    = "of-smallest-codec"
	AgainstGzip        = "of-gzip"
	BytesAgainstXdelta = "of-xdelta3-bytes"
	SpeedAgainstXdelta = "of-xdelta3-speed"
	BytesAgainstPatch  = "of-patch-from-bytes"
	MemoryAgainstPatch = "of-patch-from-memory"
	// ToldAgainstZstd is the longest replication of best that was told the link's
	// speed, by that of zstd over the same link.
	ToldAgainstZstd = "of-zstd-replication"
	// Faults counts cut connections, and ends of either side, during replication.
	Faults = "faults"
	// Corrupted counts copies that were not as they are to be.
	Corrupted = "corrupted-copies"
	// CarriedAgain is the most records that were carried again although they had been written.
	CarriedAgain = "records-carried-again"
)

// deltas are the goals of deltas, on data that evolves in place.
func deltas() []Goal {
	best := func(name, what string, most float64, unit string) Goal {
		return amount(name, what, most, "x", unit, group.Selector{"experiment": "D1", "op": "compare"})
	}
	speed := best("delta-vs-xdelta3-speed", "best: speed of making a delta against xdelta3 -9", 3, SpeedAgainstXdelta)
	speed.Comparison = AtLeast
	memory := best("delta-memory", "memory of either side of best: the whole process at its fullest", 256, MemoryMiB)
	memory.Unit = "MiB"
	list := amount("changelist", "list of 1,000 changed chunks in a volume of 19 TiB, 10 million exceptions", 10, "ms", results.NsPerOp,
		group.Selector{"experiment": "D2", "op": "list", "exceptions": "10000000", "changed": "1000"})
	list.Scale = 1e-6
	linear := cost("changelist-linear", "list of 10,000 changed chunks against one of 1,000", 11,
		group.Selector{"experiment": "D2", "op": "list", "changed": "10000"}, group.Selector{"changed": "1000"})
	carry := func(variant string) group.Selector {
		return group.Selector{"experiment": "D3", "op": "carry", "variant": variant}
	}
	writing := group.Selector{"variant": "write"}
	cuts := func(name, what string, most float64, unit, sampleUnit string) Goal {
		return amount(name, what, most, unit, sampleUnit, group.Selector{"experiment": "D4"})
	}
	faults := cuts("replication-faults", "cuts of the connection and kills of either side during a replication of a volume in use, in a round", 200, "faults", Faults)
	faults.Comparison = AtLeast
	return []Goal{
		list.bound("one range of the change tree is read; other snapshots each time, not in the store's cache"),
		linear.bound("ten times as much changed"),
		best("delta-vs-smallest", "best: bytes against the smallest single codec", 1.005, AgainstSmallest),
		best("delta-vs-gzip", "best: bytes against gzip alone, of the changed chunks", 0.9, AgainstGzip),
		best("delta-vs-patch-from", "best: bytes against zstd --patch-from of the whole images", 1.6, BytesAgainstPatch).
			bound("zstd has all of both images in memory and cannot stream"),
		best("delta-vs-patch-from-memory", "best: memory against zstd --patch-from of the whole images", 0.25, MemoryAgainstPatch).
			bound("zstd's grows with the image, ours does not: it is the larger the smaller the volume"),
		speed.bound("passed time, ours on all processors, from changed chunks that the index lists; xdelta3 reads the whole images"),
		best("delta-vs-xdelta3-bytes", "best: bytes against xdelta3 -9", 1, BytesAgainstXdelta),
		best("delta-told-vs-zstd", "best told the link's speed: time of a replication against zstd alone, the worst of all links", 1.05, ToldAgainstZstd).
			bound("what is learned costs some trials"),
		memory.bound("Go's garbage is in it"),
		ratio("delta-raw-stream", "raw stream, both ends on this machine, against writing the same bytes to the same file", 0.8, carry("raw-stream"), writing).
			bound("all bytes are copied five times and summed twice, by the same two processors as what they are compared with"),
		ratio("delta-apply", "apply against writing the same bytes", 0.9, carry("apply"), writing).
			bound("a BLAKE3 of all, and two copies for one"),
		faults.bound("at any byte either way; receivers also lose power"),
		cuts("replication-corrupted", "copies that were not as they are to be after a fault", 0, "copies", Corrupted),
		cuts("replication-resume", "records carried again by a session although they had been written before the fault", 1, "records", CarriedAgain).
			bound("losses of power are not counted: they cost what was not flushed"),
	}
}
