// SPDX-License-Identifier: Apache-2.0

// Package results owns the record of a benchmark run on disk: the samples, their
// latency histograms, the environment they were taken in, and what of the run is
// done.
//
// It does not measure anything and computes no statistics. The harness writes a
// [Run] while it goes; the analysis reads it through [Set]s, which hold samples
// of one [Kind] only, so that measured and modelled numbers cannot meet in one
// table. A Run belongs to one goroutine and one process at a time; its values
// are not safe for concurrent use, a Set is immutable and may be shared.
//
// Every file is replaced as a whole (temporary file, fsync, rename, fsync of the
// directory), so an interrupted run holds either all samples of a call to
// [Run.Append] or none, and goes on from there after [Open]. A method that fails
// leaves the files as they were.
//
// A run is a directory:
//
//	run.json             what was run, which experiments are complete, warnings
//	environment.json     kernel, processor, memory, file system, tools
//	samples.txt          one line a sample, Go benchmark format
//	histograms.json.zst  latency histograms by sample name, kind and round
//	summary.json         the goals, written by the analysis
//	accounts-E6.json     where the time and the traffic of an experiment went: see Account
//	probes-E6.json       what eBPF probes counted while an experiment ran, if they did
//	figures/ tables/ report.html  made from the above at any time
package results

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Errors that callers decide on.
var (
	// ErrCorrupt is wrapped when a file of a run is not what the format says.
	ErrCorrupt = errors.New("corrupt run record")
	// ErrKind is wrapped when samples of one kind meet those of another.
	ErrKind = errors.New("measured and modelled samples do not mix")
	// ErrSample is wrapped when a sample cannot be recorded.
	ErrSample = errors.New("bad sample")
)

// Kind says where a sample's numbers come from.
type Kind string

// The kinds of samples.
const (
	// Measured numbers are wall-clock times and counters of this machine.
	Measured Kind = "measured"
	// Modelled numbers are exact I/O sequences put through a device model;
	// they are the same on every machine and in every run.
	Modelled Kind = "modelled"
)

// Units that have a meaning of their own in the analysis. Any other unit may be
// recorded beside them.
const (
	// NsPerOp is elapsed time divided by operations, in nanoseconds: the
	// inverse of throughput, not the latency of an operation.
	NsPerOp = "ns/op"
	// IOPS is operations a second.
	IOPS = "IOPS"
	// MBPerSec is 10^6 bytes a second.
	MBPerSec = "MB/s"
	// P50, P99 and P999 are latency percentiles in nanoseconds.
	P50  = "p50-ns"
	P99  = "p99-ns"
	P999 = "p999-ns"
	// AllocsPerOp is heap allocations divided by operations.
	AllocsPerOp = "allocs/op"
	// BytesPerException is metadata bytes on the device an exception.
	BytesPerException = "B/exception"
)

// survived are the units of counts of what a system has come through well.
var survived = []string{"crashes", "faults", "kills"}

// HigherIsBetter says whether a larger value of unit is the better one. It is so for rates,
// ratios of speeds and counts of what was survived; times, sizes and other counts are better when smaller.
func HigherIsBetter(unit string) bool {
	return unit == IOPS || strings.HasSuffix(unit, "/s") || strings.HasSuffix(unit, "-speed") || slices.Contains(survived, unit)
}

// Pair is one setting of a [Config].
type Pair struct{ Key, Value string }

// Config is the settings of a sample in the order in which its name shows them.
// Samples of one series must use one order: the name is their identity.
type Config []Pair

// Conf builds a Config from alternating keys and values. It panics on an odd
// number of arguments.
func Conf(keysAndValues ...string) Config {
	if len(keysAndValues)%2 != 0 {
		panic("results: Conf needs pairs of key and value")
	}
	c := make(Config, 0, len(keysAndValues)/2)
	for i := 0; i < len(keysAndValues); i += 2 {
		c = append(c, Pair{keysAndValues[i], keysAndValues[i+1]})
	}
	return c
}

// Get returns the value of key, or "" if it is not set.
func (c Config) Get(key string) string {
	for _, p := range c {
		if p.Key == key {
			return p.Value
		}
	}
	return ""
}

// With returns a copy of c in which key has value, in its old place or at the end.
func (c Config) With(key, value string) Config {
	c = slices.Clone(c)
	for i := range c {
		if c[i].Key == key {
			c[i].Value = value
			return c
		}
	}
	return append(c, Pair{key, value})
}

// Sample is what one round of one experiment at one setting gave.
type Sample struct {
	// Experiment is the identifier of the experiment, such as "E6". It starts
	// with an upper-case letter.
	Experiment string
	Kind       Kind
	Config     Config
	// Round numbers the repetition from 0. Samples of equal rounds were taken
	// next to each other and are compared in pairs.
	Round int
	// N is the number of operations behind the values.
	N int
	// Values are finite numbers by unit; at least one.
	Values map[string]float64
	// Latency holds the latency of each operation in nanoseconds; may be nil.
	Latency *hdrhistogram.Histogram
}

