// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"fmt"
	"strconv"
	"strings"
)

// Trial is one of the equal parts that the rounds of a suite are divided into, to be
// carried out by machines of their own. The zero Trial is all of it.
type Trial struct {
	Index int // from 0
	Count int // of all; 0 for a suite that is not divided
}

// MaxTrials bounds the parts.
const MaxTrials = 9999

// ParseTrial reads a trial such as "3/15", the fourth of fifteen.
func ParseTrial(text string) (Trial, error) {
	index, count, ok := strings.Cut(text, "/")
	i, err1 := strconv.ParseUint(index, 10, 16)
	n, err2 := strconv.ParseUint(count, 10, 16)
	if !ok || err1 != nil || err2 != nil || i >= n || n > MaxTrials {
		return Trial{}, fmt.Errorf("%w: trial %q is not such as 0/15, the first, to 14/15, the last; there are at most %d", ErrSpec, text, MaxTrials)
	}
	return Trial{int(i), int(n)}, nil
}

// String returns the trial as ParseTrial reads it, "" for the zero Trial.
func (t Trial) String() string {
	if t.Count == 0 {
		return ""
	}
	return fmt.Sprintf("%d/%d", t.Index, t.Count)
}

// Rounds returns how many rounds the experiments have together: into so many trials they
// can be divided.
func Rounds(all []Experiment) int {
	n := 0
	for _, e := range all {
		n += e.Rounds
	}
	return n
}

// Take returns the experiments that the trial has rounds of, each with those rounds. All
// rounds of all experiments are put one behind the other and cut into parts whose sizes
// differ by at most one, so every round is in exactly one trial.
func (t Trial) Take(all []Experiment) ([]Experiment, error) {
	if t.Count == 0 {
		return all, nil
	}
	total := Rounds(all)
	if t.Count > total {
		return nil, fmt.Errorf("%w: %d trials: the experiments have only %d rounds, and a trial has at least one", ErrSpec, t.Count, total)
	}
	from, to := t.Index*total/t.Count, (t.Index+1)*total/t.Count
	var taken []Experiment
	at := 0 // of the experiment's round 0 among all
	for _, e := range all {
		e.First, e.End = max(0, from-at), min(e.Rounds, to-at)
		at += e.Rounds
		if e.First < e.End {
			taken = append(taken, e)
		}
	}
	return taken, nil
}

// Span returns the rounds that are to be carried out, from first to before end.
func (e *Experiment) Span() (first, end int) {
	if e.End == 0 {
		return 0, e.Rounds
	}
	return e.First, e.End
}
