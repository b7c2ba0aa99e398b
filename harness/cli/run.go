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
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/analysis/goals"
	"zumastor.org/zumastor/analysis/report"
	"zumastor.org/zumastor/harness/fleet"
	"zumastor.org/zumastor/harness/runner"
	"zumastor.org/zumastor/harness/spec"
	"zumastor.org/zumastor/harness/stack"
	"zumastor.org/zumastor/results"
)

// runFlags are the flags of the command run, as text where they are lists.
type runFlags struct {
	suite, resume               string
	experiments, chunks         []string
	placements, snapshots       []string
	seed                        uint64
	dir, device, nvram, pmem    string
	force, json, strict, probes bool
	trial, collect              string
	job, machine                string
}

func (a *app) runCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run a suite of experiments",
		Long: `Run measures a suite of experiments and makes its report.

It uses files in --dir, opened with O_DIRECT where the file system has it, or
overwrites a block device named with --device. A device on which anything is
mounted, or that has a signature, is refused unless --force is given.

Ctrl-C ends a run at once; what was recorded is whole, and
zbench run --resume RUN goes on with the round that it was in.`,
		Example: `  zbench run --suite smoke
  zbench run --experiments E6 --chunks 16K,64K --placements inline,disk
  zbench run --suite full --device /dev/nvme1n1
  zbench run --suite quick --resume latest`,
		Args: between(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.dir == "" {
				f.dir = a.root
				if err := os.MkdirAll(f.dir, 0o755); err != nil {
					return err
				}
			}
			o, err := f.options()
			if err != nil {
				return err
			}
			o.Root, o.Command, o.Out, o.Terminal = a.root, append([]string{"zbench"}, a.args...), a.err, isTerminal(a.err)
			record, err := a.carryOut(cmd.Context(), o, f)
			if record == nil || err != nil || f.collect != "" && !f.json { // one trial decides no goal
				return err
			}
			return a.showRun(record, f.json)
		},
	}
	flags := cmd.Flags()
	f.addWhat(flags)
	flags.StringSliceVar(&f.experiments, "experiments", nil, "`names` of experiments, see zbench list (default all)")
	flags.StringVar(&f.dir, "dir", "", "the `directory` that files are made in (default that of the runs); not one in memory")
	flags.StringVar(&f.resume, "resume", "", "go on with a `run` that was interrupted: its name or \"latest\"")
	flags.BoolVar(&f.json, "json", false, "print the summary as JSON")
	flags.StringVar(&f.trial, "trial", "", "`I/N`: of N equal parts of all rounds only part I, from 0; for other machines to do the rest")
	flags.StringVar(&f.collect, "collect", "", "put the trial's record into a `place` when it is done: a directory, or s3://BUCKET/PREFIX; zbench merge reads it")
	flags.StringVar(&f.job, "job", "bench", "the `name` of what the trial is part of, for --collect")
	flags.StringVar(&f.machine, "machine", "", "this machine's `name`, of which a digest is kept, for --collect (default that of /etc/machine-id)")
	return cmd
}

// addWhat adds the flags that say what is run, on this machine or another.
func (f *runFlags) addWhat(flags *pflag.FlagSet) {
	flags.StringVar(&f.suite, "suite", string(spec.Quick), "smoke, quick, full or delta")
	flags.StringSliceVar(&f.chunks, "chunks", nil, "chunk `sizes` in place of those of the experiments, such as 16K,64K")
	flags.StringSliceVar(&f.placements, "placements", nil, "`placements` in place of those of the experiments: inline, disk, nvram, pmem")
	flags.StringSliceVar(&f.snapshots, "snapshots", nil, "`numbers` of snapshots in place of those of the experiments")
	flags.Uint64Var(&f.seed, "seed", 1, "of addresses and of the order of measurements")
	flags.StringVar(&f.device, "device", "", "a block `device` to overwrite in place of files")
	flags.BoolVar(&f.force, "force", false, "overwrite devices though something is on them")
	flags.StringVar(&f.nvram, "nvram", "", "a battery-backed block `device` for placement nvram (default simulated)")
	flags.StringVar(&f.pmem, "pmem", "", "a DAX `file` or device for placement pmem (default simulated)")
	flags.BoolVar(&f.strict, "strict", false, "run nothing on a machine that is too noisy; without it the run is marked")
	flags.BoolVar(&f.probes, "probes", false, "look at each measured experiment by eBPF (root): probes-E6.json and so on in the run's directory")
}

