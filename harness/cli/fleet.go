// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/harness/fleet"
	"zumastor.org/zumastor/harness/runner"
)

func (a *app) fleetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "fleet",
		Short: "Run a suite on many machines",
		Long:  "Fleet makes jobs for engines that run jobs on many machines. docs/fleet.md says how.",
		Args:  between(1, 1, "the name of a command"),
		RunE: func(_ *cobra.Command, args []string) error {
			return fmt.Errorf("%w: unknown command %q: zbench fleet --help lists them", errUsage, args[0])
		},
	}
	cmd.AddCommand(a.renderCommand())
	return cmd
}

// renderFlags are the flags of the command fleet render.
type renderFlags struct {
	run            runFlags
	job            fleet.JobSpec
	engine, output string
	choose         []string
}

func (a *app) renderCommand() *cobra.Command {
	var f renderFlags
	cmd := &cobra.Command{
		Use:   "render --engine ENGINE --to PLACE [EXPERIMENTS...]",
		Short: "Make a job of which each task is a trial",
		Long: `Render writes a job for Nomad (a batch), Kubernetes (an indexed Job) or Slurm (an array).
Each task carries out one trial of the experiments, all without names, and collects it in
PLACE: a directory that all machines share, or a bucket. Nothing is started.

No two trials run on one machine at a time. The job has no keys: it names where the
engine keeps those of the bucket, and its first lines say how to put them there.`,
		Example: `  zbench fleet render --engine slurm --to /mnt/lab --binary /opt/zbench E6 > chunks.sh
  zbench fleet render --engine nomad --to s3://bench/lab --binary /usr/local/bin/zbench --select node.class=bench
  zbench fleet render --engine kubernetes --to s3:https://s3.lab:9000/bench --image registry.lab/zbench:1 E3 E6`,
		Args: between(0, 64, "the names of experiments"),
		RunE: func(_ *cobra.Command, args []string) error {
			f.run.experiments = args
			return a.render(f)
		},
	}
	flags := cmd.Flags()
	f.run.addWhat(flags)
	flags.StringVar(&f.engine, "engine", "", "nomad, kubernetes or slurm")
	flags.StringVar(&f.job.To, "to", "", "the `place` where trials are collected: a directory, or s3://BUCKET/PREFIX")
	flags.StringVar(&f.job.Name, "name", "bench", "the job's `name`, which begins the names of what it collects")
	flags.IntVar(&f.job.Count, "trials", 0, "the `number` of tasks (default one for each round of each experiment)")
	flags.StringVar(&f.job.Image, "image", "", "the container `image` that has zbench")
	flags.StringVar(&f.job.Program, "binary", "", "the `path` of zbench, on the machines or in the image (default zbench)")
	flags.StringArrayVar(&f.choose, "select", nil, "`KEY=VALUE` that machines must have: a node attribute, a label, or an option of sbatch such as constraint=epyc")
	flags.StringVar(&f.job.Scratch, "scratch", "", "the `directory` on the machines for the files that are measured (default one of the engine's)")
	flags.StringVar(&f.job.Credentials, "credentials", "", "the `name` under which the engine keeps the bucket's keys: a Nomad variable, a Kubernetes secret, a file for Slurm")
	flags.StringVar(&f.job.Region, "region", os.Getenv("AWS_REGION"), "the bucket's `region`")
	flags.IntVar(&f.job.MemoryMiB, "memory", 4096, "`MiB` that a task may take")
	flags.StringVarP(&f.output, "output", "o", "", "the `file` to write (default standard output)")
	flags.Lookup("region").DefValue = "$AWS_REGION"
	return cmd
}

func (a *app) render(f renderFlags) error {
	o, err := f.run.options()
	if err != nil {
		return err
	}
	plan, err := runner.PlanOf(o)
	if err != nil {
		return err
	}
	j := f.job
	j.Engine, j.Args = fleet.Engine(f.engine), f.run.arguments()
	j.Privileged = cmp.Or(f.run.device, f.run.nvram, f.run.pmem) != "" || f.run.probes
	if j.Count = cmp.Or(j.Count, plan.Rounds); j.Count > plan.Rounds {
		return fmt.Errorf("%w: --trials %d: the experiments have %d rounds, and a trial has at least one", errUsage, j.Count, plan.Rounds)
	}
	if j.To, err = fleet.FullPlace(j.To); err != nil {
		return err
	}
	for _, text := range f.choose {
		key, value, _ := strings.Cut(text, "=")
		j.Select = append(j.Select, fleet.Choice{Key: key, Value: value})
	}
	var text bytes.Buffer
	if err := fleet.Render(&text, j); err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	if f.output != "" {
		return os.WriteFile(f.output, text.Bytes(), 0o644)
	}
	_, err = text.WriteTo(a.out)
	return err
}

// arguments returns the flags of zbench run that say what f says.
func (f runFlags) arguments() []string {
	args := []string{"--suite=" + f.suite}
	for _, flag := range []struct{ name, value string }{
		{"--experiments", strings.Join(f.experiments, ",")}, {"--chunks", strings.Join(f.chunks, ",")},
		{"--placements", strings.Join(f.placements, ",")}, {"--snapshots", strings.Join(f.snapshots, ",")},
		{"--seed", fmt.Sprint(f.seed)}, {"--device", f.device}, {"--nvram", f.nvram}, {"--pmem", f.pmem},
	} {
		if flag.value != "" {
			args = append(args, flag.name+"="+flag.value)
		}
	}
	for _, flag := range []struct {
		name string
		set  bool
	}{{"--force", f.force}, {"--strict", f.strict}, {"--probes", f.probes}} {
		if flag.set {
			args = append(args, flag.name)
		}
	}
	return args
}
