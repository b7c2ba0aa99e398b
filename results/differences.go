// SPDX-License-Identifier: Apache-2.0

package results

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// Noise is how evenly the machine did equal pieces of work before a run.
type Noise struct {
	// Spread is how much longer the slow pieces took (the 90th percentile) than the
	// median: 0.1 is 10 %.
	Spread float64 `json:"spread"`
	Pieces int     `json:"pieces"`
	// StealPercent is that of [Environment], during the check.
	StealPercent float64 `json:"steal_percent"`
	// Limit is the Spread from which a run was called noisy.
	Limit float64 `json:"limit"`
}

// Noisy reports whether times taken then say little.
func (n *Noise) Noisy() bool { return n != nil && n.Spread > n.Limit }

// String describes the noise: "12.3% slower at the 90th percentile of 300 pieces".
func (n *Noise) String() string {
	return fmt.Sprintf("%.1f%% slower than the median at the 90th percentile of %d equal pieces of work, %.1f%% of the time stolen by the host",
		100*n.Spread, n.Pieces, n.StealPercent)
}

// Differences returns in what the machines of e and o, or how they are set up,
// differ: "CPU: X, Y" each. Wall-clock times of environments that differ must not be
// compared as if the program made the difference. Revisions, loads and the versions
// of tools are not of the machine.
func (e Environment) Differences(o Environment) []string {
	var out []string
	mine, theirs := e.Machine(), o.Machine()
	for i, p := range mine {
		if a, b := p.Value, theirs[i].Value; a != b {
			out = append(out, fmt.Sprintf("%s: %s, %s", p.Key, orUnknown(a), orUnknown(b)))
		}
	}
	return out
}

// Kind returns a name for the kind of machine that e is of, 12 hexadecimal digits: equal
// for environments without [Environment.Differences], and else different.
func (e Environment) Kind() string { return KindOf(e.Machine()) }

// KindOf returns the name of the kind of machine with what [Environment.Machine] gave.
func KindOf(machine []Pair) string {
	h := sha256.New()
	for _, p := range machine {
		fmt.Fprintf(h, "%q %q\n", p.Key, p.Value)
	}
	return hex.EncodeToString(h.Sum(nil)[:6])
}

func orUnknown(s string) string {
	if s == "" {
		return "none or unknown"
	}
	return s
}

// Machine is what a comparison of times takes to be equal, always in the same order.
func (e Environment) Machine() []Pair {
	gib := ""
	if e.MemoryBytes > 0 {
		gib = fmt.Sprintf("%.1f GiB", float64(e.MemoryBytes)/(1<<30))
	}
	s := e.Storage
	return []Pair{
		{"architecture", e.Architecture}, {"CPU", e.CPU}, {"number of CPUs", fmt.Sprint(e.CPUs)}, {"memory", gib},
		{"kernel", e.Kernel}, {"virtualisation", e.Virtualisation}, {"governor", e.Governor}, {"huge pages", e.HugePages},
		{"CPU limit", e.CPUQuota}, {"memory limit", e.MemoryLimit}, {"I/O limit", e.IOLimit}, {"Go", e.Go},
		{"file system", strings.TrimSpace(s.FileSystem + " " + s.MountOptions)}, {"O_DIRECT", fmt.Sprint(s.Direct)},
		{"device", strings.TrimSpace(s.Device + " " + s.Model)}, {"scheduler", chosenOr(s.Scheduler)},
		{"rotational", s.Rotational}, {"write cache", s.WriteCache},
	}
}

// chosenOr returns the word in brackets, or all when there is none.
func chosenOr(s string) string {
	if c := chosen(s); c != "" {
		return c
	}
	return s
}