// carryOut runs what the options say, as a trial that is collected where that is asked for;
// without a run when it was collected before.
func (a *app) carryOut(ctx context.Context, o runner.Options, f runFlags) (*results.Run, error) {
	if f.collect == "" {
		return runner.Run(ctx, o)
	}
	if o.Resume != "" {
		return nil, fmt.Errorf("%w: --resume is not needed with --collect: a trial goes on by itself", errUsage)
	}
	to, err := fleet.Open(f.collect)
	if err != nil {
		return nil, err
	}
	return fleet.Task{Job: f.job, Machine: f.machine, To: to, Options: o, Out: a.err}.Run(ctx)
}

// options turns flags into options.
func (f runFlags) options() (o runner.Options, err error) {
	self, err := os.Executable()
	if err != nil {
		return o, fmt.Errorf("finding this program, which also serves exports: %w", err)
	}
	o = runner.Options{
		Suite: spec.Suite(f.suite), Experiments: f.experiments, Seed: f.seed, Resume: f.resume, Probes: f.probes, Program: []string{self}, Strict: f.strict,
		Bed:  stack.Options{Dir: f.dir, Device: f.device, Force: f.force, NVRAM: f.nvram, PMem: f.pmem},
		Axes: spec.Axes{Placements: f.placements},
	}
	if o.Axes.Chunks, err = each("chunks", f.chunks, spec.ParseSize); err != nil {
		return o, err
	}
	if o.Axes.Snapshots, err = each("snapshots", f.snapshots, strconv.Atoi); err != nil {
		return o, err
	}
	if f.trial != "" {
		if o.Trial, err = spec.ParseTrial(f.trial); err != nil {
			return o, fmt.Errorf("%w: --trial: %w", errUsage, err)
		}
	}
	return o, nil
}

// each reads the values of a list flag.
func each[T any](flag string, values []string, read func(string) (T, error)) ([]T, error) {
	var all []T
	for _, text := range values {
		v, err := read(text)
		if err != nil {
			return nil, fmt.Errorf("%w: --%s: %w", errUsage, flag, err)
		}
		all = append(all, v)
	}
	return all, nil
}

// showRun prints the goals of a run that has ended and where its report is.
func (a *app) showRun(record *results.Run, asJSON bool) error {
	summary := goals.Evaluate(record)
	if asJSON {
		return a.printJSON(summary)
	}
	if err := a.printGoals(summary); err != nil {
		return err
	}
	for _, w := range record.Manifest().Warnings {
		fmt.Fprintf(a.out, "note: %s\n", w)
	}
	_, err := fmt.Fprintf(a.out, "report: %s\n", filepath.Join(record.Dir(), report.File))
	return err
}

func (a *app) printJSON(v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.out, "%s\n", data)
	return err
}

// isTerminal reports whether w is a terminal.
func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// openRun opens the run that the first argument names, the newest without one. The name
// of a merge, or its directory, stands for its only run.
func (a *app) openRun(args []string) (*results.Run, error) {
	name := ""
	if len(args) > 0 {
		name = args[0]
	}
	dir, err := results.Find(a.root, name)
	if err != nil {
		if name == "" {
			return nil, errors.Join(err, errors.New("make one with zbench run"))
		}
		return a.openMerge(name, err)
	}
	return results.Open(dir)
}

// openMerge opens the only run of a merge; what is no merge is the given error.
func (a *app) openMerge(name string, err error) (*results.Run, error) {
	for _, dir := range []string{filepath.Join(a.root, name), name} {
		switch runs := fleet.Runs(dir); {
		case len(runs) == 1:
			return results.Open(filepath.Join(dir, runs[0]))
		case len(runs) > 1:
			name = strings.TrimSuffix(name, "/")
			return nil, fmt.Errorf("%s is a merge of runs of several machines, which are not averaged: name one of them: %s/%s", name, name, strings.Join(runs, ", "+name+"/"))
		}
	}
	return nil, err
}
