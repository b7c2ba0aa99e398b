// SPDX-License-Identifier: Apache-2.0

package goals

import (
	"maps"

	"zumastor.org/zumastor/analysis/group"
	"zumastor.org/zumastor/results"
)

// Hypotheses returns the claims of the seed's slides 5 and 6 in the slides' order, each
// with the test that could refute it.
func Hypotheses() []Hypothesis {
	return append(writeClaims(), deltaClaims()...)
}

func (h Hypothesis) shownBy(figure string) Hypothesis {
	h.Figure = figure
	return h
}

// claim makes a hypothesis of a slide's words, a goal that is their test, and what its threshold is from.
func claim(slide int, words string, from Basis, test Goal) Hypothesis {
	return Hypothesis{Slide: slide, Claim: words, Basis: from, Goal: test}
}

// atLeast turns the goal's side around.
func (g Goal) atLeast() Goal {
	g.Comparison = AtLeast
	return g
}

// with returns the selector with more settings.
func with(s group.Selector, more ...string) group.Selector {
	s = maps.Clone(s)
	for i := 0; i < len(more); i += 2 {
		s[more[i]] = more[i+1]
	}
	return s
}

// writeClaims are those of slide 5, on the performance of writes.
func writeClaims() []Hypothesis {
	raw := group.Selector{"variant": "raw"}
	untar := group.Selector{"experiment": "E1", "chunk": "16384", "model": "hdd", "variant": "inline"}
	flat := claim(5, "write performance does not degrade with the number of snapshots", BasisGoal+"write-1000-vs-1-snapshots",
		cost("H3", "nsnaps on the hard disk model against raw: with 8 snapshots held over with one", 1.03, with(untar, "snapshots", "8"), raw).modelled())
	flat.Over = group.Query{Where: with(untar, "snapshots", "1"), Unit: results.NsPerOp, As: group.Cost, Against: raw}
	first := group.Selector{"op": "firstwrite", "variant": "inline", "qd": "1"}
	covered := claim(5, "partly covered up by NFS slowness", BasisSlide,
		cost("H10", "first write at queue depth 1 against raw: behind a network export (NBD, in NFS's stead) over without one", 0.9, with(first, "experiment", "PEER"), raw))
	covered.Over = group.Query{Where: with(first, "experiment", "E6"), Unit: results.NsPerOp, As: group.Cost, Against: raw}
	chunks := group.Selector{"experiment": "E2", "variant": "inline", "chunk": "262144", "model": "hdd"}
	small := group.Selector{"chunk": "16384"}
	nvram := group.Selector{"experiment": "E3", "op": "firstwrite", "variant": "nvram", "model": "hdd"}
	const bad, larger, placed = "write performance still pretty bad overall", "write performance improves with larger chunk size", "improves a lot with metadata in NVRAM"
	return []Hypothesis{
		claim(5, "origin read performance is great", BasisGoal+"origin-read-vs-raw",
			ratio("H1", "origin read against raw, however many snapshots are held", 0.98, group.Selector{"experiment": "E4", "op": "read", "variant": "inline"}, raw)).
			shownBy("e4-read-qd32-measured"),
		claim(5, flat.Claim, BasisGoal+"write-1000-vs-1-snapshots", medianByNumber("H2")).shownBy("e5-firstwrite-measured"),
		flat.shownBy("e1-nsnaps-chunk16384-modelhdd-modelled"),
		claim(5, larger, BasisValues, ratio("H4", "sequential first writes on the hard disk model: chunks of 256 KiB against 16 KiB", 1, with(chunks, "op", "sequential"), small).modelled()).
			shownBy("e2-sequential-qd32-modelhdd-modelled"),
		claim(5, larger, BasisValues, ratio("H5", "random 4 KiB first writes on the hard disk model: chunks of 256 KiB against 16 KiB", 1, with(chunks, "op", "firstwrite"), small).modelled()).
			shownBy("e2-chunk-qd32-modelhdd-modelled"),
		claim(5, placed, BasisSlide, ratio("H6", "first write on the hard disk model: nvram against disk, the original's placement", 1.5, nvram, group.Selector{"variant": "disk"}).modelled()).
			shownBy("e3-placement-chunk65536-modelled"),
		claim(5, placed, BasisGoal+"inline-vs-nvram-hdd", ratio("H7", "first write on the hard disk model: nvram against inline, this design's placement", 1.05, nvram, group.Selector{"variant": "inline"}).modelled()).
			shownBy("e3-placement-chunk65536-modelled"),
		claim(5, bad, BasisManual, cost("H8", "nsnaps on the hard disk model against raw, placement disk", 5, with(untar, "variant", "disk", "snapshots", "8"), raw).modelled().atLeast()).
			shownBy("e1-nsnaps-chunk16384-modelhdd-modelled"),
		claim(5, bad, BasisManual, cost("H9", "nsnaps on the hard disk model against raw, placement inline", 5, with(untar, "snapshots", "8"), raw).modelled().atLeast()).
			shownBy("e1-nsnaps-chunk16384-modelhdd-modelled"),
		covered.shownBy("peer-qd1-measured"),
	}
}

