// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// guestInit is the guest's process 1 once its root file system is mounted.
//
//go:embed guest/init
var guestInit []byte

// ErrCrashed is wrapped when a guest ended without an exit code of its command:
// its kernel panicked, or QEMU failed.
var ErrCrashed = errors.New("the guest crashed")

// Config is a machine and what it is to run.
type Config struct {
	Kernel *Kernel
	Root   string // the root file system's image
	Dir    string // exists; /lab in the guest, and where logs and results are
	Accel  string // "kvm" or "tcg"
	ICount bool   // count instructions instead of time: one CPU, repeatable
	CPUs   int
	Memory int // MiB

	Disks []Disk
	// Again says that the directory is of a machine before, whose disks this one has as
	// they were left. They bypass the host's page cache then.
	Again  bool
	NVDIMM int64 // bytes of a /dev/pmem0, 0 for none
	Shares []Share
	Append []string // more of the kernel's command line

	// Command is a script, run by its #! line. Empty is a shell on the terminal.
	Command     string
	Environment []string // NAME=value
	Limit       time.Duration

	Host    string // host name
	Address string // on Network, such as 10.77.0.1
	Network *Network

	In       *os.File // of the shell
	Out, Err io.Writer
}

// Disk is a virtio disk, /dev/lab/NAME in the guest, empty at the start.
type Disk struct {
	Name string
	Size int64
	// Model is "" for as fast as it goes, or "hdd" or "ssd" for a limit of
	// operations and bytes a second. It models no seeks.
	Model string
}

// Share is a directory of the host, mounted in the guest.
type Share struct {
	Dir      string
	Mount    string
	ReadOnly bool
}

// Result is what became of a machine.
type Result struct {
	Code int           // of the command
	Took time.Duration // from QEMU's start to its end
}

// Run boots a machine, waits until its command is done or its limit is over, and
// returns the command's exit code. An error says that there is none, and has the
// end of the console's log. Files console.log, dmesg, results/ and cores/ are in
// cfg.Dir afterwards.
func Run(ctx context.Context, cfg Config) (Result, error) {
	if err := prepare(&cfg); err != nil {
		return Result{}, err
	}
	if cfg.Limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, cfg.Limit, fmt.Errorf("the guest was not done within %v", cfg.Limit))
		defer cancel()
	}
	path, err := lookPath("qemu-system-x86_64")
	if err != nil {
		return Result{}, err
	}
	for attempt := 1; ; attempt++ {
		r, err := boot(ctx, path, &cfg)
		if !errors.Is(err, ErrCrashed) || attempt == mostBoots || ctx.Err() != nil || cfg.hasBegun() {
			return r, err
		}
		fmt.Fprintf(os.Stderr, "lab: a crash while booting, before the command: booting again (%v)\n", firstLine(err))
	}
}

// mostBoots is how often a machine is booted whose kernel crashes before its command has
// begun. Without KVM, on several processors, QEMU now and then runs an instruction that the
// kernel is just patching.
const mostBoots = 3

// begun is the file that the guest's init makes before it runs the command.
func (cfg *Config) begun() string { return filepath.Join(cfg.Dir, "begun") }

func (cfg *Config) hasBegun() bool {
	_, err := os.Stat(cfg.begun())
	return err == nil
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// boot is one attempt of Run.
func boot(ctx context.Context, path string, cfg *Config) (Result, error) {
	if err := os.RemoveAll(cfg.begun()); err != nil {
		return Result{}, err
	}
	streams, err := openStreams(cfg.Out, cfg.Err)
	if err != nil {
		return Result{}, err
	}
	cmd := exec.CommandContext(ctx, path, arguments(cfg)...)
	cmd.WaitDelay = 5 * time.Second
	cmd.ExtraFiles = streams.guest()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var errs strings.Builder
	cmd.Stderr = &errs
	if cfg.Command == "" {
		cmd.Stdin, cmd.Stdout = cfg.In, os.Stdout
	}
	start := time.Now()
	err = cmd.Start()
	streams.started()
	if err == nil {
		err = cmd.Wait()
	}
	streams.wait()
	r := Result{Took: time.Since(start)}
	if cause := context.Cause(ctx); cause != nil {
		return r, fmt.Errorf("%w\n%s", cause, cfg.consoleEnd())
	}
	r.Code, err = exitCode(cfg.Dir, err, errs.String())
	if err != nil {
		return r, fmt.Errorf("%w\n%s", err, cfg.consoleEnd())
	}
	return r, nil
}

// exitCode is what the guest wrote of its command, if QEMU ended as the guest's
// init makes it end: with status 3, by isa-debug-exit.
func exitCode(dir string, err error, says string) (int, error) {
	var status *exec.ExitError
	if !errors.As(err, &status) || status.ExitCode() != 3 {
		if err == nil {
			err = errors.New("it ended QEMU without a status, as a panic does")
		}
		return 0, fmt.Errorf("%w: %w\n%s", ErrCrashed, err, tail(says, 5))
	}
	text, err := os.ReadFile(filepath.Join(dir, "exit"))
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrCrashed, err)
	}
	code, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("%w: its exit code: %w", ErrCrashed, err)
	}
	return code, nil
}

