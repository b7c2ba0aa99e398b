// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"zumastor.org/zumastor/harness/lab"
)

const aboutLab = `Lab boots Debian's kernels in virtual machines, and runs commands, tests and
benchmarks in them. It needs QEMU and mmdebstrap (see "make deps-lab"), not root.
What it builds, it keeps in $ZUMASTOR_LAB (default ~/.cache/zumastor/lab).

In the guest, the programs of the checkout are in the path, its kernel modules are
/lab/modules/*.ko, disks are /dev/lab/NAME, and what is written to /lab/results
stays when the machine is gone. docs/lab.md tells more.`

// labFlags are what all commands that boot machines take.
type labFlags struct {
	kernel  string
	cpus    int
	memory  int
	disks   []string
	nvdimm  string
	shares  []string
	append  []string
	env     []string
	icount  bool
	accel   string
	keep    string
	timeout time.Duration
	hosts   int
	bare    bool
}

func (f *labFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.kernel, "kernel", lab.Versions[0], "the `version`: "+strings.Join(lab.Versions, ", ")+" or debug, where that has been built")
	flags.IntVar(&f.cpus, "cpus", 2, "`number` of CPUs")
	flags.IntVar(&f.memory, "memory", 2048, "memory in `MiB`")
	flags.StringArrayVar(&f.disks, "disk", nil, "a virtio `disk`: NAME=SIZE or NAME=SIZE,hdd or NAME=SIZE,ssd")
	flags.StringVar(&f.nvdimm, "nvdimm", "", "`size` of an NVDIMM")
	flags.StringArrayVar(&f.shares, "share", nil, "a `directory` to mount: DIR (at /share), DIR:MOUNT or DIR:MOUNT:ro")
	flags.StringArrayVar(&f.append, "append", nil, "a `word` for the kernel's command line")
	flags.StringArrayVar(&f.env, "env", nil, "`NAME=value` for the command's environment")
	flags.BoolVar(&f.icount, "icount", false, "count instructions instead of time: one CPU, and figures that repeat")
	flags.StringVar(&f.accel, "accel", "", "kvm or `tcg` (default: kvm where it works)")
	flags.StringVar(&f.keep, "keep", "", "the `directory` for logs and results, which is kept")
	flags.DurationVar(&f.timeout, "timeout", 10*time.Minute, "end the machine after this `time`")
	flags.BoolVar(&f.bare, "bare", false, "build neither programs nor modules of the checkout")
}

// labCommand is "zbench lab".
func (a *app) labCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "lab", Short: "Run real kernels in virtual machines", Long: aboutLab, Args: between(0, 0, "a command")}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.AddCommand(a.labBuildCommand(), a.labRunCommand(), a.labShellCommand(), a.labTestCommand(), a.labBenchCommand(), a.labHeadersCommand(), a.labHostileCommand(),
		a.labSnapshotsCommand())
	cmd.AddCommand(a.labLoadCommands()...)
	return cmd
}

// cache is the cache that a command uses.
func (a *app) cache() (*lab.Cache, error) {
	if missing := lab.Missing(); len(missing) > 0 {
		return nil, fmt.Errorf("%w: packages are not installed: apt-get install --no-install-recommends %s", lab.ErrUnavailable, strings.Join(missing, " "))
	}
	dir, err := lab.DefaultDir()
	return &lab.Cache{Dir: dir, Log: a.err}, err
}