// medianByNumber tests that a write's median time does not depend on the number of snapshots.
func medianByNumber(name string) Goal {
	g := cost(name, "median latency of a first write: 1,000 snapshots against one", 1.03,
		group.Selector{"experiment": "E5", "op": "firstwrite", "variant": "inline", "snapshots": "1000"}, group.Selector{"snapshots": "1"})
	g.Query.Unit = results.P50
	return g
}

// deltaClaims are those of slide 6, on the compression of deltas.
func deltaClaims() []Hypothesis {
	raw := group.Selector{"variant": "raw"}
	plain := group.Selector{"experiment": "D1", "level": "default", "extent": "1048576", "told": ""}
	sent := func(variant, link string) group.Selector {
		return with(plain, "op", "replicate", "variant", variant, "link", link)
	}
	made := func(variant string) group.Selector { return with(plain, "op", "encode", "variant", variant) }
	size := func(name, what string, most float64, where, against group.Selector) Goal {
		g := cost(name, what, most, where, against)
		g.Query.Unit = DeltaBytes
		return g
	}
	equates := func(name, variant string) Hypothesis {
		h := claim(6, "delta size equates to replication time", BasisValues,
			cost(name, variant+" against raw on a link of 10 Mbit/s: replication time over size", 1.1, sent(variant, "10"), raw))
		h.Over = size("", "", 0, made(variant), raw).Query
		return h.shownBy("d1-replication-datasqlite-measured")
	}
	whole := func(name, what string, threshold float64, unit string) Goal {
		return amount(name, what, threshold, "x", unit, group.Selector{"experiment": "D1", "op": "compare"})
	}
	memory := whole("H15", "memory of either side, the whole process at its fullest", 256, MemoryMiB)
	memory.Unit = "MiB"
	const payoff, extents = "compression is a big payoff for slow links", "extent oriented, needs big chunks to work on"
	return []Hypothesis{
		equates("H11", "zlib"),
		equates("H12", "best"),
		claim(6, payoff, BasisSlide, ratio("H13", "replication with zlib against raw on a link of 1 Mbit/s", 2, sent("zlib", "1"), raw)).shownBy("d1-replication-datasqlite-measured"),
		claim(6, extents, BasisValues, size("H14", "size of a delta, best: extents of 64 KiB against 1 MiB", 1.05, with(made("best"), "extent", "65536"), group.Selector{"extent": "1048576", "told": ""}).atLeast()).
			shownBy("d1-extent-datasqlite-measured"),
		claim(6, "but still needs to stream", BasisGoal+"delta-memory", memory).shownBy("d1-memory-measured"),
		claim(6, "zlib (gzip) for compression", BasisSlide, size("H16", "size of a delta: zlib against zstd", 1, made("zlib"), group.Selector{"variant": "zstd"})).shownBy("d1-size-measured"),
		claim(6, "xdelta for binary differencing", BasisSlide, whole("H17", "best against xdelta3 -9: no smaller", 1, BytesAgainstXdelta).atLeast()).shownBy("d1-peers-measured"),
		claim(6, "try both and pick the best", BasisGoal+"delta-vs-smallest", whole("H18", "best against the smallest single codec", 1.005, AgainstSmallest)).shownBy("d1-size-measured"),
	}
}
