// SPDX-License-Identifier: Apache-2.0

package results

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDifferences(t *testing.T) {
	a := Environment{CPU: "X", CPUs: 2, Kernel: "Linux 6.1", MemoryBytes: 8 << 30, Commit: "1", LoadStart: "0 0 0",
		Storage: Storage{FileSystem: "ext4", Scheduler: "none [mq-deadline]", Direct: true}}
	b := a
	b.Commit, b.LoadStart, b.StealPercent = "2-dirty", "9 9 9", 3
	b.MemoryBytes -= 1 << 20 // what a kernel takes for itself
	b.Storage.Scheduler = "[mq-deadline] none"
	require.Empty(t, a.Differences(b), "of another revision, under another load")
	b.CPU, b.Governor, b.Storage.Scheduler = "Y", "powersave", "[none] mq-deadline"
	require.Equal(t, []string{"CPU: X, Y", "governor: none or unknown, powersave", "scheduler: mq-deadline, none"}, a.Differences(b))
}

func TestLimits(t *testing.T) {
	for v, want := range map[string]bool{"": true, "-1": true, "max": true, "max 100000": true, "9223372036854771712": true, "8589934592": false, "50000 100000": false} {
		require.Equal(t, want, unlimited(v), v)
	}
	require.Equal(t, "madvise", chosen("always [madvise] never"))
	require.Empty(t, chosen("none"))
}

func TestStealIsAPercentage(t *testing.T) {
	now := ReadCPUTime()
	require.Positive(t, now.All)
	require.GreaterOrEqual(t, now.All, now.Steal)
	require.InDelta(t, 0, StealSince(ReadCPUTime()), 100)
	require.Zero(t, StealSince(CPUTime{All: now.All * 2}))
}

// TestKind: a kind is that of machines without differences.
func TestKind(t *testing.T) {
	a := Environment{CPU: "x", CPUs: 2, LoadStart: "1", Commit: "c"}
	b, c := a, a
	b.LoadStart, b.Commit, b.StealPercent = "2", "d", 3
	c.Storage.Scheduler = "[none]"
	require.Equal(t, a.Kind(), b.Kind())
	require.NotEqual(t, a.Kind(), c.Kind())
	require.Regexp(t, "^[0-9a-f]{12}$", a.Kind())
}

func TestRecordFiles(t *testing.T) {
	for name, want := range map[string]bool{
		"run.json": true, "samples.txt": true, "probes-E6.json": true, "accounts-E6.json": true, "accounts-E6": false, "accounts-.json": false, "accounts-a/b.json": false, "histograms.json.zst": true, "environment.json": true,
		"report.html": false, "summary.json": false, "probes-.json": true, "probes-a/b.json": false, "../run.json": false, "probes-E6": false,
	} {
		require.Equal(t, want, IsRecordFile(name), name)
	}
}
