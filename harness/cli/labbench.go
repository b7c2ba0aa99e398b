// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/analysis/goals"
	"zumastor.org/zumastor/analysis/group"
	"zumastor.org/zumastor/analysis/report"
	"zumastor.org/zumastor/analysis/table"
	"zumastor.org/zumastor/harness/lab"
	"zumastor.org/zumastor/results"
)

// labSuite is the suite of runs of the benchmark.
const labSuite = "lab"

// benchFlags say what is measured.
type benchFlags struct {
	rounds                       int
	wall                         bool
	into                         string
	experiments, layers, devices []string
}

func (a *app) labBenchCommand() *cobra.Command {
	var f labFlags
	var b benchFlags
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure writes and reads through block layers, side by side",
		Long: "Bench measures this engine, as the kernel's target and in user space, beside dm-linear,\n" +
			"dm-snapshot and dm-thin, on devices in memory without latency (brd) and with that of an\n" +
			"NVMe device (nvme), a SATA SSD (ssd) and a hard disk (hdd); docs/lab.md says what they are.\n" +
			"It makes a run below --results, which zbench goals shows, or adds to one. The clock counts\n" +
			"instructions, so that figures are the same on every host: they are path lengths and the\n" +
			"devices' times, and know no caches and no second CPU.",
		Args: between(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := b.check(); err != nil {
				return fmt.Errorf("%w: %w", errUsage, err)
			}
			f.icount = !b.wall
			return a.labBench(cmd.Context(), &f, &b)
		},
	}
	f.add(cmd.Flags())
	flags := cmd.Flags()
	flags.Lookup("timeout").DefValue = "20m0s"
	flags.Lookup("timeout").Value.Set("20m")
	flags.IntVar(&b.rounds, "rounds", 3, "`number` of times that each is measured")
	flags.BoolVar(&b.wall, "wall", false, "go by the wall clock, on all CPUs: only factors of 3 or more mean anything without KVM")
	flags.StringVar(&b.into, "into", "", "add the figures to a `run` and its report, by name or \"latest\"; those that it had of the same are replaced")
	for _, l := range b.lists() {
		flags.StringSliceVar(l.value, l.flag, l.preset, "which `"+l.flag+"`, of "+strings.Join(l.known, ", "))
	}
	return cmd
}

type benchList struct {
	flag          string
	value         *[]string
	known, preset []string
}

func (b *benchFlags) lists() []benchList {
	return []benchList{
		{"experiments", &b.experiments, lab.BenchExperiments, []string{"settled", "first", "full", "nsnaps"}},
		{"layers", &b.layers, lab.BenchLayers, lab.BenchLayers},
		{"devices", &b.devices, lab.BenchDevices, lab.BenchDevices},
	}
}

func (b *benchFlags) check() error {
	if b.rounds < 1 {
		return errors.New("--rounds is at least 1")
	}
	for _, l := range b.lists() {
		for _, v := range *l.value {
			if !slices.Contains(l.known, v) {
				return fmt.Errorf("--%s: %q is not one of %s", l.flag, v, strings.Join(l.known, ", "))
			}
		}
	}
	return nil
}

func (a *app) labBench(ctx context.Context, f *labFlags, b *benchFlags) error {
	if b.into != "" { // or it is found missing when all has been measured
		if _, err := a.openRun([]string{b.into}); err != nil {
			return err
		}
	}
	cfg, err := a.labConfig(ctx, f)
	if err != nil {
		return err
	}
	cfg.Host = "lab"
	cfg.Out = a.err
	done, err := a.labDirectory(ctx, f, cfg)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(cfg.Dir, "bench"), []byte(lab.BenchScript), 0o755); err != nil {
		return err
	}
	command := []string{"/lab/bench", strconv.Itoa(b.rounds)}
	for _, l := range b.lists() {
		command = append(command, strings.Join(*l.value, " "))
	}
	cfg.Command = lab.Script(command)
	r, err := lab.Run(ctx, *cfg)
	if err == nil && r.Code != 0 {
		err = errors.New("a layer could not be measured")
	}
	var record *results.Run
	if samples, parsed := benchSamples(cfg); parsed == nil && len(samples) > 0 {
		var recorded error
		record, recorded = a.recordBench(cfg, b.into, samples, err)
		err = errors.Join(err, recorded)
	} else {
		err = errors.Join(err, parsed)
	}
	done(err)
	if record == nil {
		return err
	}
	return errors.Join(err, a.showBench(record))
}

