// SPDX-License-Identifier: Apache-2.0

package duel

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Checkout is the benchmarks of a package's tests at one revision as a side.
type Checkout struct {
	program string // the test binary
	dir     string // of the package, in which tests run
}

// Worktree makes the revision's files in dir, a new git worktree of the repository
// that the working directory is in, and returns what removes it again.
func Worktree(ctx context.Context, revision, dir string) (remove func() error, err error) {
	git := func(args ...string) error {
		out, err := exec.Command("git", args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("git %s: %w: %s", args[0], err, bytes.TrimSpace(out))
		}
		return nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := git("worktree", "add", "--detach", dir, revision); err != nil {
		return nil, err
	}
	return func() error { return git("worktree", "remove", "--force", dir) }, nil
}

// Build builds the tests of a package, given by its directory, in the tree at root,
// with the build tags given. The binary is put in dir under the name given.
func Build(ctx context.Context, root, pkg, dir, name string, tags ...string) (*Checkout, error) {
	c := &Checkout{program: filepath.Join(dir, name), dir: filepath.Join(root, pkg)}
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-tags", strings.Join(tags, ","), "-o", c.program, "./"+pkg)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building the tests of %s in %s: %w: %s", pkg, name, err, bytes.TrimSpace(out))
	}
	if _, err := os.Stat(c.program); err != nil {
		return nil, fmt.Errorf("%s has no tests in %s: %w", pkg, name, err)
	}
	return c, nil
}

// benchmarkLine is a result of a Go benchmark, on one processor.
var benchmarkLine = regexp.MustCompile(`^Benchmark(\S+)\s+\d+\s+([0-9.]+) ns/op`)

// run runs benchmarks and returns the nanoseconds of an operation by name.
func (c *Checkout) run(ctx context.Context, pattern, time string, times int) (names []string, found map[string][]float64, err error) {
	cmd := exec.CommandContext(ctx, c.program, "-test.run=^$", "-test.bench="+pattern, "-test.benchtime="+time,
		"-test.count="+strconv.Itoa(times), "-test.cpu=1")
	cmd.Dir = c.dir
	out, err := cmd.Output()
	if err != nil {
		return nil, nil, fmt.Errorf("benchmark %s: %w: %s", pattern, commandError(err), bytes.TrimSpace(out))
	}
	found = map[string][]float64{}
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		m := benchmarkLine.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		v, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			return nil, nil, fmt.Errorf("benchmark %s: %w", m[1], err)
		}
		if found[m[1]] == nil {
			names = append(names, m[1])
		}
		found[m[1]] = append(found[m[1]], v)
	}
	return names, found, lines.Err()
}

// Benchmarks returns the names of the benchmarks that match a pattern of go test,
// those that both have, and runs each once.
func Benchmarks(ctx context.Context, old, new *Checkout, pattern string) ([]string, error) {
	before, _, err := old.run(ctx, pattern, "1x", 1)
	if err != nil {
		return nil, err
	}
	after, _, err := new.run(ctx, pattern, "1x", 1)
	if err != nil {
		return nil, err
	}
	both := slices.DeleteFunc(after, func(n string) bool { return !slices.Contains(before, n) })
	if len(both) == 0 {
		return nil, errors.New("no benchmark is in both revisions")
	}
	return both, nil
}

// Measure implements [Side].
func (c *Checkout) Measure(ctx context.Context, benchmark string, times, ops int) ([]float64, error) {
	parts := strings.Split("Benchmark"+benchmark, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	_, found, err := c.run(ctx, strings.Join(parts, "/"), strconv.Itoa(ops)+"x", times)
	if err != nil {
		return nil, err
	}
	if len(found[benchmark]) == 0 {
		return nil, fmt.Errorf("benchmark %s gave no time", benchmark)
	}
	return found[benchmark], nil
}
