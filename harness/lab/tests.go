// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Test is what became of a script of kernel/tests on a kernel.
type Test struct {
	Kernel      string  `json:"kernel"` // what uname -r says
	Name        string  `json:"name"`
	Outcome     string  `json:"outcome"` // "pass", "fail", "skip"; or "flaky": failed, and passed when it was run again
	Seconds     float64 `json:"seconds"`
	Description string  `json:"description"`
	Reason      string  `json:"reason,omitempty"` // of fail and skip
}

// TestDisks are the disks that kernel/tests/rc names.
func TestDisks() []Disk {
	return []Disk{{Name: "origin", Size: 512 << 20}, {Name: "store", Size: 512 << 20}, {Name: "scratch", Size: 512 << 20}}
}

// TestNVDIMM is the size of the NVDIMM that tests have.
const TestNVDIMM = 256 << 20

// ListTests returns the names of the scripts in a directory, sorted.
func ListTests(dir string) ([]string, error) {
	scripts, err := filepath.Glob(filepath.Join(dir, "[0-9][0-9][0-9]"))
	for i, s := range scripts {
		scripts[i] = filepath.Base(s)
	}
	return scripts, err
}

// RunningTest returns the test that was under way when a machine ended, from the
// directory that kernel/tests/run had, or nothing.
func RunningTest(dir string) string {
	text, err := os.ReadFile(filepath.Join(dir, "running"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// KernelLog returns the last lines of what the kernel said during a test that ended its
// machine, if kernel/tests/run could write that, as it can when a task hangs.
func KernelLog(dir, test string) string {
	text, err := os.ReadFile(filepath.Join(dir, test+".dmesg"))
	if err != nil || len(text) == 0 {
		return ""
	}
	return tail(string(text), 100) + "\n"
}

// ReadTests reads results.tsv, which kernel/tests/run wrote on the kernel. Lines
// up to the first that is not whole are returned along with an error.
func ReadTests(name, kernel string) ([]Test, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("reading what became of the tests: %w", err)
	}
	var tests []Test
	for line := range strings.Lines(string(text)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 5 {
			return tests, fmt.Errorf("%s: line %q has not 5 fields", name, line)
		}
		seconds, err := strconv.ParseFloat(f[2], 64)
		if err != nil {
			return tests, fmt.Errorf("%s: %w", name, err)
		}
		tests = append(tests, Test{Kernel: kernel, Name: f[0], Outcome: f[1], Seconds: seconds, Description: f[3], Reason: f[4]})
	}
	return tests, nil
}

// ErrCut is the cause of a machine's end that its test asked for.
var ErrCut = errors.New("the power was cut")

// AwaitCut waits until the test that runs in a machine asks for a power cut, by a file
// "cut" beside its results that has a number of milliseconds, and until these are over. It
// returns the error of ctx if that ends before.
func AwaitCut(ctx context.Context, results string) error {
	name := filepath.Join(results, "cut")
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
		text, err := os.ReadFile(name)
		if err != nil || !strings.HasSuffix(string(text), "\n") {
			continue
		}
		ms, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := os.Remove(name); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(ms) * time.Millisecond):
			return nil
		}
	}
}

// WantsAgain returns whether the test that ran in a machine goes on in the next one, with
// the same disks, and forgets that.
func WantsAgain(results string) bool { return os.Remove(filepath.Join(results, "again")) == nil }
