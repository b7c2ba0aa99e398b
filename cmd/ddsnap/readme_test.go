// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestMain lets the test binary be ddsnap too, under that name.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "ddsnap" {
		main() // which ends the process
	}
	os.Exit(m.Run())
}

// await is what a reader does between two lines: it waits until what was put into the
// background is there.
const await = `await() { for i in $(seq 200); do if "$@" > await.log 2>&1; then return; fi; sleep 0.1; done; cat await.log; exit 1; }
`

// script makes the indented lines of a part of README.md a script.
func script(t *testing.T, part string) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("set -e\n" + await)
	lines := 0
	for line := range strings.Lines(part) {
		text, indented := strings.CutPrefix(line, "    ")
		if !indented || strings.HasPrefix(text, "make ") { // the test is what make builds
			continue
		}
		lines++
		text, _, _ = strings.Cut(text, " # ")
		text = strings.TrimSpace(text)
		b.WriteString(text + "\n")
		switch {
		case !strings.HasSuffix(text, "&"):
		case strings.Contains(text, " nbd "):
			b.WriteString("await test -S store.nbd\n")
		case strings.Contains(text, "--takeover"):
			b.WriteString("sleep 1\nawait bin/ddsnap status store\n")
		default:
			b.WriteString("await bin/ddsnap status store\n")
		}
	}
	require.Greater(t, lines, 10, "README.md has a part to try things")
	b.WriteString("kill $(jobs -p)\nwait\n")
	return b.String()
}

// TestReadmeCommands carries out what README.md invites to try, line by line.
func TestReadmeCommands(t *testing.T) {
	if _, err := exec.LookPath("qemu-io"); err != nil {
		t.Skip("qemu-io is not installed")
	}
	page, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	_, part, found := strings.Cut(string(page), "\n## Try it\n")
	require.True(t, found)
	part, _, _ = strings.Cut(part, "\n## ")
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "bin"), 0o755))
	self, err := os.Executable()
	require.NoError(t, err)
	require.NoError(t, os.Symlink(self, filepath.Join(dir, "bin", "ddsnap")))

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script(t, part))
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what it left in the background; mostly nothing
	}
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "read 67108864/67108864 bytes", "snapshot 1 is as it was: %s", out)
	require.NotContains(t, string(out), "Pattern verification failed", "%s", out)
}
