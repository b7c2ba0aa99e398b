// SPDX-License-Identifier: Apache-2.0

// Package history owns the record of runs over time that is kept in git: what a
// revision's run gave, in a file of its own that never changes.
//
// The files lie beside this one, a directory for each series: the exact counters of
// revisions, the modelled figures of a suite, and its measured ones of one machine.
// Records of two series are never compared. Package trend, which makes records of
// runs and judges series, and zbench history call it. It computes nothing.
//
// Files are only added, durably and as a whole; [Load] reads all and fails if one of
// them is not what the format says. Functions may be called at once; two that add the
// same record end with an error for one of them.
//
// A record is JSON, with a line for each setting so that differences are readable:
//
//	{
//	"format": 1,                             all of these in one line
//	"kind": "modelled",                      or "measured"
//	"suite": "counters",                     of zbench run, or of exact counters
//	"machine": [["CPU", "…"], …],            what times depend on; measured only
//	"revision": "…",                         the commit's full name
//	"committed": "2026-11-23T07:50:25Z",     its date: what orders the series
//	"recorded": "2026-11-23T11:12:13Z",      when the run began, or counters were taken
//	"marks": ["…"],                          why it is not to be judged, if so
//	"metrics": {
//	"setting": {"unit": 5, "unit": [5.1, 4.9, 5.3, 20], …},
//	…}
//	}
//
// A number is exact; four are a median, the ends of its interval and how many samples
// it is of. The file is SERIES/DATE-REVISION.json, of measured records with the time
// of the run, too.
package history

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"time"

	"zumastor.org/zumastor/results"
)

// Dir is where the history is, from the root of the repository.
const Dir = "results/history"

// Counters is the suite of exact counters.
const Counters = "counters"

// format is the version of the format that this package writes, and reads.
const format = 1

// Errors that callers decide on.
var (
	// ErrRecord is wrapped when a record or a file of the history is not what the
	// format says.
	ErrRecord = errors.New("bad record of the history")
	// ErrExists is wrapped when what is added is there.
	ErrExists = errors.New("already recorded")
)

// Value is what was found for one metric.
type Value struct {
	Center, Lo, Hi float64
	N              int
}

// Exact returns a value that does not vary.
func Exact(v float64) Value { return Value{Center: v, Lo: v, Hi: v, N: 1} }

// Record is what one run gave.
type Record struct {
	Kind  results.Kind
	Suite string
	// Machine is what times depend on, as [results.Environment.Machine] has it; empty
	// for modelled records.
	Machine []results.Pair
	// Revision is a commit's full name, and Committed its date.
	Revision  string
	Committed time.Time
	Recorded  time.Time
	// Marks say why the record is shown but not judged: a dirty tree, a noisy machine.
	Marks []string
	// Metrics are the values by setting and unit.
	Metrics map[string]map[string]Value
}

// Series returns the name of the series that the record is of.
func (r Record) Series() string {
	if r.Kind == results.Modelled {
		return r.Suite
	}
	return r.Suite + "-" + results.KindOf(r.Machine)
}

// Short returns the revision's name as people write it.
func (r Record) Short() string { return r.Revision[:min(12, len(r.Revision))] }

// stamp is how times are written in names.
const stamp = "20060102-150405"

// file returns the name of the record's file in the directory of its series.
func (r Record) file() string {
	name := r.Committed.UTC().Format(stamp) + "-" + r.Short()
	if r.Kind == results.Measured {
		name += "-" + r.Recorded.UTC().Format(stamp)
	}
	return name + ".json"
}

// Validate returns an error wrapping [ErrRecord] that says what is wrong with r.
func (r Record) Validate() error {
	bad := func(f string, args ...any) error { return fmt.Errorf("%w: %s", ErrRecord, fmt.Sprintf(f, args...)) }
	switch {
	case r.Kind != results.Measured && r.Kind != results.Modelled:
		return bad("kind %q is neither measured nor modelled", r.Kind)
	case !isName(r.Suite):
		return bad("suite %q is not a word of lower-case letters and digits", r.Suite)
	case r.Kind == results.Measured && len(r.Machine) == 0:
		return bad("a measured record needs its machine")
	case r.Kind == results.Modelled && len(r.Machine) > 0:
		return bad("a modelled record is of no machine")
	case !isRevision(r.Revision):
		return bad("revision %q is not the full name of a commit", r.Revision)
	case r.Committed.IsZero() || r.Recorded.IsZero():
		return bad("revision %s: the dates of commit and run are needed", r.Short())
	case len(r.Metrics) == 0:
		return bad("revision %s: it has no metrics", r.Short())
	}
	for name, units := range r.Metrics {
		if name == "" || len(units) == 0 {
			return bad("revision %s: setting %q has no name or no values", r.Short(), name)
		}
		for unit, v := range units {
			if err := v.validate(); unit == "" || err != nil {
				return bad("revision %s: %s, unit %q: %v", r.Short(), name, unit, err)
			}
		}
	}
	return nil
}

func (v Value) validate() error {
	for _, f := range []float64{v.Center, v.Lo, v.Hi} {
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return fmt.Errorf("%v is not finite", f)
		}
	}
	if v.N < 1 || v.Lo > v.Center || v.Hi < v.Center {
		return fmt.Errorf("median %v of %d samples with an interval from %v to %v", v.Center, v.N, v.Lo, v.Hi)
	}
	return nil
}

func isName(s string) bool {
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

func isRevision(s string) bool {
	raw, err := hex.DecodeString(s)
	return err == nil && (len(raw) == 20 || len(raw) == 32) && hex.EncodeToString(raw) == s
}
