// SPDX-License-Identifier: Apache-2.0

package attach_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/engine/attach"
	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/errdev"
	"zumastor.org/zumastor/engine/device/memdev"
)

// needRoot skips the test unless it may change the machine.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Getenv("ZUMASTOR_TEST_ROOT") == "" {
		t.Skip("ZUMASTOR_TEST_ROOT is not set: run make test-root")
	}
	if os.Geteuid() != 0 {
		t.Skip("block devices can be attached by root only")
	}
}

// eachBackend runs the test with every backend that the machine has.
func eachBackend(t *testing.T, run func(t *testing.T, b attach.Backend)) {
	needRoot(t)
	for _, b := range attach.Backends() {
		t.Run(string(b), func(t *testing.T) {
			if err := b.Probe(); err != nil {
				require.ErrorIs(t, err, attach.ErrNotSupported)
				t.Skip(err)
			}
			run(t, b)
		})
	}
}

// attached attaches dev and detaches it, by force if need be, when the test ends.
func attached(t *testing.T, b attach.Backend, dev device.Device, o attach.Options) *attach.Attached {
	t.Helper()
	a, err := b.Attach(dev, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Detach(true)) })
	require.Equal(t, b, a.Backend())
	require.NoError(t, a.Err())
	return a
}

// opened opens an attached device past the page cache.
func opened(t *testing.T, path string, flags int) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, flags|unix.O_DIRECT, 0)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func ioctlRange(f *os.File, request uintptr, off, n int64) error {
	r := [2]uint64{uint64(off), uint64(n)}
	_, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptrOf(&r))
	if e != 0 {
		return e
	}
	return nil
}

// counted counts what reaches a device beneath it.
type counted struct {
	*memdev.Device
	flushes, discards, zeroes atomic.Int64
}

func (c *counted) Flush() error {
	c.flushes.Add(1)
	return c.Device.Flush()
}

func (c *counted) Discard(off, n int64) error {
	c.discards.Add(1)
	return c.Device.Discard(off, n)
}

func (c *counted) WriteZeroes(off, n int64) error {
	c.zeroes.Add(1)
	return c.Device.WriteZeroes(off, n)
}

func TestPatterns(t *testing.T) {
	eachBackend(t, func(t *testing.T, b attach.Backend) {
		const size = 32<<20 + 512
		dev := memdev.New(size)
		a := attached(t, b, dev, attach.Options{Name: "patterns"})
		require.FileExists(t, a.Path())
		f := opened(t, a.Path(), os.O_RDWR)
		end, err := f.Seek(0, 2)
		require.NoError(t, err)
		require.EqualValues(t, size, end)
		var wg sync.WaitGroup
		const workers = 4
		for w := range workers {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(1, uint64(w)))
				for range 150 {
					n := (1 + rng.IntN(8)) * 512
					if rng.IntN(8) == 0 {
						n = 512 << rng.IntN(13) // up to 2 MiB: several requests
					}
					region := int64(size / workers &^ 511)
					off := int64(w)*region + rng.Int64N((region-int64(n))/512)*512
					p, q := device.Buffer(n), device.Buffer(n)
					for i := range p {
						p[i] = byte(rng.Uint32())
					}
					if _, err := f.WriteAt(p, off); err != nil {
						t.Error("write:", err)
					}
					if _, err := f.ReadAt(q, off); err != nil || !bytes.Equal(p, q) {
						t.Error("read differs:", err)
					}
					if _, err := dev.ReadAt(q, off); err != nil || !bytes.Equal(p, q) {
						t.Error("the device has other bytes:", err)
					}
				}
			})
		}
		wg.Wait()
		last := bytes.Repeat([]byte{7}, 512)
		p := device.Buffer(512)
		copy(p, last)
		_, err = f.WriteAt(p, size-512)
		require.NoError(t, err)
		_, err = dev.ReadAt(p, size-512)
		require.NoError(t, err)
		require.Equal(t, last, p)
	})
}

func TestFlushDiscardZeroes(t *testing.T) {
	eachBackend(t, func(t *testing.T, b attach.Backend) {
		dev := &counted{Device: memdev.New(16 << 20)}
		a := attached(t, b, dev, attach.Options{})
		f := opened(t, a.Path(), os.O_RDWR)
		p := device.Buffer(1 << 20)
		for i := range p {
			p[i] = 0xee
		}
		for off := int64(0); off < 16<<20; off += 1 << 20 {
			_, err := f.WriteAt(p, off)
			require.NoError(t, err)
		}
		before := dev.flushes.Load()
		require.NoError(t, f.Sync())
		require.Greater(t, dev.flushes.Load(), before, "fsync of the block device flushes the device")

		require.NoError(t, ioctlRange(f, unix.BLKZEROOUT, 4096, 1<<20))
		_, err := dev.ReadAt(p, 4096)
		require.NoError(t, err)
		require.Equal(t, make([]byte, 1<<20), p)
		_, err = dev.ReadAt(p[:512], 4096+1<<20)
		require.NoError(t, err)
		require.Equal(t, byte(0xee), p[0], "what follows is untouched")

		gone := dev.discards.Load() + dev.zeroes.Load()
		require.NoError(t, ioctlRange(f, unix.BLKDISCARD, 8<<20, 4<<20))
		require.Greater(t, dev.discards.Load()+dev.zeroes.Load(), gone)
	})
}

