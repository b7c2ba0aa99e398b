// SPDX-License-Identifier: Apache-2.0

package attach_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"zumastor.org/zumastor/engine/attach"
	"zumastor.org/zumastor/engine/device/memdev"
)

// TestMain is also the process that attaches a device and is killed.
func TestMain(m *testing.M) {
	if b := os.Getenv("ZUMASTOR_TEST_ATTACH"); b != "" {
		var a *attach.Attached
		err := attach.HoldMemory()
		if err == nil || errors.Is(err, syscall.EPERM) { // a container may lack the right
			a, err = attach.Backend(b).Attach(memdev.New(8<<20), attach.Options{Name: "killed"})
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(a.Path())
		time.Sleep(time.Hour)
	}
	os.Exit(m.Run())
}

// child is a process that a test started.
type child struct {
	t    *testing.T
	cmd  *exec.Cmd
	line string // its first line of output
}

// run starts a program and waits for its first line of output.
func run(t *testing.T, name string, args ...string) *child {
	return runEnv(t, nil, name, args...)
}

func runEnv(t *testing.T, env []string, name string, args ...string) *child {
	t.Helper()
	c := &child{t: t, cmd: exec.Command(name, args...)}
	c.cmd.Env = append(os.Environ(), env...)
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.cmd.Start())
	t.Cleanup(c.kill)
	c.line, err = bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	return c
}

func (c *child) kill() {
	if c.cmd.ProcessState == nil {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
	}
}

func uintptrOf(r *[2]uint64) uintptr { return uintptr(unsafe.Pointer(r)) }
