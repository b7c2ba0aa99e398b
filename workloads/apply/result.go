// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"zumastor.org/zumastor/workloads"
)

// Bounds of the latency histograms, in nanoseconds, and their precision.
const (
	MinLatency        = 1
	MaxLatency        = int64(time.Hour)
	SignificantDigits = 3
)

// Result is what one run did. The zero value is an empty one.
type Result struct {
	// Elapsed is the wall clock from the first op's start to the last one's end;
	// zero from Replay, whose caller reads the model's clock.
	Elapsed time.Duration
	// ByKind is indexed by workloads.Kind.
	ByKind [workloads.Kinds]Counts
}

// Counts is what a run did of one kind of op.
type Counts struct {
	Ops   int64
	Bytes int64
	// Latency holds nanoseconds, with SignificantDigits, up to MaxLatency, where
	// longer ones are put. Nil when no latency was measured.
	Latency *hdrhistogram.Histogram
}

// Ops returns the number of ops of all kinds.
func (r Result) Ops() int64 {
	var n int64
	for _, c := range r.ByKind {
		n += c.Ops
	}
	return n
}

// Bytes returns the length of all reads and writes together.
func (r Result) Bytes() int64 {
	return r.ByKind[workloads.Read].Bytes + r.ByKind[workloads.Write].Bytes
}

// OpsPerSecond returns the rate of reads and writes, zero without Elapsed.
func (r Result) OpsPerSecond() float64 {
	if r.Elapsed <= 0 {
		return 0
	}
	return float64(r.ByKind[workloads.Read].Ops+r.ByKind[workloads.Write].Ops) / r.Elapsed.Seconds()
}

// BytesPerSecond returns the rate of reads and writes, zero without Elapsed.
func (r Result) BytesPerSecond() float64 {
	if r.Elapsed <= 0 {
		return 0
	}
	return float64(r.Bytes()) / r.Elapsed.Seconds()
}

// NewLatency returns an empty histogram of the kind that Counts holds.
func NewLatency() *hdrhistogram.Histogram {
	return hdrhistogram.New(MinLatency, MaxLatency, SignificantDigits)
}

func (r *Result) add(op workloads.Op) {
	c := &r.ByKind[op.Kind]
	c.Ops++
	c.Bytes += op.Len
}

func (r *Result) record(k workloads.Kind, latency time.Duration) {
	c := &r.ByKind[k]
	if c.Latency == nil {
		c.Latency = NewLatency()
	}
	// The value is within bounds, which is all that RecordValue may object to.
	_ = c.Latency.RecordValue(min(max(int64(latency), MinLatency), MaxLatency))
}
