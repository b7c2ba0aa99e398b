// SPDX-License-Identifier: Apache-2.0

package lab

import (
	_ "embed"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// BenchScript is the benchmark as a command of a machine: its argument is the
// number of rounds, and it writes results/bench.tsv.
//
//go:embed guest/bench
var BenchScript string

// Figure is what was measured of one layer, workload and engine, in each round.
type Figure struct {
	Layer    string    `json:"layer"`
	Workload string    `json:"workload"`
	Engine   string    `json:"engine"`
	IOPS     []float64 `json:"iops"`
	Median   float64   `json:"median"`
	// Ratio is that of the medians, to the layer "raw".
	Ratio float64 `json:"ratio,omitempty"`
	// Spread is largest less smallest, over the median.
	Spread float64 `json:"spread"`
}

// ParseBench reads bench.tsv and returns its figures in their order.
func ParseBench(text string) ([]Figure, error) {
	var figures []Figure
	for line := range strings.Lines(text) {
		f := strings.Split(strings.TrimSpace(line), "\t")
		if len(f) != 5 {
			return nil, fmt.Errorf("line %q of the benchmark has not 5 fields", line)
		}
		iops, err := strconv.ParseFloat(f[4], 64)
		if err != nil || iops <= 0 {
			return nil, fmt.Errorf("line %q of the benchmark: %q are no operations a second", line, f[4])
		}
		same := func(g Figure) bool { return g.Layer == f[0] && g.Workload == f[1] && g.Engine == f[2] }
		i := slices.IndexFunc(figures, same)
		if i < 0 {
			i = len(figures)
			figures = append(figures, Figure{Layer: f[0], Workload: f[1], Engine: f[2]})
		}
		figures[i].IOPS = append(figures[i].IOPS, iops)
	}
	for i := range figures {
		figures[i].summarise()
	}
	for i, f := range figures {
		raw := slices.IndexFunc(figures, func(g Figure) bool {
			return g.Layer == "raw" && g.Workload == f.Workload && g.Engine == f.Engine
		})
		if raw >= 0 {
			figures[i].Ratio = f.Median / figures[raw].Median
		}
	}
	return figures, nil
}

func (f *Figure) summarise() {
	sorted := slices.Sorted(slices.Values(f.IOPS))
	n := len(sorted)
	f.Median = (sorted[n/2] + sorted[(n-1)/2]) / 2
	f.Spread = (sorted[n-1] - sorted[0]) / f.Median
}

// WriteFigures writes a table of figures.
func WriteFigures(w io.Writer, figures []Figure) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "layer\tworkload\tengine\tIOPS\tof raw\tspread\t\n")
	for _, f := range figures {
		fmt.Fprintf(t, "%s\t%s\t%s\t%.0f\t%.3f\t%.1f%%\t\n", f.Layer, f.Workload, f.Engine, f.Median, f.Ratio, 100*f.Spread)
	}
	return t.Flush()
}
