// SPDX-License-Identifier: Apache-2.0

package results

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/perf/benchfmt"
)

// roundMark starts the line that says of which round the samples below it are.
// Readers of the Go benchmark format skip it. A configuration line would make
// benchstat put each round into a table of its own, a unit would be averaged.
const roundMark = "# round "

// WriteSamples writes the samples in the Go benchmark format with the given
// header, a list of configuration lines that readers show as they are. Samples
// keep their order; each must be valid.
func WriteSamples(w io.Writer, header []Pair, samples []Sample) error {
	out := benchfmt.NewWriter(w)
	fixed := make([]benchfmt.Config, 0, len(header)+2)
	for _, p := range header {
		fixed = append(fixed, benchfmt.Config{Key: p.Key, Value: []byte(p.Value), File: true})
	}
	if err := writeUnits(w, samples); err != nil {
		return err
	}
	round := -1
	for _, s := range samples {
		if err := s.Validate(); err != nil {
			return err
		}
		if s.Round != round {
			round = s.Round
			if _, err := fmt.Fprintf(w, "%s%d\n", roundMark, round); err != nil {
				return err
			}
		}
		config := append(slices.Clone(fixed),
			benchfmt.Config{Key: "experiment", Value: []byte(s.Experiment), File: true},
			benchfmt.Config{Key: "kind", Value: []byte(s.Kind), File: true})
		rec := &benchfmt.Result{Config: config, Name: benchfmt.Name(s.Name()), Iters: s.N, Values: benchValues(s.Values)}
		if err := out.Write(rec); err != nil {
			return err
		}
	}
	return nil
}

// writeUnits says for each rate that higher is better, which readers of the
// format cannot know of units that are not their own.
func writeUnits(w io.Writer, samples []Sample) error {
	units := map[string]bool{}
	for _, s := range samples {
		for unit := range s.Values {
			units[unit] = true
		}
	}
	for _, unit := range slices.Sorted(maps.Keys(units)) {
		if HigherIsBetter(unit) && isUnit(unit) {
			if _, err := fmt.Fprintf(w, "Unit %s better=higher\n", unit); err != nil {
				return err
			}
		}
	}
	return nil
}

// benchValues puts time and rates first, as Go's own benchmarks do, the rest by
// name.
func benchValues(values map[string]float64) []benchfmt.Value {
	rank := map[string]int{NsPerOp: -3, IOPS: -2, MBPerSec: -1}
	units := slices.SortedFunc(maps.Keys(values), func(a, b string) int {
		return cmp.Or(cmp.Compare(rank[a], rank[b]), cmp.Compare(a, b))
	})
	out := make([]benchfmt.Value, len(units))
	for i, unit := range units {
		out[i] = benchfmt.Value{Value: values[unit], Unit: unit}
	}
	return out
}

// ReadSamples reads what [WriteSamples] wrote. A line that is no sample of ours
// is an error wrapping [ErrCorrupt] that names file and line. Histograms are not
// part of the format.
func ReadSamples(data []byte, file string) ([]Sample, error) {
	rounds, err := roundsByLine(data, file)
	if err != nil {
		return nil, err
	}
	var out []Sample
	r := benchfmt.NewReader(bytes.NewReader(data), file)
	for r.Scan() {
		switch rec := r.Result().(type) {
		case *benchfmt.SyntaxError:
			return nil, fmt.Errorf("%w: %w", ErrCorrupt, rec)
		case *benchfmt.Result:
			_, line := rec.Pos()
			s, err := sampleOf(rec)
			if err == nil {
				s.Round = rounds[line]
				err = s.Validate()
			}
			if err != nil {
				return nil, fmt.Errorf("%w: %s:%d: %w", ErrCorrupt, file, line, err)
			}
			out = append(out, s)
		}
	}
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return out, nil
}

// roundsByLine returns for each line number, from 1, the round that the last
// mark above it names.
func roundsByLine(data []byte, file string) (map[int]int, error) {
	rounds := map[int]int{}
	round, line := 0, 0
	for text := range bytes.Lines(data) {
		line++
		if rest, ok := strings.CutPrefix(string(bytes.TrimRight(text, "\r\n")), roundMark); ok {
			n, err := strconv.ParseUint(rest, 10, 31)
			if err != nil {
				return nil, fmt.Errorf("%w: %s:%d: round %q is not a number", ErrCorrupt, file, line, rest)
			}
			round = int(n)
		}
		rounds[line] = round
	}
	return rounds, nil
}

func sampleOf(rec *benchfmt.Result) (Sample, error) {
	parts := strings.Split(rec.Name.String(), "/")
	s := Sample{
		Experiment: parts[0],
		Kind:       Kind(rec.GetConfig("kind")),
		N:          rec.Iters,
		Values:     make(map[string]float64, len(rec.Values)),
	}
	for _, part := range parts[1:] {
		key, value, ok := strings.Cut(part, "=")
		if !ok {
			return Sample{}, fmt.Errorf("%w: part %q of the name is not key=value", ErrSample, part)
		}
		s.Config = append(s.Config, Pair{key, value})
	}
	for _, v := range rec.Values {
		unit, value := v.Unit, v.Value
		if v.OrigUnit != "" {
			unit, value = v.OrigUnit, v.OrigValue
		}
		if _, twice := s.Values[unit]; twice {
			return Sample{}, fmt.Errorf("%w: unit %s is there twice", ErrSample, unit)
		}
		s.Values[unit] = value
	}
	return s, nil
}
