// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// ddsnap of a machine of the guide: its keys and peers are in the machine's own /etc, and
// its name is the one that the guide has for it.
const machineProgram = `#!/bin/bash
keys="--key ETC/ddsnap/key --peers ETC/ddsnap/peers"
case "$1 $2" in
"initialize "*) shift; exec SELF initialize --yes "$@" ;; # nobody is there to be asked
"key ") SELF key ETC/ddsnap/key | sed 's/ .*/ NAME/' ;;
"delta listen") shift 2; exec SELF delta listen $keys "$@" ;;
"transmit "* | "verify "*) verb=$1; shift; exec SELF $verb $keys "$@" ;;
*) exec SELF "$@" ;;
esac
`

// machines stands in for ssh and systemd. A unit is what its ExecStart says, with its
// environment; start waits for the socket or port that others need.
const machines = `
ssh() { local to=$1; shift; PATH=$ROOT/$to/usr/bin:$PATH "$@"; }
start() { # MACHINE UNIT
	local unit=${2%@*} instance=${2#*@} line
	line=$(sed -n 's/^ExecStart=//p' "$UNITS/$unit@.service" | sed "s|%i|${instance%.service}|g; s|/run/|$ROOT/$1/run/|g; s|/usr/bin/|$ROOT/$1/usr/bin/|g")
	bash -c 'set -a; while IFS== read -r name value; do export "$name=$value"; done <"$0"; eval "exec $1"' "$ROOT/$1/etc/ddsnap/${instance%.service}.conf" "$line" >>"$ROOT/$1/$unit.log" 2>&1 &
	echo $! >"$ROOT/$1/$unit.pid"
	case $unit in
	ddsnap) await test -S "$ROOT/$1/run/ddsnap/${instance%.service}.nbd" ;;
	ddsnap-listen) await bash -c "exec 3<>/dev/tcp/127.0.0.1/$PORT" ;;
	esac
}
systemctl() { # what the guide uses of it, on $MACHINE
	local verb=$1 unit
	shift
	for unit; do
		case $unit in
		--now | *.socket) continue ;;
		esac
		if [ "$verb" = restart ]; then
			kill "$(cat "$ROOT/$MACHINE/${unit%@*}.pid")"
			wait "$(cat "$ROOT/$MACHINE/${unit%@*}.pid")" || true
		fi
		start "$MACHINE" "$unit"
	done
}
`

// guide makes the commands of a page's part a script. Lines have the machine that they are
// for before them.
func guide(t *testing.T, part, root, port string) string {
	t.Helper()
	var b strings.Builder
	lines := 0
	for line := range strings.Lines(part) {
		for _, machine := range []string{"copy", "vm"} {
			text, found := strings.CutPrefix(line, "    "+machine+"#")
			if !found {
				continue
			}
			lines++
			at := filepath.Join(root, machine)
			text = strings.NewReplacer("/etc/", at+"/etc/", "/run/", at+"/run/", "/dev/vg/", at+"/dev/",
				":4321", "127.0.0.1:"+port, "--to copy", "--to copy@127.0.0.1:"+port).Replace(strings.TrimSpace(text))
			fmt.Fprintf(&b, "MACHINE=%s PATH=%s/usr/bin:$SYSTEM\n%s\n", machine, at, text)
		}
	}
	require.Greater(t, lines, 10, "the page has a guide")
	return b.String()
}

// TestReplicationGuide carries out the guide to a copy that is kept by systemd, with both machines
// in directories, and the units' own commands.
func TestReplicationGuide(t *testing.T) {
	page, err := os.ReadFile("../../docs/replication.md")
	require.NoError(t, err)
	_, part, found := strings.Cut(string(page), ", step by step\n")
	require.True(t, found)
	part, _, _ = strings.Cut(part, "\n### ")
	root := t.TempDir()
	self, err := os.Executable()
	require.NoError(t, err)
	require.NoError(t, os.Symlink(self, filepath.Join(root, "ddsnap")))
	units, err := filepath.Abs("../../packaging/systemd")
	require.NoError(t, err)
	for _, machine := range []string{"vm", "copy"} {
		at := filepath.Join(root, machine)
		for _, dir := range []string{"etc/ddsnap", "etc/cron.d", "run/ddsnap", "usr/bin", "dev"} {
			require.NoError(t, os.MkdirAll(filepath.Join(at, dir), 0o755))
		}
		program := strings.NewReplacer("ETC", at+"/etc", "SELF", filepath.Join(root, "ddsnap"), "NAME", machine).Replace(machineProgram)
		require.NoError(t, os.WriteFile(filepath.Join(at, "usr/bin/ddsnap"), []byte(program), 0o755))
	}
	port := freePort(t)
	prepare := `set -e
export ROOT=` + root + ` UNITS=` + units + ` PORT=` + port + ` SYSTEM=$PATH
cd $ROOT
truncate -s 64M vm/dev/vm.store copy/dev/copy.store
head -c 4M /dev/urandom >vm/dev/vm
truncate -s 4M copy/dev/copy
` + await + machines + `
$ROOT/ddsnap initialize --yes vm/dev/vm.store vm/dev/vm
printf '%s\n' STORE=$ROOT/vm/dev/vm.store ORIGIN=$ROOT/vm/dev/vm >vm/etc/ddsnap/vm.conf
start vm ddsnap@vm.service
`
	end := `
cmp vm/dev/vm copy/dev/copy && echo the copy is the volume
$ROOT/ddsnap list copy/run/ddsnap/vm.control
kill $(jobs -p)
wait
`
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", prepare+guide(t, part, root, port)+end)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "the copy is the volume", "%s", out)
	require.Regexp(t, `(?m)^2 `, string(out), "the copy has the second snapshot")
}

// freePort returns a port of the loopback that nobody listened on just now.
func freePort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	return port
}
