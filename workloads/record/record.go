// SPDX-License-Identifier: Apache-2.0

// Package record records the block operations of real programs on a real ext4
// file system.
//
// It owns the recipes ([Recipes]): which programs run and how their input is
// come by; the file system on a loop device that they run on; the probe on the
// kernel's block tracepoints; and the proof that a recording is exact. It does
// not own the trace format or issue traces. The command line and those who make
// the committed traces anew call it. [Run] uses a thread with a mount namespace
// of its own, so that mounts and loop device vanish with it however it ends;
// several runs may go on at once. Without root or what else it needs it fails
// with [ErrNotSupported] and says what is missing. A recording that lost an
// event or does not account for every changed block is no result: the output is
// written last, at once and only when everything agrees.
package record

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"zumastor.org/zumastor/workloads/trace"
)

var (
	// ErrNotSupported is wrapped when this machine or user cannot record.
	ErrNotSupported = errors.New("recording is not supported here")
	// ErrInexact is wrapped when a recording does not account for what the
	// kernel counted or what changed on the device.
	ErrInexact = errors.New("recording is not exact")
)

// Options says how to record. The zero value is usable but for Output.
type Options struct {
	Output   string           // file to write the trace to; replaced at the end
	WorkDir  string           // where image and sources go, several GiB; default the system's temporary directory
	OnStatus func(msg string) // told what is going on
}

// Report says what a recording holds and how it was proven.
type Report struct {
	Trace *trace.Trace // as written to Output
	Info  trace.Info   // of the whole trace
	// ChangedBlocks is how many 4 KiB blocks of the device differ between start
	// and end; every one was covered by a recorded write, zero or discard.
	ChangedBlocks int64
	// WrittenBlocks is how many 4 KiB blocks the recorded operations touched.
	WrittenBlocks int64
	// Kernel is the kernel's own count for the device over the recording, with
	// which the recorded operations agree.
	Kernel DeviceStat
}

// Run records the recipe of that name and writes the trace to o.Output.
func Run(ctx context.Context, name string, o Options) (Report, error) {
	r, err := find(name)
	if err != nil {
		return Report{}, err
	}
	if err := r.supported(); err != nil {
		return Report{}, err
	}
	if o.OnStatus == nil {
		o.OnStatus = func(string) {}
	}
	var report Report
	err = inMountNamespace(func() error {
		var err error
		report, err = runIn(ctx, r, o)
		return err
	})
	if err != nil {
		return Report{}, fmt.Errorf("recording %s: %w", name, err)
	}
	if err := writeTrace(o.Output, report.Trace); err != nil {
		return Report{}, err
	}
	return report, nil
}

func (r Recipe) supported() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("%w: %s needs root, for loop devices, mounts and eBPF; this is user %d", ErrNotSupported, r.Name, os.Geteuid())
	}
	var missing []string
	for _, tool := range append([]string{"mkfs.ext4"}, r.Tools...) {
		if _, err := exec.LookPath(tool); err != nil {
			missing = append(missing, tool)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: %s needs programs that are not installed: %s", ErrNotSupported, r.Name, strings.Join(missing, ", "))
	}
	return nil
}

// runIn does a recording on a thread that may mount what it likes.
func runIn(ctx context.Context, r Recipe, o Options) (report Report, err error) {
	work, err := os.MkdirTemp(o.WorkDir, "record-"+r.Name+"-")
	if err != nil {
		return Report{}, err
	}
	defer os.RemoveAll(work)

	v, err := newVolume(ctx, filepath.Join(work, "image"), r.Size)
	if err != nil {
		return Report{}, err
	}
	defer func() { err = errors.Join(err, v.close()) }()
	s := &session{
		source: filepath.Join(work, "source"), mnt: filepath.Join(work, "mnt"),
		volume: v, status: o.OnStatus,
	}
	for _, dir := range []string{s.source, s.mnt} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return Report{}, err
		}
	}
	o.OnStatus("preparing sources")
	if err := r.prepare(ctx, s); err != nil {
		return Report{}, fmt.Errorf("preparing sources: %w", err)
	}
	before, err := hashBlocks(v.imagePath, maphash.MakeSeed())
	if err != nil {
		return Report{}, err
	}
	c, err := s.capture(ctx, r)
	if err != nil {
		return Report{}, err
	}
	o.OnStatus("checking that the recording is exact")
	return c.report(r, s, before)
}

// capture is what was observed between the two ends of a recording.
type capture struct {
	events []event
	marks  []timedMark
	kernel DeviceStat
}

// capture runs the recipe under the probe, from before the mount until after the
// unmount, so that the device is at rest at both ends.
func (s *session) capture(ctx context.Context, r Recipe) (c capture, err error) {
	p, err := startProbe(s.volume.dev)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	start, err := readDeviceStat(s.volume.name)
	if err != nil {
		return c, err
	}
	s.mark("mount")
	if err := s.mount(); err != nil {
		return c, err
	}
	runErr := r.run(ctx, s)
	s.mark("unmount")
	if err := errors.Join(runErr, s.unmount()); err != nil {
		return c, err
	}
	end, err := s.volume.settle(ctx)
	if err != nil {
		return c, err
	}
	c.events, err = p.stop()
	c.marks, c.kernel = s.marks, end.minus(start)
	return c, err
}

// report turns what was captured into a trace and proves it.
func (c capture) report(r Recipe, s *session, before blockHashes) (Report, error) {
	ops, empty, err := toOps(c.events, s.volume.fua)
	if err != nil {
		return Report{}, err
	}
	t := assemble(ops, c.marks)
	t.Header = trace.Header{Name: r.Name, Description: s.describe(r), Size: r.Size, BlockSize: s.volume.blockSize}
	report := Report{Trace: t, Kernel: c.kernel}
	if report.Info, err = trace.Stat(t.Stream()); err != nil {
		return Report{}, err
	}
	if err := c.kernel.agrees(report.Info, empty); err != nil {
		return Report{}, err
	}
	after, err := hashBlocks(s.volume.imagePath, before.seed)
	if err != nil {
		return Report{}, err
	}
	report.ChangedBlocks, report.WrittenBlocks, err = coverage(t.Ops, before, after)
	return report, err
}

// writeTrace writes t beside path and renames it there.
func writeTrace(path string, t *trace.Trace) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".trace-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	err = errors.Join(t.Write(f), f.Chmod(0o644), f.Sync(), f.Close())
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return os.Rename(f.Name(), path)
}
