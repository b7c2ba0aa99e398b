// SPDX-License-Identifier: Apache-2.0

// Package mark shows where a process is to probes that are attached from outside.
//
// It owns functions that do nothing: the begin and the end of each stage of the
// engine. Uprobes (harness/probe, or any other tool) are attached to them by name;
// without one, a mark costs a call, some nanoseconds. They are never inlined, and
// nothing else may be done here. The stages' own packages call them, begin and end
// in one goroutine, which is how a probe joins the two; they may be called at any
// time and do not fail. Names and arguments are an interface: package probe has the
// list of them.
package mark

import "math/rand/v2"

// Every is how many requests there are for one that is marked, on average.
const Every = 16

// Sampled reports whether to mark a request whose own cost is near that of a
// probe: one of [Every], at random.
func Sampled() bool { return rand.Uint32()%Every == 0 }

// WriteBegin begins a write to the origin, as its user sees it; WriteEnd ends it.
// They are sampled.
//
//go:noinline
func WriteBegin(bytes uint64) {}

//go:noinline
func WriteEnd() {}

// ReadBegin begins a read of the origin, ReadEnd ends it. They are sampled.
//
//go:noinline
func ReadBegin(bytes uint64) {}

//go:noinline
func ReadEnd() {}

// CopyBegin begins the wait of a first write for the copy-out of chunks, CopyEnd
// ends it.
//
//go:noinline
func CopyBegin(chunks uint64) {}

//go:noinline
func CopyEnd() {}

// LeaseBegin begins asking the server for slots, LeaseEnd ends it.
//
//go:noinline
func LeaseBegin(slots uint64) {}

//go:noinline
func LeaseEnd() {}

// BatchBegin begins a batch of at most chunks: its slots, and the reads of the old
// content. BatchEnd ends it: the batch is ready to be committed.
//
//go:noinline
func BatchBegin(chunks uint64) {}

//go:noinline
func BatchEnd() {}

// CommitBegin begins to make a batch of chunks durable, CommitEnd ends it.
//
//go:noinline
func CommitBegin(chunks uint64) {}

//go:noinline
func CommitEnd() {}

// ReportBegin begins to tell the server of a batch of chunks, ReportEnd ends it.
//
//go:noinline
func ReportBegin(chunks uint64) {}

//go:noinline
func ReportEnd() {}

// CheckpointBegin begins to write a checkpoint of dirty pages, CheckpointEnd ends
// it.
//
//go:noinline
func CheckpointBegin(pages uint64) {}

//go:noinline
func CheckpointEnd() {}

// MapBegin begins to look up where chunks of a snapshot are, MapEnd ends it.
//
//go:noinline
func MapBegin(chunks uint64) {}

//go:noinline
func MapEnd() {}

// EncodeBegin begins to code an extent of a delta, EncodeEnd ends it.
//
//go:noinline
func EncodeBegin(bytes uint64) {}

//go:noinline
func EncodeEnd() {}

// DecodeBegin begins to decode an extent of a delta, DecodeEnd ends it.
//
//go:noinline
func DecodeBegin(bytes uint64) {}

//go:noinline
func DecodeEnd() {}
