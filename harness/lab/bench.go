// SPDX-License-Identifier: Apache-2.0

package lab

import (
	_ "embed"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"zumastor.org/zumastor/results"
)

// BenchScript is the benchmark as a command of a machine. Its arguments are the
// number of rounds and lists, a word each: experiments, layers and devices. It
// writes results/bench.tsv.
//
//go:embed guest/bench
var BenchScript string

// What BenchScript knows.
var (
	BenchExperiments = []string{"settled", "first", "full", "many", "nsnaps"}
	BenchLayers      = []string{"linear", "snapshot", "thin", "ublk", "ddsnap"}
	BenchDevices     = []string{"brd", "nvme", "ssd", "hdd"}
)

// BenchExperiment is the experiment of all samples of the benchmark.
const BenchExperiment = "LAB"

// ParseBench reads bench.tsv and returns its samples in their order. Operations a
// second become [results.NsPerOp].
func ParseBench(text string) ([]results.Sample, error) {
	var samples []results.Sample
	for line := range strings.Lines(text) {
		f := strings.Split(strings.TrimSpace(line), "\t")
		if len(f) != 4 {
			return nil, fmt.Errorf("line %q of the benchmark has not 4 fields", line)
		}
		round, err := strconv.Atoi(f[1])
		if err != nil {
			return nil, fmt.Errorf("line %q of the benchmark: the round: %w", line, err)
		}
		s := results.Sample{Experiment: BenchExperiment, Kind: results.Measured, Round: round, N: 1}
		for setting := range strings.FieldsSeq(f[0]) {
			key, value, _ := strings.Cut(setting, "=")
			s.Config = append(s.Config, results.Pair{Key: key, Value: value})
		}
		v, err := strconv.ParseFloat(f[3], 64)
		unit := f[2]
		if unit == results.IOPS {
			if v <= 0 {
				return nil, fmt.Errorf("line %q of the benchmark: %q are no operations a second", line, f[3])
			}
			unit, v = results.NsPerOp, 1e9/v
		}
		s.Values = map[string]float64{unit: v}
		if err != nil {
			return nil, fmt.Errorf("line %q of the benchmark: %w", line, err)
		}
		if err := s.Validate(); err != nil {
			return nil, fmt.Errorf("line %q of the benchmark: %w", line, err)
		}
		samples = append(samples, s)
	}
	return samples, nil
}

// ModuleLines counts the lines of C of the kernel module of a checkout that are
// neither blank nor of comments alone.
func (c Checkout) ModuleLines() (int, error) {
	var files []string
	for _, pattern := range []string{"*.c", "*.h"} {
		found, err := filepath.Glob(filepath.Join(string(c), "kernel/dm-ddsnap", pattern))
		if err != nil {
			return 0, err
		}
		files = append(files, found...)
	}
	n := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return 0, fmt.Errorf("counting the module's lines: %w", err)
		}
		n += codeLines(string(text))
	}
	return n, nil
}

// codeLines counts lines of C. What is before or after a comment on its line is
// code; a comment that begins after code must end on its line.
func codeLines(text string) (n int) {
	comment := false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if !comment {
			if line == "" || strings.HasPrefix(line, "//") {
				continue
			}
			comment = strings.HasPrefix(line, "/*")
			if !comment {
				n++
				continue
			}
		}
		if _, rest, ends := strings.Cut(line, "*/"); ends {
			comment = false
			if strings.TrimSpace(rest) != "" {
				n++
			}
		}
	}
	return n
}

// Figure is what was measured at one setting, in all rounds.
type Figure struct {
	Name   string
	Unit   string
	Values []float64
	Median float64
	// Spread is largest less smallest, over the median.
	Spread float64
}

// Figures returns the figures of samples in their order, with operations a second
// in place of times.
func Figures(set results.Set) []Figure {
	var figures []Figure
	for s := range set.All() {
		for unit, v := range s.Values {
			if unit == results.NsPerOp {
				unit, v = results.IOPS, 1e9/v
			}
			i := slices.IndexFunc(figures, func(f Figure) bool { return f.Name == s.Name() && f.Unit == unit })
			if i < 0 {
				i = len(figures)
				figures = append(figures, Figure{Name: s.Name(), Unit: unit})
			}
			figures[i].Values = append(figures[i].Values, v)
		}
	}
	for i := range figures {
		figures[i].summarise()
	}
	return figures
}

func (f *Figure) summarise() {
	sorted := slices.Sorted(slices.Values(f.Values))
	n := len(sorted)
	f.Median = (sorted[n/2] + sorted[(n-1)/2]) / 2
	if f.Median != 0 {
		f.Spread = (sorted[n-1] - sorted[0]) / f.Median
	}
}

// WriteFigures writes a table of figures.
func WriteFigures(w io.Writer, figures []Figure) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range figures {
		fmt.Fprintf(t, "%s\t%.5g %s\t%.1f%%\n", f.Name, f.Median, f.Unit, 100*f.Spread)
	}
	return t.Flush()
}
