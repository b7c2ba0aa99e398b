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

// nothing is called by each mark, so that those have a frame and begin, on amd64, with the
// PUSHQ of the frame pointer. The kernel carries that instruction out by itself: a probe on
// it is one trap. Any other, as the RET that would be all there is, it has the processor
// step over, which is another, of several microseconds in a virtual machine.
//
//go:noinline
//go:nosplit
func nothing() {}

// Every is how many requests there are for one that is marked, on average.
const Every = 16

// Sampled reports whether to mark a request whose own cost is near that of a
// probe: one of [Every], at random.
func Sampled() bool { return rand.Uint32()%Every == 0 }

// WriteBegin begins a write to the origin, as its user sees it; WriteEnd ends it.
// They are sampled.
//
//go:noinline
//go:nosplit
func WriteBegin(bytes uint64) { nothing() }

//go:noinline
//go:nosplit
func WriteEnd() { nothing() }

// ReadBegin begins a read of the origin, ReadEnd ends it. They are sampled.
//
//go:noinline
//go:nosplit
func ReadBegin(bytes uint64) { nothing() }

//go:noinline
//go:nosplit
func ReadEnd() { nothing() }

// CopyBegin begins the wait of a first write for the copy-out of chunks, CopyEnd
// ends it.
//
//go:noinline
//go:nosplit
func CopyBegin(chunks uint64) { nothing() }

//go:noinline
//go:nosplit
func CopyEnd() { nothing() }

// LeaseBegin begins asking the server for slots, LeaseEnd ends it.
//
//go:noinline
//go:nosplit
func LeaseBegin(slots uint64) { nothing() }

//go:noinline
//go:nosplit
func LeaseEnd() { nothing() }

// BatchBegin begins a batch of at most chunks: its slots, and the reads of the old
// content. BatchEnd ends it: the batch is ready to be committed.
//
//go:noinline
//go:nosplit
func BatchBegin(chunks uint64) { nothing() }

//go:noinline
//go:nosplit
func BatchEnd() { nothing() }

// CommitBegin begins to make a batch of chunks durable, CommitEnd ends it.
//
//go:noinline
//go:nosplit
func CommitBegin(chunks uint64) { nothing() }

//go:noinline
//go:nosplit
func CommitEnd() { nothing() }

// ReportBegin begins to tell the server of a batch of chunks, ReportEnd ends it.
//
//go:noinline
//go:nosplit
func ReportBegin(chunks uint64) { nothing() }

//go:noinline
//go:nosplit
func ReportEnd() { nothing() }

// CheckpointBegin begins to write a checkpoint of dirty pages, CheckpointEnd ends
// it.
//
//go:noinline
//go:nosplit
func CheckpointBegin(pages uint64) { nothing() }

//go:noinline
//go:nosplit
func CheckpointEnd() { nothing() }

// MapBegin begins to look up where chunks of a snapshot are, MapEnd ends it.
//
//go:noinline
//go:nosplit
func MapBegin(chunks uint64) { nothing() }

//go:noinline
//go:nosplit
func MapEnd() { nothing() }

// EncodeBegin begins to code an extent of a delta, EncodeEnd ends it.
//
//go:noinline
//go:nosplit
func EncodeBegin(bytes uint64) { nothing() }

//go:noinline
//go:nosplit
func EncodeEnd() { nothing() }

// DecodeBegin begins to decode an extent of a delta, DecodeEnd ends it.
//
//go:noinline
//go:nosplit
func DecodeBegin(bytes uint64) { nothing() }

//go:noinline
//go:nosplit
func DecodeEnd() { nothing() }
