// SPDX-License-Identifier: Apache-2.0

package freeze

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// GuardName is the name, in place of the program's own, that the guard runs under.
const GuardName = "zumastor-thaw-guard"

// guardFile is the guard's first inherited file.
const guardFile = 3

func init() {
	if len(os.Args) == 3 && os.Args[0] == GuardName {
		os.Exit(beGuard(os.Args[1], os.Args[2]))
	}
}

// guard is the guard process as its parent sees it.
type guard struct {
	cmd   *exec.Cmd
	leash io.WriteCloser
}

// startGuard starts the guard of the files and waits until it is on watch.
func startGuard(files []*os.File, limit time.Duration) (*guard, error) {
	cmd := &exec.Cmd{
		Path:       "/proc/self/exe",
		Args:       []string{GuardName, strconv.Itoa(len(files)), limit.String()},
		Env:        []string{"GOMAXPROCS=1"},
		ExtraFiles: files,
		// Neither a key of the terminal nor a stop of the service's processes by
		// their group reaches it.
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	leash, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	ready, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the guard: %w", err)
	}
	g := &guard{cmd: cmd, leash: leash}
	var b [1]byte
	if _, err := io.ReadFull(ready, b[:]); err != nil {
		return nil, fmt.Errorf("the guard does not come up: %w", errors.Join(err, leash.Close(), cmd.Wait()))
	}
	return g, nil
}

// dismiss ends the guard: all is thawed.
func (g *guard) dismiss() {
	_, _ = g.leash.Write([]byte{1})
	_ = g.leash.Close()
	_ = g.cmd.Wait()
}

// beGuard is the guard: it thaws the n files that it inherited when the limit has
// passed, and when its parent ends without a word, which it learns from the end
// of its standard input. A thread of the parent that is still in the kernel,
// freezing, keeps that end open.
func beGuard(files, limit string) int {
	n, err1 := strconv.Atoi(files)
	d, err2 := time.ParseDuration(limit)
	if err1 != nil || err2 != nil {
		return 2
	}
	signal.Ignore(unix.SIGTERM, unix.SIGINT, unix.SIGHUP) // a service that is stopped: its main process decides
	_ = unix.Mlockall(unix.MCL_CURRENT)                   // best effort
	thaw := func() {
		for i := n - 1; i >= 0; i-- {
			_ = unix.IoctlSetInt(guardFile+i, fiThaw, 0) // EINVAL: it is not frozen
		}
	}
	words := make(chan bool, 1)
	go func() {
		var b [1]byte
		k, _ := os.Stdin.Read(b[:])
		words <- k == 1
	}()
	if _, err := os.Stdout.Write([]byte{1}); err != nil {
		return 1
	}
	expired := time.After(d)
	for {
		select {
		case <-expired:
			thaw() // and stay: a freeze may still be under way
		case dismissed := <-words:
			if !dismissed {
				thaw()
			}
			return 0
		}
	}
}