// Name returns the identity of the sample's series in the Go benchmark format's
// form, without the word Benchmark: "E6/op=rewrite/variant=inline/qd=32".
func (s Sample) Name() string {
	var b strings.Builder
	b.WriteString(s.Experiment)
	for _, p := range s.Config {
		b.WriteString("/" + p.Key + "=" + p.Value)
	}
	return b.String()
}

// NewLatency returns an empty histogram of the range and precision that samples
// use: 100 ns to 10 min, three significant digits, 120 KiB of memory.
func NewLatency() *hdrhistogram.Histogram { return hdrhistogram.New(100, maxLatency, 3) }

// maxLatency is the longest latency a histogram holds, in nanoseconds.
const maxLatency = 600e9

// SetPercentiles sets the values P50, P99 and P999 from the sample's histogram.
// Without a histogram, or with an empty one, it does nothing.
func (s *Sample) SetPercentiles() {
	if s.Latency == nil || s.Latency.TotalCount() == 0 {
		return
	}
	if s.Values == nil {
		s.Values = map[string]float64{}
	}
	for unit, q := range map[string]float64{P50: 50, P99: 99, P999: 99.9} {
		s.Values[unit] = float64(s.Latency.ValueAtQuantile(q))
	}
}

// Validate returns an error wrapping [ErrSample] if s cannot be recorded and read
// back as it is.
func (s Sample) Validate() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w %s: %s", ErrSample, s.Name(), fmt.Sprintf(format, args...))
	}
	switch {
	case s.Kind != Measured && s.Kind != Modelled:
		return bad("kind %q is neither measured nor modelled", s.Kind)
	case s.Experiment == "" || s.Experiment[0] < 'A' || s.Experiment[0] > 'Z' || !isWord(s.Experiment):
		return bad("experiment %q does not start with an upper-case letter or has other than letters, digits and ._+-", s.Experiment)
	case s.Round < 0 || s.N < 1:
		return bad("round %d must not be negative and N %d must be positive", s.Round, s.N)
	case len(s.Values) == 0:
		return bad("it has no values")
	}
	seen := map[string]bool{"experiment": true, "kind": true}
	for _, p := range s.Config {
		if !isWord(p.Key) || !isWord(p.Value) || seen[p.Key] {
			return bad("setting %q=%q is empty, repeated, reserved or has other than letters, digits and ._+-", p.Key, p.Value)
		}
		seen[p.Key] = true
	}
	if looksLikeGomaxprocs(s.Name()) {
		return bad("the name ends in -<number>, which readers of the format take for GOMAXPROCS")
	}
	for unit, v := range s.Values {
		if !isUnit(unit) || math.IsNaN(v) || math.IsInf(v, 0) {
			return bad("value %v of unit %q is not finite or the unit has other than printable ASCII", v, unit)
		}
	}
	return nil
}

func isWord(s string) bool {
	for _, r := range s {
		if !strings.ContainsRune("._+-", r) && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') {
			return false
		}
	}
	return s != ""
}

func isUnit(s string) bool {
	for _, r := range s {
		if r <= ' ' || r > '~' {
			return false
		}
	}
	return s != ""
}

func looksLikeGomaxprocs(name string) bool {
	head := strings.TrimRight(name, "0123456789")
	return head != name && strings.HasSuffix(head, "-")
}

// Set is samples of one kind. The zero value is an empty set of no kind.
type Set struct {
	kind    Kind
	samples []Sample
}

// NewSet returns a set of the samples, all of which must be of the kind; else it
// returns an error wrapping [ErrKind].
func NewSet(kind Kind, samples ...Sample) (Set, error) {
	for _, s := range samples {
		if s.Kind != kind {
			return Set{}, fmt.Errorf("%w: %s is %s, the set is %s", ErrKind, s.Name(), s.Kind, kind)
		}
	}
	return Set{kind, slices.Clone(samples)}, nil
}

// Kind returns the kind of all samples in the set.
func (s Set) Kind() Kind { return s.kind }

// Len returns the number of samples.
func (s Set) Len() int { return len(s.samples) }

// All yields the samples in the order in which they were recorded.
func (s Set) All() iter.Seq[Sample] { return slices.Values(s.samples) }

// Filter returns the set of the samples for which keep is true.
func (s Set) Filter(keep func(Sample) bool) Set {
	out := Set{kind: s.kind}
	for _, x := range s.samples {
		if keep(x) {
			out.samples = append(out.samples, x)
		}
	}
	return out
}
