// SPDX-License-Identifier: Apache-2.0

// Package s3test starts an S3 server on loopback for tests: versitygw, which keeps objects
// as files, built from the module s3server beside; and a proxy that makes it fail.
//
// It owns the server's process and its directory, and the faults. It does not own what is
// tested. Tests call [Start], which skips them where the server cannot be had, and says
// so. All ends with the test.
package s3test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Credentials and bucket of the server.
const (
	AccessKey = "zumastor"
	SecretKey = "only-for-tests"
	Bucket    = "backup"
	Region    = "us-east-1"
)

// Server is a running S3 server with an empty bucket.
type Server struct {
	Address string // host and port
	Dir     string // whose entries are the buckets
}

// Start starts a server, and has the test's environment name its credentials.
func Start(t *testing.T) *Server {
	program := build(t)
	s := &Server{Dir: t.TempDir()}
	require.NoError(t, os.Mkdir(filepath.Join(s.Dir, Bucket), 0o700))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.Address = ln.Addr().String()
	require.NoError(t, ln.Close())
	cmd := exec.Command(program, "--port", s.Address, "--region", Region, "--quiet", "posix", s.Dir)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+AccessKey, "ROOT_SECRET_KEY="+SecretKey)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	started := make(chan error, 1)
	ended := make(chan struct{})
	go func() { // the thread that started it must live as long as it does
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
		close(ended)
	}()
	require.NoError(t, <-started)
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	for {
		conn, err := net.Dial("tcp", s.Address)
		if err == nil {
			require.NoError(t, conn.Close())
			break
		}
		select {
		case <-ended:
			t.Fatalf("the S3 server ended: %s", said.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
	t.Setenv("AWS_ACCESS_KEY_ID", AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", SecretKey)
	t.Setenv("AWS_SESSION_TOKEN", "")
	t.Setenv("AWS_REGION", Region)
	return s
}

// build builds the server, or takes what was built before, and returns its path.
func build(t *testing.T) string {
	_, file, _, ok := runtime.Caller(0)
	require.True(t, ok)
	dir := filepath.Join(filepath.Dir(file), "..", "s3server")
	unlock, err := lock(file) // not one that the go command locks
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("the sources are not where they were: there is no S3 server to build")
	}
	require.NoError(t, err)
	defer unlock()
	run := func(args ...string) (string, error) {
		cmd := exec.Command("go", args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOFLAGS=-mod=readonly", "GOWORK=off")
		out, err := cmd.Output()
		if e := (*exec.ExitError)(nil); errors.As(err, &e) {
			err = fmt.Errorf("%w: %s", err, e.Stderr)
		}
		return strings.TrimSpace(string(out)), err
	}
	if _, err := run("mod", "download"); err != nil {
		t.Skipf("the S3 server cannot be downloaded: %v", err)
	}
	program, err := run("tool", "-n", "versitygw") // builds it, and keeps it in Go's cache
	require.NoError(t, err)
	return program
}

// lock has one process build at a time.
func lock(path string) (func(), error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}
