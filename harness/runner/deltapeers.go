// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"zumastor.org/zumastor/analysis/goals"
	"zumastor.org/zumastor/harness/evolve"
	"zumastor.org/zumastor/harness/export"
	"zumastor.org/zumastor/results"
)

// measurePeer has another program make a delta of the whole images, and apply it if it
// has a form of its own. It returns nil where the program is not installed.
func (d *deltas) measurePeer(ctx context.Context, p evolve.Pair, m *outcome, file, output string) (*outcome, error) {
	var encode, decode []string
	switch m.variant {
	case "XDELTA3": // as it comes, with a window of 64 MiB of the base
		encode = []string{"xdelta3", "-q", "-9", "-e", "-f", "-s", p.Old, p.New, file}
		decode = []string{"xdelta3", "-q", "-d", "-f", "-s", p.Old, file, output}
	case "ZSTD-PATCH-FROM":
		encode = []string{"zstd", "-q", "-f", "--patch-from=" + p.Old, p.New, "-o", file}
		decode = []string{"zstd", "-q", "-d", "-f", "--long=31", "--patch-from=" + p.Old, file, "-o", output}
	case "GZIP": // of the changed chunks
		raw := filepath.Join(d.tmp, "raw")
		defer os.Remove(raw)
		if err := writeChanged(raw, p); err != nil {
			return nil, err
		}
		encode, decode = []string{"gzip", "-c", raw}, []string{"gzip", "-dc", file}
	case "GZIP-OF-VCDIFF":
		made := filepath.Join(d.tmp, "made")
		defer os.Remove(made)
		var err error
		if m.encode, err = export.RunDelta(ctx, d.program, export.EncodePart, p.Old, p.New, made, "vcdiff", "0", strconv.FormatInt(d.Extents[0], 10), "0"); err != nil {
			return nil, err
		}
		encode = []string{"gzip", "-c", made}
	case "RSYNC":
		if err := copyFile(output, p.Old); err != nil {
			return nil, err
		}
		encode = []string{"rsync", "--no-whole-file", "--inplace", "-z", "--stats", "--ignore-times", p.New, output}
	case "QEMU-IMG": // an image over the newer one is put over the older one
		if skip, err := newOverlay(ctx, p, file); skip || err != nil {
			return nil, err
		}
		encode = []string{"qemu-img", "rebase", "-f", "qcow2", "-F", "raw", "-b", p.Old, file}
	default:
		return nil, fmt.Errorf("no program is known as %s", m.variant)
	}
	before := m.encode
	said, err := d.timed(ctx, &m.encode, file, strings.HasPrefix(m.variant, "GZIP"), encode)
	if errors.Is(err, exec.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	m.encode.Seconds, m.encode.Extents = m.encode.Seconds+before.Seconds, 0
	m.encode.PeakBytes = max(m.encode.PeakBytes, before.PeakBytes)
	if m.encode.Coded, err = codedBy(m.variant, said, file); err != nil || decode == nil {
		return m, err
	}
	m.applied = true
	_, err = d.timed(ctx, &m.decode, output, m.variant == "GZIP", decode)
	return m, err
}

// timed runs a program and notes what it took; to is what it prints to, if redirect is
// set, else what it prints is returned.
func (d *deltas) timed(ctx context.Context, r *export.DeltaReport, to string, redirect bool, command []string) (string, error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if redirect {
		f, err := os.Create(to)
		if err != nil {
			return "", err
		}
		defer f.Close()
		cmd.Stdout = f
	}
	began := time.Now()
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%q: %w: %s", command, err, errs.Bytes())
	}
	r.Seconds = time.Since(began).Seconds()
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		r.PeakBytes = usage.Maxrss << 10
	}
	return out.String(), nil
}

var rsyncSent = regexp.MustCompile(`Total bytes (?:sent|received): ([0-9,.]+)`)