func (a *app) labBuildCommand() *cobra.Command {
	var update, debug bool
	cmd := &cobra.Command{
		Use: "build", Short: "Build what machines boot, if the cache does not have it", Args: between(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.cache()
			if err != nil {
				return err
			}
			c.Update = update
			if _, err := c.Root(cmd.Context()); err != nil {
				return err
			}
			for _, v := range lab.Versions {
				k, err := c.Kernel(cmd.Context(), v)
				if err != nil {
					return err
				}
				fmt.Fprintf(a.out, "kernel %-5s %s\n", v, k.Release)
			}
			if !debug {
				return nil
			}
			k, err := c.BuildDebug(cmd.Context())
			if err == nil {
				fmt.Fprintf(a.out, "kernel %-5s %s\n", k.Version, k.Release)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&update, "update", false, "take the newest packages")
	cmd.Flags().BoolVar(&debug, "debug", false, "compile the debug kernel too, with KASAN and lockdep: ten minutes or some")
	return cmd
}

func (a *app) labHeadersCommand() *cobra.Command {
	var version string
	cmd := &cobra.Command{
		Use: "kdir", Short: "Print the directory to build kernel modules with, make's KDIR", Args: between(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.cache()
			if err != nil {
				return err
			}
			k, err := c.Kernel(cmd.Context(), version)
			if err == nil {
				fmt.Fprintln(a.out, k.Headers)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&version, "kernel", lab.Versions[0], "the `version`")
	return cmd
}

func (a *app) labRunCommand() *cobra.Command {
	var f labFlags
	cmd := &cobra.Command{
		Use:   "run -- COMMAND [ARGUMENT...]",
		Short: "Boot a machine, run a command in it, and exit as it does",
		Long: "Run boots a machine, runs COMMAND in it, and exits with its exit code; what COMMAND\nprints comes out here. With --hosts, as many machines run it at once, named host1 and\n" +
			"so on, with addresses 10.77.0.1 and so on on one network; the exit code is the first\nthat is not 0.",
		Example: "  zbench lab run --kernel 6.1 -- uname -a\n  zbench lab run --share ~/work -- sh /share/test.sh",
		Args:    between(1, 1<<20, "a command, after --"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.labRun(cmd.Context(), &f, lab.Script(args))
		},
	}
	f.add(cmd.Flags())
	cmd.Flags().IntVar(&f.hosts, "hosts", 1, "`number` of machines, on one network")
	return cmd
}

func (a *app) labShellCommand() *cobra.Command {
	var f labFlags
	cmd := &cobra.Command{
		Use: "shell", Short: "Boot a machine with a shell on this terminal; exit, or Ctrl-A X, ends it",
		Args: between(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.hosts, f.timeout = 1, 0
			return a.labRun(cmd.Context(), &f, "")
		},
	}
	f.add(cmd.Flags())
	return cmd
}

// labRun runs a script, or a shell, on the machines that flags ask for.
func (a *app) labRun(ctx context.Context, f *labFlags, script string) error {
	cfg, err := a.labConfig(ctx, f)
	if err != nil {
		return err
	}
	cfg.Command = script
	if in, ok := a.in.(*os.File); ok {
		cfg.In = in
	}
	done, err := a.labDirectory(ctx, f, cfg)
	if err != nil {
		return err
	}
	err = a.labHosts(ctx, f, cfg)
	done(err)
	return err
}

// labHosts boots the machines and waits for them.
func (a *app) labHosts(ctx context.Context, f *labFlags, cfg *lab.Config) error {
	if f.hosts <= 1 {
		cfg.Host = "lab"
		r, err := lab.Run(ctx, *cfg)
		return exitError(r.Code, err)
	}
	network, err := lab.NewNetwork(cfg.Dir)
	if err != nil {
		return err
	}
	defer network.Close()
	together := filepath.Join(cfg.Dir, "together")
	if err := os.MkdirAll(together, 0o777); err != nil {
		return err
	}
	cfg.Shares = append(cfg.Shares, lab.Share{Dir: together, Mount: "/together"})
	errs := make([]error, f.hosts)
	var machines sync.WaitGroup
	var out sync.Mutex
	for i := range f.hosts {
		c := *cfg
		c.Host, c.Address, c.Network = fmt.Sprintf("host%d", i+1), fmt.Sprintf("10.77.0.%d", i+1), network
		c.Dir = filepath.Join(cfg.Dir, c.Host)
		c.Environment = append([]string{fmt.Sprintf("LAB_HOSTS=%d", f.hosts)}, c.Environment...)
		c.Out, c.Err = &prefixer{to: a.out, name: c.Host, mu: &out}, &prefixer{to: a.err, name: c.Host, mu: &out}
		machines.Go(func() {
			if err := copyModules(cfg.Dir, c.Dir); err != nil {
				errs[i] = err
				return
			}
			r, err := lab.Run(ctx, c)
			if errs[i] = exitError(r.Code, err); errs[i] != nil {
				errs[i] = fmt.Errorf("%s: %w", c.Host, errs[i])
			}
		})
	}
	machines.Wait()
	return errors.Join(errs...)
}

// labConfig builds what is missing and makes a machine of flags.
func (a *app) labConfig(ctx context.Context, f *labFlags) (*lab.Config, error) {
	cfg := &lab.Config{CPUs: f.cpus, Memory: f.memory, ICount: f.icount, Append: f.append, Environment: f.env, Limit: f.timeout, Out: a.out, Err: a.err}
	if f.cpus > runtime.NumCPU()*8 || f.cpus < 1 || f.memory < 256 || f.hosts > 16 {
		return nil, fmt.Errorf("%w: a machine has at least 1 CPU and 256 MiB, and there are at most 16", errUsage)
	}
	if err := f.parse(cfg); err != nil {
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	c, err := a.cache()
	if err != nil {
		return nil, err
	}
	if cfg.Kernel, err = c.Kernel(ctx, f.kernel); err != nil {
		return nil, err
	}
	if cfg.Root, err = c.Root(ctx); err != nil {
		return nil, err
	}
	if cfg.Accel = f.accel; cfg.Accel == "" && !f.icount {
		cfg.Accel, err = c.Accel(ctx, cfg.Kernel)
	}
	return cfg, err
}

// labDirectory makes the machine's directory, with programs and modules of the
// checkout, and returns what is to be called when it is done.
func (a *app) labDirectory(ctx context.Context, f *labFlags, cfg *lab.Config) (func(error), error) {
	dir, err := lab.DefaultDir()
	if err != nil {
		return nil, err
	}
	runs := filepath.Join(dir, "runs")
	if err := os.MkdirAll(runs, 0o755); err != nil {
		return nil, err
	}
	if cfg.Dir = f.keep; cfg.Dir == "" {
		cfg.Dir, err = os.MkdirTemp(runs, cfg.Kernel.Version+"-")
	} else {
		err = os.MkdirAll(cfg.Dir, 0o755)
	}
	if err != nil {
		return nil, err
	}
	if !f.bare {
		if err := a.addCheckout(ctx, cfg); err != nil {
			return nil, err
		}
	}
	return func(err error) {
		var exit *codeError
		switch crashed := err != nil && !errors.As(err, &exit); {
		case f.keep != "":
			os.RemoveAll(filepath.Join(cfg.Dir, "disks"))
		case crashed:
			fmt.Fprintf(a.err, "lab: %s has the console's log and results\n", cfg.Dir)
		default:
			os.RemoveAll(cfg.Dir)
		}
	}, nil
}

// addCheckout gives the machine the programs and modules of the checkout.
func (a *app) addCheckout(ctx context.Context, cfg *lab.Config) error {
	checkout, err := lab.FindCheckout(".")
	if err != nil {
		return fmt.Errorf("%w, or with --bare", err)
	}
	programs, err := checkout.Programs(ctx)
	if err != nil {
		return err
	}
	cfg.Shares = append(cfg.Shares, lab.Share{Dir: programs, Mount: "/usr/local/bin", ReadOnly: true})
	modules, err := checkout.Modules(ctx, cfg.Kernel)
	for _, m := range modules {
		if err == nil {
			err = lab.CopyFile(m, filepath.Join(cfg.Dir, "modules"))
		}
	}
	return err
}

func copyModules(from, to string) error {
	modules, err := filepath.Glob(filepath.Join(from, "modules/*.ko"))
	for _, m := range modules {
		if err == nil {
			err = lab.CopyFile(m, filepath.Join(to, "modules"))
		}
	}
	if err == nil {
		err = os.MkdirAll(to, 0o755)
	}
	return err
}

// codeError is the exit code of a command in a guest. It is not an error of the
// lab, and nothing is printed of it.
type codeError struct{ code int }

func (e *codeError) Error() string { return fmt.Sprintf("the command's exit code is %d", e.code) }

func exitError(code int, err error) error {
	if err == nil && code != 0 {
		return &codeError{code}
	}
	return err
}

// prefixer writes whole lines, each after the name of who said it.
type prefixer struct {
	to   io.Writer
	name string
	mu   *sync.Mutex
	rest []byte
}

func (p *prefixer) Write(b []byte) (int, error) {
	p.rest = append(p.rest, b...)
	for {
		line, rest, ok := strings.Cut(string(p.rest), "\n")
		if !ok {
			return len(b), nil
		}
		p.mu.Lock()
		_, err := fmt.Fprintf(p.to, "%s: %s\n", p.name, line)
		p.mu.Unlock()
		if err != nil {
			return 0, err
		}
		p.rest = []byte(rest)
	}
}
