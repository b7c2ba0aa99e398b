// SPDX-License-Identifier: Apache-2.0

package lint_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// mountOfVolume is what systemd makes of the line of fstab in docs/production.md.
const mountOfVolume = `[Unit]
After=ddsnap-dm@vm.service
Requires=ddsnap-dm@vm.service
Before=remote-fs.target
[Mount]
What=/dev/mapper/ddsnap-1a2b3c4d-origin
Where=/srv
Type=ext4
Options=_netdev
`

// TestUnits has systemd look at the units: for unknown settings, and cycles at boot.
func TestUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not here")
	}
	verify := func(mount string) string {
		dir := t.TempDir()
		paths, err := filepath.Glob("../../packaging/systemd/*@.*")
		require.NoError(t, err)
		require.GreaterOrEqual(t, len(paths), 7)
		args := []string{"verify", "--man=no"}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			text = []byte(strings.ReplaceAll(string(text), "/usr/bin/ddsnap", "/bin/true"))
			require.NoError(t, os.WriteFile(filepath.Join(dir, filepath.Base(path)), text, 0o644))
			name := filepath.Join(dir, strings.Replace(filepath.Base(path), "@", "@vm", 1))
			require.NoError(t, os.WriteFile(name, text, 0o644))
			args = append(args, name)
		}
		srv := filepath.Join(dir, "srv.mount")
		require.NoError(t, os.WriteFile(srv, []byte(mount), 0o644))
		cmd := exec.Command(analyze, append(args, srv)...)
		cmd.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir+":")
		out, _ := cmd.CombinedOutput()
		var ours []string // other units of the machine are not looked at
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, "ddsnap") {
				ours = append(ours, line)
			}
		}
		return strings.Join(ours, "")
	}
	require.Empty(t, verify(mountOfVolume))
	local := strings.Replace(mountOfVolume, "remote-fs.target", "local-fs.target", 1)
	require.Contains(t, verify(local), "Found ", "a cycle: a mount before all services, as without _netdev")
}
