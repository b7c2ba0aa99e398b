// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// session is what a recipe works with.
type session struct {
	source string // directory for what is made ready beforehand, not recorded
	mnt    string // mount point of the recorded file system
	volume *volume
	status func(string)
	marks  []timedMark
	notes  []string // for the description: versions and sources
}

// mark begins a phase of the recording.
func (s *session) mark(name string) {
	var now unix.Timespec
	// The clock that bpf_ktime_get_ns reads; reading it cannot fail.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	s.marks = append(s.marks, timedMark{name, now.Nano()})
	s.status(name)
}

func (s *session) note(format string, args ...any) {
	s.notes = append(s.notes, fmt.Sprintf(format, args...))
}

// exec runs a program to its end; its output is part of the error only.
func (s *session) exec(ctx context.Context, name string, args ...string) error {
	return s.feed(ctx, nil, name, args...)
}

// feed is exec with a standard input.
func (s *session) feed(ctx context.Context, in io.Reader, name string, args ...string) error {
	out, err := s.output(ctx, in, name, args...)
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, lastLines(out))
	}
	return nil
}

func (s *session) output(ctx context.Context, in io.Reader, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Stdin = s.source, in
	// Programs must neither depend on the user's settings nor write elsewhere.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.source, "LC_ALL=C", "TZ=UTC", "DEBIAN_FRONTEND=noninteractive"}
	return cmd.CombinedOutput()
}

// version notes the first line that a program prints about itself.
func (s *session) version(ctx context.Context, name string, args ...string) error {
	out, err := s.output(ctx, nil, name, args...)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	line, _, _ := bytes.Cut(out, []byte("\n"))
	s.note("%s: %s", name, bytes.TrimSpace(line))
	return nil
}

// sync makes everything on the recorded file system durable.
func (s *session) sync() error {
	f, err := os.Open(s.mnt)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}

func (s *session) mount() error {
	if err := unix.Mount("/dev/"+s.volume.name, s.mnt, "ext4", 0, ""); err != nil {
		return fmt.Errorf("mounting ext4: %w", err)
	}
	return nil
}

func (s *session) unmount() error {
	if err := unix.Unmount(s.mnt, 0); err != nil {
		return fmt.Errorf("unmounting ext4: %w", err)
	}
	return nil
}

// describe is the trace's own account of how it was made.
func (s *session) describe(r Recipe) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", r.About)
	fmt.Fprintf(&b, "made by: zbench record %s\n", r.Name)
	fmt.Fprintf(&b, "file system: mkfs.ext4 %s; mount with defaults; loop device over a sparse file\n", strings.Join(mkfsOptions, " "))
	fmt.Fprintf(&b, "recorded: requests in the order of issue (block_rq_issue), gaps between issues\n")
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		fmt.Fprintf(&b, "kernel: %s\n", unix.ByteSliceToString(u.Release[:]))
	}
	for _, note := range s.notes {
		fmt.Fprintf(&b, "%s\n", note)
	}
	return b.String()
}

// lastLines keeps the end of a program's output for an error.
func lastLines(out []byte) string {
	const most = 500
	out = bytes.TrimSpace(out)
	return string(out[max(0, len(out)-most):])
}
