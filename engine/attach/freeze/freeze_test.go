// SPDX-License-Identifier: Apache-2.0

package freeze_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/engine/attach"
	"zumastor.org/zumastor/engine/attach/freeze"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/memdev"
)

// TestMain is also the process that freezes and is killed.
func TestMain(m *testing.M) {
	if dev := os.Getenv("ZUMASTOR_TEST_FREEZE"); dev != "" {
		if _, err := freeze.Freeze(context.Background(), dev, time.Hour); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("frozen")
		time.Sleep(time.Hour)
	}
	os.Exit(m.Run())
}

// mounted makes a file system on dev and mounts it, and returns the block device
// and the mount point.
func mounted(t *testing.T, dev device.Device) (path, dir string) {
	t.Helper()
	if os.Getenv("ZUMASTOR_TEST_ROOT") == "" {
		t.Skip("ZUMASTOR_TEST_ROOT is not set: run make test-root")
	}
	a, err := attach.Best(dev, attach.Options{Name: "freeze"})
	if errors.Is(err, attach.ErrNotSupported) {
		t.Skip(err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Detach(false)) })
	out, err := exec.Command("mkfs.ext4", "-q", "-F", a.Path()).CombinedOutput()
	require.NoError(t, err, "%s", out)
	dir = t.TempDir()
	require.NoError(t, unix.Mount(a.Path(), dir, "ext4", 0, ""))
	t.Cleanup(func() {
		// A guard whose parent was killed, or a freeze that was given up, still has
		// it open for a moment.
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			if err := unix.Unmount(dir, 0); err == nil || time.Now().After(end) {
				require.NoError(t, err)
				return
			}
		}
	})
	return a.Path(), dir
}

// write begins to write a file and returns what tells of its end.
func write(dir string) <-chan error {
	done := make(chan error, 1)
	go func() { done <- os.WriteFile(filepath.Join(dir, "file"), []byte("content"), 0o600) }()
	return done
}

// waits shows that the write is held up, as far as that can be seen.
func waits(t *testing.T, done <-chan error) {
	t.Helper()
	select {
	case err := <-done:
		t.Fatal("the file system is not frozen:", err)
	case <-time.After(50 * time.Millisecond):
	}
}

func ends(t *testing.T, done <-chan error) {
	t.Helper()
	select {
	case err := <-done:
		require.NoError(t, err)
	case <-time.After(20 * time.Second):
		t.Fatal("the file system is still frozen")
	}
}

func TestFreezeAndThaw(t *testing.T) {
	path, dir := mounted(t, memdev.New(64<<20))
	thaw, err := freeze.Freeze(t.Context(), path, time.Minute)
	require.NoError(t, err)
	w := write(dir)
	waits(t, w)
	_, err = freeze.Freeze(t.Context(), path, time.Minute)
	require.ErrorIs(t, err, freeze.ErrFrozen)
	waits(t, w)
	require.NoError(t, thaw())
	ends(t, w)
}

func TestLimit(t *testing.T) {
	path, dir := mounted(t, memdev.New(64<<20))
	start := time.Now()
	thaw, err := freeze.Freeze(t.Context(), path, time.Minute)
	took := time.Since(start) // much where processors are emulated
	require.NoError(t, err)
	require.NoError(t, thaw())
	thaw, err = freeze.Freeze(t.Context(), path, 300*time.Millisecond+3*took)
	require.NoError(t, err)
	ends(t, write(dir))
	require.Eventually(t, func() bool { return errors.Is(thaw(), freeze.ErrThawed) }, time.Minute, time.Millisecond)
}

func TestThawedByAnother(t *testing.T) {
	path, dir := mounted(t, memdev.New(64<<20))
	thaw, err := freeze.Freeze(t.Context(), path, time.Minute)
	require.NoError(t, err)
	require.NoError(t, exec.Command("fsfreeze", "--unfreeze", dir).Run())
	require.ErrorIs(t, thaw(), freeze.ErrThawed)
}

// TestKilled kills the process that froze the file system.
func TestKilled(t *testing.T) {
	path, dir := mounted(t, memdev.New(64<<20))
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "ZUMASTOR_TEST_FREEZE="+path)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "frozen\n", line)
	w := write(dir)
	waits(t, w)
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	ends(t, w)
}

// stuck is a device whose flushes wait while it is locked.
type stuck struct {
	*memdev.Device
	mu sync.Mutex
}

func (s *stuck) Flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Device.Flush()
}

// TestKernelTakesLong freezes what does not get frozen in time.
func TestKernelTakesLong(t *testing.T) {
	dev := &stuck{Device: memdev.New(64 << 20)}
	path, dir := mounted(t, dev)
	ends(t, write(dir))
	dev.mu.Lock()
	_, err := freeze.Freeze(t.Context(), path, 200*time.Millisecond)
	dev.mu.Unlock()
	require.ErrorIs(t, err, context.DeadlineExceeded)
	ends(t, write(dir))
}

func TestNothingMounted(t *testing.T) {
	path, dir := mounted(t, memdev.New(64<<20))
	require.NoError(t, unix.Unmount(dir, 0))
	thaw, err := freeze.Freeze(t.Context(), path, time.Minute)
	require.NoError(t, err)
	require.NoError(t, thaw())
	require.NoError(t, unix.Mount(path, dir, "ext4", 0, ""))
}