func TestErrorsArrive(t *testing.T) {
	eachBackend(t, func(t *testing.T, b attach.Backend) {
		plan := &errdev.Plan{}
		dev := plan.Wrap(memdev.New(8 << 20))
		a := attached(t, b, dev, attach.Options{})
		f := opened(t, a.Path(), os.O_RDWR)
		p := device.Buffer(64 << 10)
		full := syscall.ENOSPC
		if b == attach.NBD {
			full = syscall.EIO // the kernel's NBD client knows no other
		}
		for _, c := range []struct {
			fault errdev.Fault
			do    func() error
			want  syscall.Errno
		}{
			{errdev.Fault{Kinds: errdev.Reads}, func() error { _, err := f.ReadAt(p, 1<<20); return err }, syscall.EIO},
			{errdev.Fault{Kinds: errdev.Writes}, func() error { _, err := f.WriteAt(p, 1<<20); return err }, syscall.EIO},
			{errdev.Fault{Kinds: errdev.Writes, Err: fmt.Errorf("store: %w", syscall.ENOSPC)}, func() error { _, err := f.WriteAt(p, 2<<20); return err }, full},
			{errdev.Fault{Kinds: errdev.Flushes}, f.Sync, syscall.EIO},
		} {
			c.fault.Forever = true
			plan.Inject(c.fault)
			err := c.do()
			plan.Clear()
			require.ErrorIs(t, err, c.want, "%+v", c.fault)
		}
		_, err := f.WriteAt(p, 1<<20)
		require.NoError(t, err, "errors do not last")
	})
}

func TestReadOnly(t *testing.T) {
	eachBackend(t, func(t *testing.T, b attach.Backend) {
		dev := memdev.New(1 << 20)
		a := attached(t, b, dev, attach.Options{ReadOnly: true})
		f := opened(t, a.Path(), os.O_RDONLY)
		_, err := f.ReadAt(device.Buffer(4096), 0)
		require.NoError(t, err)
		w, err := os.OpenFile(a.Path(), os.O_RDWR|unix.O_DIRECT, 0)
		if err == nil {
			_, err = w.WriteAt(device.Buffer(4096), 0)
			w.Close()
		}
		require.Error(t, err)
		require.Zero(t, dev.Stored())
	})
}

// sized is a device whose size changes.
type sized struct {
	*memdev.Device
	size atomic.Int64
}

func (s *sized) Size() int64 { return s.size.Load() }

func TestResize(t *testing.T) {
	eachBackend(t, func(t *testing.T, b attach.Backend) {
		dev := &sized{Device: memdev.New(64 << 20)}
		dev.size.Store(8 << 20)
		a := attached(t, b, dev, attach.Options{})
		for _, size := range []int64{32 << 20, 16 << 20} {
			dev.size.Store(size)
			err := a.Resize(size)
			if b == attach.Ublk && errors.Is(err, attach.ErrNotSupported) {
				t.Skip(err)
			}
			require.NoError(t, err)
			f := opened(t, a.Path(), os.O_RDWR)
			end, err := f.Seek(0, 2)
			require.NoError(t, err)
			require.Equal(t, size, end)
			_, err = f.WriteAt(device.Buffer(4096), size-4096)
			require.NoError(t, err)
			f.Close()
		}
		require.Error(t, a.Resize(1000))
		require.Error(t, a.Resize(0))
	})
}

func TestDetachRefusesWhileOpen(t *testing.T) {
	eachBackend(t, func(t *testing.T, b attach.Backend) {
		a := attached(t, b, memdev.New(8<<20), attach.Options{})
		f, err := os.OpenFile(a.Path(), os.O_RDONLY|unix.O_EXCL, 0)
		require.NoError(t, err)
		err = a.Detach(false)
		require.ErrorIs(t, err, device.ErrInUse)
		require.ErrorContains(t, err, a.Path())
		require.NoError(t, f.Close())

		sleeper := run(t, "sh", "-c", "exec 3<"+a.Path()+"; echo open; exec sleep 1000")
		err = a.Detach(false)
		require.ErrorIs(t, err, device.ErrInUse)
		require.ErrorContains(t, err, "(sleep)")
		sleeper.kill()

		r := opened(t, a.Path(), os.O_RDONLY)
		_, err = r.ReadAt(device.Buffer(4096), 0)
		require.NoError(t, err, "a refused detach changes nothing")
		r.Close()
		require.NoError(t, a.Detach(false))
		require.NoError(t, a.Detach(false), "a second detach does nothing")
		require.NoError(t, a.Wait())
		require.ErrorIs(t, a.Resize(4<<20), device.ErrClosed)
	})
}

