// SPDX-License-Identifier: Apache-2.0

// Package baseline counts exactly what a small set of experiments does, and
// compares the counts with those that are kept in git.
//
// It owns the experiments ([Take]), the file of counters ([Record]) and what of it
// may move ([Diff]). It takes no wall-clock time: I/Os, bytes, flushes, messages,
// pages and allocations are the same on every machine and in every run, and so is
// the time of disk models but for the last digits of floating point on other
// processors. Command zbench baseline and continuous integration call it. Take uses
// all processors and some MiB of memory; the other functions are pure. An experiment
// that fails ends Take with its error.
package baseline

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// ErrRecord is wrapped when a file of counters is not what the format says.
var ErrRecord = errors.New("bad record of counters")

// ModelTime is the counter of modelled nanoseconds, the only one with a tolerance.
const ModelTime = "model-ns"

// ModelTolerance is how far modelled times may differ between processors, whose
// floating-point operations differ in the last bit.
const ModelTolerance = 0.001

// Counter is one exact number.
type Counter struct {
	Setting string // the experiment, such as "inline/chunk=64K/ssd/firstwrite"
	Name    string // what is counted
	Value   int64
}

// Record is counters, in the order in which they were taken. No two have the same
// setting and name.
type Record []Counter

// header tells the reader of the file what it is.
const header = `# Exact counters of modelled experiments: what the engine asks of devices and of the
# metadata server. zbench baseline check compares them, zbench baseline record makes
# this file anew: commit it with the change that moves them, and say why they move.
`

// Write writes the record as text, a counter a line: setting, name, value.
func (r Record) Write(w io.Writer) error {
	out := bufio.NewWriter(w)
	fmt.Fprint(out, header)
	for _, c := range r {
		fmt.Fprintf(out, "%s %s %d\n", c.Setting, c.Name, c.Value)
	}
	return out.Flush()
}

// Read reads what [Record.Write] wrote. Errors about its content wrap [ErrRecord].
func Read(in io.Reader) (Record, error) {
	var r Record
	seen := map[[2]string]bool{}
	lines := bufio.NewScanner(in)
	for n := 1; lines.Scan(); n++ {
		f := strings.Fields(lines.Text())
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		if len(f) != 3 {
			return nil, fmt.Errorf("line %d: %w: %d fields, not setting, name and value", n, ErrRecord, len(f))
		}
		v, err := strconv.ParseInt(f[2], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w: %q is not a whole number", n, ErrRecord, f[2])
		}
		key := [2]string{f[0], f[1]}
		if seen[key] {
			return nil, fmt.Errorf("line %d: %w: %s of %s is there twice", n, ErrRecord, f[1], f[0])
		}
		seen[key] = true
		r = append(r, Counter{f[0], f[1], v})
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading counters: %w", err)
	}
	return r, nil
}

// Move is a counter that differs, or that only one side has.
type Move struct {
	Counter         // with the new value
	Old       int64 // the recorded value
	Gone, New bool  // only in the old record; only in the new one
}

// Change writes by how much a counter moved: "+5.0%".
func (m Move) Change() string {
	switch {
	case m.Gone:
		return "gone"
	case m.New:
		return "new"
	case m.Old == 0:
		return fmt.Sprintf("%+d", m.Value)
	}
	return fmt.Sprintf("%+.3g%%", 100*float64(m.Value-m.Old)/math.Abs(float64(m.Old)))
}

// Diff returns what differs in now from old, in the order of now, and then what is
// gone. Counters differ by anything, modelled times by more than [ModelTolerance].
func Diff(old, now Record) []Move {
	var moves []Move
	before := map[[2]string]int64{}
	for _, c := range old {
		before[[2]string{c.Setting, c.Name}] = c.Value
	}
	for _, c := range now {
		key := [2]string{c.Setting, c.Name}
		was, known := before[key]
		delete(before, key)
		if !known || differs(c.Name, was, c.Value) {
			moves = append(moves, Move{Counter: c, Old: was, New: !known})
		}
	}
	for _, c := range old {
		if _, left := before[[2]string{c.Setting, c.Name}]; left {
			moves = append(moves, Move{Counter: Counter{c.Setting, c.Name, 0}, Old: c.Value, Gone: true})
		}
	}
	return slices.Clip(moves)
}

func differs(name string, old, now int64) bool {
	if name != ModelTime {
		return old != now
	}
	return math.Abs(float64(now-old)) > ModelTolerance*math.Abs(float64(old))
}
