// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"zumastor.org/zumastor/harness/lab"
)

// testMachineLimit is how long a machine may run tests.
const testMachineLimit = 45 * time.Minute

func (a *app) labTestCommand() *cobra.Command {
	var f labFlags
	var asJSON, long, again bool
	cmd := &cobra.Command{
		Use:   "test [NAME...]",
		Short: "Run the kernel tests, by default all on each kernel",
		Long: "Test boots each kernel once and runs the scripts of kernel/tests in it, all or those\n" +
			"named. Logs of tests that fail are in the directory that it names, or in --keep DIR.",
		Example: "  zbench lab test\n  zbench lab test --kernel 6.12 001 004",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if long {
				f.env = append(f.env, "LONG=yes")
			}
			return a.labTest(cmd.Context(), &f, args, asJSON, again)
		},
	}
	f.add(cmd.Flags())
	flag := cmd.Flags().Lookup("kernel")
	flag.Usage, flag.DefValue = "the `version`: "+strings.Join(lab.Versions, ", ")+", debug, debian for those but debug, or all", "all"
	f.kernel = "all"
	// Each test has a limit of its own; this one is for a machine that does nothing more.
	f.timeout = testMachineLimit
	cmd.Flags().Lookup("timeout").DefValue = testMachineLimit.String()
	cmd.Flags().BoolVar(&long, "long", false, "have tests do all they can: hours; set --timeout")
	cmd.Flags().BoolVar(&again, "again", false, "run what failed once more, in another machine; what passes then is said to be flaky")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON in place of the table")
	return cmd
}

// labVersions are the kernels that a name means.
func (a *app) labVersions(name string) ([]string, error) {
	switch name {
	case "all":
	case "debian":
		return lab.Versions, nil
	default:
		return []string{name}, nil
	}
	c, err := a.cache()
	if err != nil {
		return nil, err
	}
	versions := slices.Clone(lab.Versions)
	if c.HasDebug() {
		versions = append(versions, lab.Debug)
	}
	return versions, nil
}

