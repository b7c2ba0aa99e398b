// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/cmd/ddsnap/cli"
	"zumastor.org/zumastor/engine/attach"
	"zumastor.org/zumastor/engine/nbd/nbdclient"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"ddsnap": func() {
			os.Exit(cli.Run(os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
		},
		"nbdtool": func() {
			if err := nbdtool(os.Args[1:]); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		},
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":  exits,
			"until":  until,
			"mkfile": mkfile,
			"patch":  patch,
			"term":   term,
		},
		Condition: func(cond string) (bool, error) {
			root := os.Getenv("ZUMASTOR_TEST_ROOT") != "" && os.Geteuid() == 0
			switch cond {
			case "root":
				return root, nil
			case "attach":
				return root && attach.FUSE.Probe() == nil, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Setup: func(e *testscript.Env) error {
			e.Defer(func() { unmountAll(e.WorkDir); detachLoops(e.WorkDir) })
			e.Setenv("GORACE", "atexit_sleep_ms=0") // else each command of a race build takes a second more
			return nil
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// unmountAll unmounts what a script that failed has left, so that its servers end.
func unmountAll(dir string) {
	mounts, _ := os.ReadFile("/proc/self/mounts")
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], dir+"/") {
			_ = unix.Unmount(f[1], unix.MNT_DETACH)
		}
	}
}

// detachLoops detaches the loop devices that a script that failed has left.
func detachLoops(dir string) {
	files, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, file := range files {
		if of, err := os.ReadFile(file); err == nil && strings.HasPrefix(string(of), dir+"/") {
			_ = exec.Command("losetup", "--detach", "/dev/"+filepath.Base(filepath.Dir(filepath.Dir(file)))).Run()
		}
	}
}

// exits runs a command that must end with an exit code: exits CODE COMMAND ARG...
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// patience bounds how long until waits for what is certain to come.
const patience = 20 * time.Second

// until runs a command until its output matches: until PATTERN COMMAND ARG...
func until(ts *testscript.TestScript, _ bool, args []string) {
	pattern := regexp.MustCompile("(?m)" + args[0])
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		_ = ts.Exec(args[1], args[2:]...)
		if pattern.MatchString(ts.ReadFile("stdout")) {
			return
		}
	}
	ts.Fatalf("no output matches %q", args[0])
}

// mkfile makes a file of one byte: mkfile FILE SIZE BYTE; a sparse one of zeroes.
func mkfile(ts *testscript.TestScript, _ bool, args []string) {
	size, value := number(ts, args[1]), number(ts, args[2])
	if value == 0 {
		ts.Check(os.WriteFile(ts.MkAbs(args[0]), nil, 0o600))
		ts.Check(os.Truncate(ts.MkAbs(args[0]), size))
		return
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), bytes.Repeat([]byte{byte(value)}, int(size)), 0o600))
}

// patch overwrites a part of a file: patch FILE OFFSET LENGTH BYTE.
func patch(ts *testscript.TestScript, _ bool, args []string) {
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_WRONLY, 0)
	ts.Check(err)
	defer f.Close()
	_, err = f.WriteAt(bytes.Repeat([]byte{byte(number(ts, args[3]))}, int(number(ts, args[2]))), number(ts, args[1]))
	ts.Check(err)
}

// term sends SIGTERM to all background commands: they are to end well by
// themselves, which wait checks.
func term(ts *testscript.TestScript, _ bool, _ []string) {
	for _, c := range ts.BackgroundCmds() {
		ts.Check(c.Process.Signal(syscall.SIGTERM))
	}
}

func number(ts *testscript.TestScript, s string) int64 {
	n, err := strconv.ParseInt(s, 0, 64)
	ts.Check(err)
	return n
}

// nbdtool is a client of exports on Unix sockets:
//
//	nbdtool write SOCKET EXPORT OFFSET LENGTH BYTE
//	nbdtool read SOCKET EXPORT OFFSET LENGTH      prints runs as BYTE*LENGTH
//	nbdtool status SOCKET EXPORT CONTEXT          prints runs as FLAGS*LENGTH
//	nbdtool hold SOCKET EXPORT                    stays connected until it is killed
//	nbdtool list SOCKET
func nbdtool(args []string) error {
	verb, socket := args[0], args[1]
	if verb == "list" {
		names, err := nbdclient.List("unix", socket, nbdclient.Options{})
		fmt.Println(names)
		return err
	}
	var o nbdclient.Options
	if verb == "status" {
		o.Contexts = []string{args[3]}
	}
	c, err := nbdclient.Dial("unix", socket, args[2], o)
	if err != nil {
		return err
	}
	defer c.Close()
	var n []int64
	for _, a := range args[3:] {
		v, err := strconv.ParseInt(a, 0, 64)
		if err != nil && verb != "status" {
			return err
		}
		n = append(n, v)
	}
	switch verb {
	case "write":
		if _, err := c.WriteAt(bytes.Repeat([]byte{byte(n[2])}, int(n[1])), n[0]); err != nil {
			return err
		}
		return c.Flush()
	case "read":
		p := make([]byte, n[1])
		if _, err := c.ReadAt(p, n[0]); err != nil {
			return err
		}
		printRuns(p)
	case "status":
		return printStatus(c, args[3])
	case "hold":
		select {}
	}
	return nil
}

func printRuns(p []byte) {
	for len(p) > 0 {
		rest := bytes.TrimLeft(p, string(p[:1]))
		fmt.Printf("%d*%d ", p[0], len(p)-len(rest))
		p = rest
	}
	fmt.Println()
}

func printStatus(c *nbdclient.Client, context string) error {
	for off := int64(0); off < c.Size(); {
		extents, err := c.BlockStatus(context, off, c.Size()-off)
		if err != nil {
			return err
		}
		for _, e := range extents {
			fmt.Printf("%d*%d ", e.Flags, e.Length)
			off += e.Length
		}
	}
	fmt.Println()
	return nil
}
