// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/harness/lab"
	"zumastor.org/zumastor/results"
)

// labRecord is lab.json: figures, and all that they depend on.
type labRecord struct {
	Kernel      string              `json:"kernel"`
	Clock       string              `json:"clock"` // "instructions" or "wall"
	CPUs        int                 `json:"cpus"`
	Command     []string            `json:"command"`
	Time        time.Time           `json:"time"`
	Environment results.Environment `json:"environment"`
	Figures     []lab.Figure        `json:"figures"`
}

func (a *app) labBenchCommand() *cobra.Command {
	var f labFlags
	var rounds int
	var wall bool
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure first writes through block layers, side by side",
		Long: "Bench measures first writes after a snapshot on devices in memory, through dm-linear,\n" +
			"dm-snapshot, dm-thin and this engine, and writes lab.json in a new directory below\n" +
			"--results. The clock counts instructions, so that figures are the same on every host:\n" +
			"they are path lengths, and know no caches, no second CPU and no real device.",
		Args: between(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if rounds < 1 {
				return fmt.Errorf("%w: --rounds is at least 1", errUsage)
			}
			f.icount = !wall
			return a.labBench(cmd.Context(), &f, rounds)
		},
	}
	f.add(cmd.Flags())
	cmd.Flags().IntVar(&rounds, "rounds", 3, "`number` of times that each is measured")
	cmd.Flags().BoolVar(&wall, "wall", false, "go by the wall clock, on all CPUs: only factors of 3 or more mean anything without KVM")
	return cmd
}

func (a *app) labBench(ctx context.Context, f *labFlags, rounds int) error {
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
	cfg.Command = lab.Script([]string{"/lab/bench", strconv.Itoa(rounds)})
	r, err := lab.Run(ctx, *cfg)
	if err == nil && r.Code != 0 {
		err = errors.New("a layer could not be measured")
	}
	var record *labRecord
	if err == nil {
		record, err = a.labRecord(cfg)
	}
	done(err)
	if err != nil {
		return err
	}
	return a.writeLabRecord(record)
}

// labRecord reads what the benchmark left.
func (a *app) labRecord(cfg *lab.Config) (*labRecord, error) {
	text, err := os.ReadFile(filepath.Join(cfg.Dir, "results/bench.tsv"))
	if err != nil {
		return nil, err
	}
	figures, err := lab.ParseBench(string(text))
	if err != nil {
		return nil, err
	}
	r := &labRecord{Kernel: cfg.Kernel.Release, Clock: "wall", CPUs: cfg.CPUs, Command: append([]string{"zbench"}, a.args...),
		Time: time.Now().UTC(), Environment: results.CollectEnvironment(cfg.Dir), Figures: figures}
	if cfg.ICount {
		r.Clock, r.CPUs = "instructions", 1
	}
	return r, nil
}

// writeLabRecord makes the run's directory and prints the table.
func (a *app) writeLabRecord(r *labRecord) error {
	dir := filepath.Join(a.root, "lab-"+r.Time.Format("20060102-150405"))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "lab.json"), append(text, '\n'), 0o644); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "kernel %s, clock: %s, wrote %s\n", r.Kernel, r.Clock, filepath.Join(dir, "lab.json"))
	return lab.WriteFigures(a.out, r.Figures)
}