func (cfg *Config) console() string { return filepath.Join(cfg.Dir, "console.log") }

func (cfg *Config) consoleEnd() string {
	text, err := os.ReadFile(cfg.console())
	if err != nil || len(text) == 0 {
		return "(nothing on its console)"
	}
	return "from " + cfg.console() + ":\n" + cause(string(text))
}

// cause returns the first lines of a kernel's last report of a bug, or the last
// lines of a console.
func cause(console string) string {
	const most = 40
	lines := strings.Split(strings.TrimRight(console, "\n"), "\n")
	for i, line := range slices.Backward(lines) {
		for _, sign := range []string{"Kernel panic", "BUG: ", "Oops: ", "general protection fault"} {
			if strings.Contains(line, sign) && !strings.Contains(line, "not syncing: Fatal exception") {
				return strings.Join(lines[i:min(len(lines), i+most)], "\n")
			}
		}
	}
	return tail(console, most)
}

// prepare writes what the guest reads in its directory.
func prepare(cfg *Config) error {
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return err
	}
	cfg.Dir = dir
	for _, sub := range []string{"guest", "results", "cores", "disks"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o777); err != nil {
			return err
		}
	}
	var shares, env strings.Builder
	for i, s := range cfg.Shares {
		mode := "rw"
		if s.ReadOnly {
			mode = "ro"
		}
		fmt.Fprintf(&shares, "share%d %s %s\n", i, s.Mount, mode)
	}
	fmt.Fprintf(&env, "export LAB_HOST=%s LAB_ADDRESS=%s LAB_KERNEL=%s LAB_ACCEL=%s\n", quote(cfg.Host), quote(cfg.Address), cfg.Kernel.Version, cfg.Accel)
	for _, e := range cfg.Environment {
		name, value, _ := strings.Cut(e, "=")
		fmt.Fprintf(&env, "export %s=%s\n", name, quote(value))
	}
	if cfg.Command == "" {
		env.WriteString("LAB_SHELL=yes\n")
	}
	for name, content := range map[string]string{
		"guest/init": string(guestInit), "guest/shares": shares.String(), "guest/environment": env.String(), "command": cfg.Command,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o755); err != nil {
			return err
		}
	}
	for _, d := range cfg.Disks {
		if cfg.Again {
			break
		}
		if err := makeSparse(cfg.diskFile(d.Name), d.Size); err != nil {
			return err
		}
	}
	if cfg.NVDIMM > 0 {
		if err := makeSparse(cfg.diskFile("nvdimm"), cfg.NVDIMM); err != nil {
			return err
		}
	}
	return os.RemoveAll(filepath.Join(dir, "exit"))
}

func (cfg *Config) diskFile(name string) string { return filepath.Join(cfg.Dir, "disks", name) }

func makeSparse(name string, size int64) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}

// quote is for the shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// Script returns a command that runs args as they are.
func Script(args []string) string {
	var b strings.Builder
	b.WriteString("#!/bin/sh\nexec")
	for _, a := range args {
		b.WriteString(" " + quote(a))
	}
	return b.String() + "\n"
}

// streams are the pipes from QEMU to where the guest's output goes.
type streams struct {
	writers []*os.File
	copies  sync.WaitGroup
}

func openStreams(writers ...io.Writer) (*streams, error) {
	s := &streams{}
	for _, to := range writers {
		if to == nil {
			to = io.Discard
		}
		r, w, err := os.Pipe()
		if err != nil {
			s.started()
			s.wait()
			return nil, err
		}
		s.writers = append(s.writers, w)
		s.copies.Go(func() {
			io.Copy(to, r)
			io.Copy(io.Discard, r) // QEMU goes on where nobody reads
			r.Close()
		})
	}
	return s, nil
}

// guest are the files that QEMU inherits, 3 and up.
func (s *streams) guest() []*os.File { return s.writers }

// started closes our ends: the readers see the end when QEMU is gone.
func (s *streams) started() {
	for _, w := range s.writers {
		w.Close()
	}
}

func (s *streams) wait() { s.copies.Wait() }