// benchSamples reads what the benchmark left.
func benchSamples(cfg *lab.Config) ([]results.Sample, error) {
	text, err := os.ReadFile(filepath.Join(cfg.Dir, "results/bench.tsv"))
	if err != nil {
		return nil, err
	}
	samples, err := lab.ParseBench(string(text))
	if err != nil {
		return nil, err
	}
	checkout, err := lab.FindCheckout(".")
	if err != nil {
		return samples, nil // with --bare
	}
	lines, err := checkout.ModuleLines()
	if err != nil || lines == 0 {
		return samples, err
	}
	return append(samples, results.Sample{Experiment: lab.BenchExperiment, Kind: results.Measured, Config: results.Conf("op", "size", "variant", "ddsnap"),
		N: 1, Values: map[string]float64{goals.CodeLines: float64(lines)}}), nil
}

// recordBench makes the run, or adds to another. What failed is a warning of it.
func (a *app) recordBench(cfg *lab.Config, into string, samples []results.Sample, failed error) (*results.Run, error) {
	clock := "wall"
	if cfg.ICount {
		clock = "instructions"
	}
	record, err := a.benchRun(cfg, into, clock)
	if err != nil {
		return nil, err
	}
	if failed != nil {
		first, _, _ := strings.Cut(failed.Error(), "\n")
		err = record.Warn("lab: " + first)
	}
	err = errors.Join(err, record.Supersede(samples...), record.Complete(lab.BenchExperiment), record.Finish(), report.Write(record))
	if into == "" { // whose goals are the others too
		err = errors.Join(err, record.WriteJSON(results.SummaryFile, benchSummary(record)))
	}
	return record, err
}

// benchRun opens the run that figures are added to, or makes one.
func (a *app) benchRun(cfg *lab.Config, into, clock string) (*results.Run, error) {
	if into == "" {
		record, err := results.Create(a.root, results.Manifest{Suite: labSuite, Command: append([]string{"zbench"}, a.args...),
			Settings: map[string]string{"kernel": cfg.Kernel.Release, "clock": clock}})
		if err != nil {
			return nil, err
		}
		return record, record.SetEnvironment(results.CollectEnvironment(cfg.Dir))
	}
	record, err := a.openRun([]string{into})
	if err != nil {
		return nil, err
	}
	return record, record.Warn(fmt.Sprintf("lab: the kernel's targets were measured in a virtual machine: kernel %s, clock: %s", cfg.Kernel.Release, clock))
}

// benchSummary has the goals that the benchmark measured.
func benchSummary(record *results.Run) goals.Summary {
	s := goals.Evaluate(record)
	s.Goals = slices.DeleteFunc(s.Goals, func(r goals.Row) bool { return r.Status == goals.NotMeasured })
	return s
}

// showBench prints all that was measured, and the goals.
func (a *app) showBench(record *results.Run) error {
	m := record.Manifest()
	if kernel := m.Settings["kernel"]; kernel != "" {
		fmt.Fprintf(a.out, "kernel %s, clock: %s, ", kernel, m.Settings["clock"])
	}
	fmt.Fprintf(a.out, "wrote %s\n", record.Dir())
	of := group.Selector{"experiment": lab.BenchExperiment}
	if err := lab.WriteFigures(a.out, lab.Figures(record.Measured().Filter(of.Match))); err != nil {
		return err
	}
	measured, _ := table.OfGoals(benchSummary(record).Goals)
	return measured.Write(a.out, table.Text)
}