// labTest runs tests on the kernels, and says at the end what became of them.
func (a *app) labTest(ctx context.Context, f *labFlags, names []string, asJSON, again bool) error {
	versions, err := a.labVersions(f.kernel)
	if err != nil {
		return err
	}
	keep := f.keep
	all := []lab.Test{}
	var errs []error
	for _, v := range versions {
		f.kernel = v
		if keep != "" {
			f.keep = filepath.Join(keep, v)
		}
		tests, err := a.labTestKernel(ctx, f, names, asJSON, again)
		all = append(all, tests...)
		if err != nil {
			errs = append(errs, fmt.Errorf("on %s: %w", v, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	if asJSON {
		if err := a.printJSON(all); err != nil {
			return err
		}
	}
	count := func(outcome string) int {
		return len(slices.DeleteFunc(slices.Clone(all), func(t lab.Test) bool { return t.Outcome != outcome }))
	}
	for _, t := range all {
		switch t.Outcome {
		case "fail":
			fmt.Fprintf(a.err, "--- FAIL: kernel/tests/%s on %s (%.1f s): %s\n", t.Name, t.Kernel, t.Seconds, t.Reason)
		case "flaky":
			fmt.Fprintf(a.err, "flaky: kernel/tests/%s on %s passed when it was run again; before: %s\n", t.Name, t.Kernel, t.Reason)
		}
	}
	fmt.Fprintf(a.err, "lab: %d passed, %d flaky, %d failed, %d skipped\n", count("pass"), count("flaky"), count("fail"), count("skip"))
	return errors.Join(errs...)
}

// labTestKernel runs tests on one kernel: in one machine, and in another with
// those that are left each time that a test ends the machine. The error says which
// failed.
func (a *app) labTestKernel(ctx context.Context, f *labFlags, names []string, quiet, again bool) ([]lab.Test, error) {
	cfg, err := a.labTestConfig(ctx, f)
	if err != nil {
		return nil, err
	}
	if quiet {
		cfg.Out = a.err
	}
	done, err := a.labDirectory(ctx, f, cfg)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		if names, err = lab.ListTests(cfg.Shares[0].Dir); err != nil {
			return nil, err
		}
	}
	fmt.Fprintf(a.err, "lab: kernel %s\n", cfg.Kernel.Release)
	all, err := a.labTestMachines(ctx, cfg, names)
	if failed := testNames(all, "fail"); again && err == nil && len(failed) > 0 {
		fmt.Fprintf(a.err, "lab: once more: %s\n", strings.Join(failed, ", "))
		var second []lab.Test
		second, err = a.labTestMachines(ctx, cfg, failed)
		flaky(all, second)
	}
	if err == nil {
		err = testsFailed(all)
	}
	done(err)
	return all, err
}

// labTestMachines runs tests in as many machines as it takes.
func (a *app) labTestMachines(ctx context.Context, cfg *lab.Config, names []string) (all []lab.Test, err error) {
	for len(names) > 0 && err == nil {
		var tests []lab.Test
		tests, err = a.labTestMachine(ctx, cfg, names)
		all = append(all, tests...)
		names = names[len(tests):]
	}
	return all, err
}

// flaky says of failed tests that they are that, where they passed in a second run.
func flaky(all, second []lab.Test) {
	passed := testNames(second, "pass")
	for i := range all {
		if all[i].Outcome == "fail" && slices.Contains(passed, all[i].Name) {
			all[i].Outcome = "flaky"
		}
	}
}

// testNames returns the tests with an outcome.
func testNames(tests []lab.Test, outcome string) (names []string) {
	for _, t := range tests {
		if t.Outcome == outcome {
			names = append(names, t.Name)
		}
	}
	return names
}

// labTestMachine runs tests in one machine, or in one after the other with the same
// disks as long as a test wants that, and returns what became of those that were begun.
// An error is one of the lab.
func (a *app) labTestMachine(ctx context.Context, cfg *lab.Config, names []string) ([]lab.Test, error) {
	results := filepath.Join(cfg.Dir, "results")
	for _, old := range []string{"results.tsv", "running", "again", "cut"} {
		if err := os.RemoveAll(filepath.Join(results, old)); err != nil {
			return nil, err
		}
	}
	left, command := names, []string{"/tests/run", "-o", "/lab/results"}
	cfg.Again = false
	for {
		cfg.Command = lab.Script(append(command, left...))
		r, err := cutTest(ctx, cfg, results)
		tests, rerr := lab.ReadTests(filepath.Join(results, "results.tsv"), cfg.Kernel.Release)
		running := lab.RunningTest(results)
		ended := (errors.Is(err, lab.ErrCrashed) || errors.Is(err, lab.ErrCut)) && running != "" && rerr == nil
		switch {
		case ended && lab.WantsAgain(results):
			left, command, cfg.Again = names[len(tests):], []string{"/tests/run", "-o", "/lab/results", "--again"}, true
			continue
		case ended:
			fmt.Fprintf(a.err, "lab: %s ended the machine: %v\n%s", running, err, lab.KernelLog(results, running))
			return append(tests, lab.Test{Kernel: cfg.Kernel.Release, Name: running, Outcome: "fail", Reason: "it ended the machine"}), nil
		case err == nil && len(tests) < len(names):
			err = fmt.Errorf("kernel/tests/run ended after %d of %d tests, with exit code %d", len(tests), len(names), r.Code)
		}
		return tests, errors.Join(err, rerr)
	}
}

// cutTest runs a machine, whose power it cuts when a test asks for that.
func cutTest(ctx context.Context, cfg *lab.Config, results string) (lab.Result, error) {
	ctx, end := context.WithCancelCause(ctx)
	var cutter sync.WaitGroup
	cutter.Go(func() {
		if err := lab.AwaitCut(ctx, results); ctx.Err() == nil {
			end(errors.Join(lab.ErrCut, err))
		}
	})
	r, err := lab.Run(ctx, *cfg)
	end(nil)
	cutter.Wait()
	return r, err
}

// labTestConfig is the machine that tests run in. Its first share is the tests.
func (a *app) labTestConfig(ctx context.Context, f *labFlags) (*lab.Config, error) {
	checkout, err := lab.FindCheckout(".")
	if err != nil {
		return nil, err
	}
	cfg, err := a.labConfig(ctx, f)
	if err != nil {
		return nil, err
	}
	cfg.Host = "lab"
	cfg.Environment = append(cfg.Environment, "LAB_CUTS=yes")
	cfg.Disks = append(lab.TestDisks(), cfg.Disks...)
	if cfg.NVDIMM == 0 {
		cfg.NVDIMM = lab.TestNVDIMM
	}
	tests := lab.Share{Dir: filepath.Join(string(checkout), "kernel/tests"), Mount: "/tests", ReadOnly: true}
	cfg.Shares = append([]lab.Share{tests}, cfg.Shares...)
	return cfg, nil
}

// testsFailed is an error if tests failed, or all were skipped.
func testsFailed(tests []lab.Test) error {
	failed := testNames(tests, "fail")
	switch {
	case len(failed) > 0:
		return fmt.Errorf("tests failed: %s", strings.Join(failed, ", "))
	case len(testNames(tests, "skip")) == len(tests):
		return errors.New("no test ran: all were skipped")
	}
	return nil
}