func TestForcedDetach(t *testing.T) {
	eachBackend(t, func(t *testing.T, b attach.Backend) {
		a := attached(t, b, memdev.New(8<<20), attach.Options{})
		f, err := os.OpenFile(a.Path(), os.O_RDWR|unix.O_EXCL|unix.O_DIRECT, 0)
		require.NoError(t, err)
		defer f.Close()
		require.NoError(t, a.Detach(true))
		require.NoError(t, a.Wait())
		_, err = f.ReadAt(device.Buffer(4096), 0)
		require.Error(t, err, "nothing is served any more")
	})
}

func TestManyCycles(t *testing.T) {
	eachBackend(t, func(t *testing.T, b attach.Backend) {
		dev := memdev.New(1 << 20)
		cycle := func() {
			a, err := b.Attach(dev, attach.Options{Name: "cycle"})
			require.NoError(t, err)
			require.NoError(t, a.Detach(false))
		}
		cycle() // what the first allocates for good
		fds, devices, goroutines := openFDs(t), ours(t), runtime.NumGoroutine()
		for range 50 {
			cycle()
		}
		require.Equal(t, devices, ours(t), "block devices")
		eventually(t, func() bool { return openFDs(t) <= fds && runtime.NumGoroutine() <= goroutines },
			"file descriptors: %d at first, goroutines: %d", fds, goroutines)
	})
}

// eventually waits until the condition holds, without another goroutine.
func eventually(t *testing.T, condition func() bool, format string, args ...any) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf(format, args...)
		}
	}
}

func openFDs(t *testing.T) int {
	names, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(names)
}

func ours(t *testing.T) []string {
	all, err := attach.List()
	require.NoError(t, err)
	var paths []string
	for _, i := range all {
		if i.PID == os.Getpid() {
			paths = append(paths, i.Path)
		}
	}
	return paths
}

func TestListed(t *testing.T) {
	eachBackend(t, func(t *testing.T, b attach.Backend) {
		a := attached(t, b, memdev.New(1<<20), attach.Options{Name: "listed/with a name that is too long"})
		all, err := attach.List()
		require.NoError(t, err)
		for _, i := range all {
			if i.Path == a.Path() {
				require.Equal(t, b, i.Backend)
				require.Equal(t, os.Getpid(), i.PID)
				require.False(t, i.Dead)
				if b != attach.Ublk {
					require.Equal(t, "listed_with a name that is too l", i.Name)
				}
				return
			}
		}
		t.Fatal("it is not in the list", all)
	})
}

// TestKilled kills a process that has a device attached, in use and not.
func TestKilled(t *testing.T) {
	eachBackend(t, func(t *testing.T, b attach.Backend) {
		self, err := os.Executable()
		require.NoError(t, err)
		child := runEnv(t, []string{"ZUMASTOR_TEST_ATTACH=" + string(b)}, self)
		path := strings.TrimSpace(child.line)
		require.True(t, filepath.IsAbs(path), "the child says %q", path)
		f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECT, 0)
		require.NoError(t, err)
		child.kill()
		dead := func() bool {
			all, err := attach.List()
			require.NoError(t, err)
			for _, i := range all {
				if i.Path == path {
					return i.Dead
				}
			}
			return b != attach.FUSE
		}
		eventually(t, dead, "%s is not listed as dead", path)
		_, err = f.ReadAt(device.Buffer(4096), 0)
		require.Error(t, err)
		require.NoError(t, f.Close())
		_, err = attach.Cleanup()
		require.NoError(t, err)
		eventually(t, func() bool {
			all, err := attach.List()
			require.NoError(t, err)
			for _, i := range all {
				if i.Path == path {
					return false
				}
			}
			return true
		}, "%s is still there", path)
	})
}

func TestBestSaysWhy(t *testing.T) {
	needRoot(t)
	a, err := attach.Best(memdev.New(1<<20), attach.Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, a.Detach(false)) }()
	for _, err := range a.PassedOver() {
		require.ErrorIs(t, err, attach.ErrNotSupported)
		t.Log(err)
	}
}
