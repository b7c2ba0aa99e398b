// SPDX-License-Identifier: Apache-2.0

package trend

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"zumastor.org/zumastor/analysis/goals"
	"zumastor.org/zumastor/analysis/stats"
	"zumastor.org/zumastor/results"
	"zumastor.org/zumastor/results/history"
)

// Errors that callers decide on.
var (
	// ErrRefused is wrapped when a run is not fit to be recorded, which may be forced.
	ErrRefused = errors.New("not fit for the history")
)

// recorded are the units whose values are kept: those of which it is known whether
// more is better. Rates are kept where no times are.
func recorded() []string {
	return []string{results.NsPerOp, results.P50, results.P99, results.AllocsPerOp, results.BytesPerException,
		goals.BeyondFlush, goals.PeakBytes, goals.FreedPerSecond, goals.CacheUse}
}

// OfRun returns what is to be recorded of a run of a revision that was committed at
// the given time: its measured samples and its modelled ones. A run that has not ended
// is an error. One of a dirty tree, of a program that did not know its revision, on a machine
// that was too noisy, or which is a part of one, is an error that wraps [ErrRefused]; with
// force it has marks instead.
func OfRun(run *results.Run, revision string, committed time.Time, force bool) ([]history.Record, error) {
	m := run.Manifest()
	if m.End.IsZero() {
		return nil, fmt.Errorf("run %s has not ended: zbench run --resume %s goes on with it", m.ID, m.ID)
	}
	env, err := run.Environment()
	if err != nil {
		return nil, err
	}
	marks := marksOf(run, env)
	if len(marks) > 0 && !force {
		return nil, fmt.Errorf("run %s: %w: %s: --force records it, marked, and it does not count", m.ID, ErrRefused, strings.Join(marks, "; "))
	}
	var out []history.Record
	for _, set := range []results.Set{run.Measured(), run.Modelled()} {
		r := history.Record{
			Kind: set.Kind(), Suite: m.Suite, Revision: revision, Committed: committed, Recorded: m.Start,
			Marks: marks, Metrics: metrics(set),
		}
		if r.Kind == results.Measured {
			r.Machine = env.Machine()
		}
		if len(r.Metrics) > 0 {
			out = append(out, r)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("run %s has no figures that are kept over time", m.ID)
	}
	return out, nil
}

// WorktreeMark says that a program did not know its own revision.
const WorktreeMark = "the revision is the working directory's: the program was built without one; make build gives it one"

// marksOf says why a run there is not to be judged.
func marksOf(run *results.Run, env results.Environment) []string {
	var marks []string
	if partial := run.Partial(); partial != "" {
		marks = append(marks, partial)
	}
	if strings.HasSuffix(env.Commit, "-dirty") {
		marks = append(marks, "files in git had changed")
	}
	if env.RevisionSource == results.FromWorktree {
		marks = append(marks, WorktreeMark)
	}
	if env.Noise.Noisy() {
		marks = append(marks, "noisy machine: "+env.Noise.String())
	}
	return marks
}

// metrics estimates the median of each setting and unit.
func metrics(set results.Set) map[string]map[string]history.Value {
	values := map[string]map[string][]float64{}
	for s := range set.All() {
		for unit, v := range s.Values {
			_, timed := s.Values[results.NsPerOp]
			if !slices.Contains(recorded(), unit) && (timed || unit != results.IOPS && unit != results.MBPerSec) {
				continue
			}
			if values[s.Name()] == nil {
				values[s.Name()] = map[string][]float64{}
			}
			values[s.Name()][unit] = append(values[s.Name()][unit], v)
		}
	}
	out := map[string]map[string]history.Value{}
	for name, units := range values {
		out[name] = map[string]history.Value{}
		for unit, all := range units {
			out[name][unit] = estimate(set.Kind(), all)
		}
	}
	return out
}

// estimate is what is kept of samples: six digits of what is measured.
func estimate(kind results.Kind, all []float64) history.Value {
	if kind == results.Modelled {
		e := stats.Exact(all)
		return history.Value{Center: e.Center, Lo: min(e.Lo, e.Center), Hi: max(e.Hi, e.Center), N: 1}
	}
	e := stats.Median(all, stats.Confidence)
	return history.Value{Center: digits(e.Center), Lo: digits(e.Lo), Hi: digits(e.Hi), N: e.N}
}

func digits(v float64) float64 {
	short, err := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 6, 64), 64)
	if err != nil {
		return v
	}
	return short
}