// codedBy returns how many bytes a program made, or sent either way.
func codedBy(variant, said, file string) (int64, error) {
	if variant != "RSYNC" {
		st, err := os.Stat(file)
		if err != nil {
			return 0, err
		}
		if variant == "QEMU-IMG" {
			return st.Sys().(*syscall.Stat_t).Blocks * 512, nil
		}
		return st.Size(), nil
	}
	var total int64
	for _, found := range rsyncSent.FindAllStringSubmatch(said, -1) {
		n, err := strconv.ParseInt(strings.NewReplacer(",", "", ".", "").Replace(found[1]), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("what rsync says: %w", err)
		}
		total += n
	}
	if total == 0 {
		return 0, errors.New("rsync does not say what it sent")
	}
	return total, nil
}

// newOverlay makes an empty image over the newer one.
func newOverlay(ctx context.Context, p evolve.Pair, file string) (skip bool, err error) {
	out, err := exec.CommandContext(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", p.New, file).CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		err = fmt.Errorf("qemu-img create: %w: %s", err, out)
	}
	return false, err
}

// writeChanged writes what changed between the images, one behind the other.
func writeChanged(path string, p evolve.Pair) (err error) {
	changed, err := export.ChangedExtents(p.Old, p.New)
	if err != nil {
		return err
	}
	in, err := os.Open(p.New)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	for _, x := range changed {
		if _, err := io.Copy(out, io.NewSectionReader(in, x.Offset, x.Length)); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(to, from string) error {
	out, err := exec.Command("cp", "--sparse=always", from, to).CombinedOutput()
	if err != nil {
		return fmt.Errorf("copying an image: %w: %s", err, out)
	}
	return nil
}

// compared relates best to the other ways to make a delta of the same data in the same
// round.
func (d *deltas) compared(data string, made []*outcome, round int) results.Sample {
	find := func(variant string) *outcome {
		for _, m := range made {
			if m != nil && m.variant == variant && m.link == 0 && (m.extent == 0 || m.extent == d.Extents[0]) {
				return m
			}
		}
		return nil
	}
	var smallest, gzipped int64
	for _, m := range made {
		if m == nil || m.variant == export.BestCodec || m.link > 0 || m.extent > 0 && m.extent != d.Extents[0] {
			continue
		}
		n := m.encode.Coded
		if !m.program() && (smallest == 0 || n < smallest) {
			smallest = n
		}
		if (m.variant == "GZIP" || strings.HasPrefix(m.variant, "zlib")) && (gzipped == 0 || n < gzipped) {
			gzipped = n
		}
	}
	best := find(export.BestCodec)
	t := tally{ops: 1}
	t.set(goals.MemoryMiB, float64(max(best.encode.PeakBytes, best.decode.PeakBytes))/(1<<20))
	bytes := float64(best.encode.Coded)
	t.set(goals.AgainstSmallest, bytes/float64(smallest))
	if gzipped > 0 {
		t.set(goals.AgainstGzip, bytes/float64(gzipped))
	}
	if x := find("XDELTA3"); x != nil {
		t.set(goals.SpeedAgainstXdelta, x.encode.Seconds/best.encode.Seconds)
		t.set(goals.BytesAgainstXdelta, bytes/float64(x.encode.Coded))
	}
	if z := find("ZSTD-PATCH-FROM"); z != nil {
		t.set(goals.BytesAgainstPatch, bytes/float64(z.encode.Coded))
		t.set(goals.MemoryAgainstPatch, float64(best.encode.PeakBytes)/float64(z.encode.PeakBytes))
	}
	if zstd := find("zstd"); zstd != nil {
		worst := 0.0
		for _, m := range made {
			if m != nil && m.link > 0 {
				worst = max(worst, float64(m.replication(m.link))/float64(zstd.replication(m.link)))
			}
		}
		if worst > 0 {
			t.set(goals.ToldAgainstZstd, worst)
		}
	}
	return t.sample(d.Name, results.Measured, round, config("compare", "best", 0, 0, noSnapshots, "").With("data", data))
}
