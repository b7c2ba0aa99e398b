// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/memdev"
)

func TestBestTakesTheFirstThatIsThere(t *testing.T) {
	broken := errors.New("broken")
	tried := []Backend{}
	attach := func(fails map[Backend]error) func(Backend) (*Attached, error) {
		tried = tried[:0]
		return func(b Backend) (*Attached, error) {
			tried = append(tried, b)
			if err := fails[b]; err != nil {
				return nil, err
			}
			return &Attached{backend: b}, nil
		}
	}
	no := func(what string) error { return fmt.Errorf("%w: no %s", ErrNotSupported, what) }

	a, err := best([]Backend{"x", "y", "z"}, attach(map[Backend]error{"x": no("driver")}))
	require.NoError(t, err)
	require.Equal(t, Backend("y"), a.Backend())
	require.Len(t, a.PassedOver(), 1)
	require.ErrorContains(t, a.PassedOver()[0], "no driver")

	_, err = best([]Backend{"x", "y"}, attach(map[Backend]error{"x": no("driver"), "y": no("module")}))
	require.ErrorIs(t, err, ErrNotSupported)
	require.ErrorContains(t, err, "no driver")
	require.ErrorContains(t, err, "no module")

	_, err = best([]Backend{"x", "y", "z"}, attach(map[Backend]error{"x": no("driver"), "y": broken}))
	require.ErrorIs(t, err, broken)
	require.Equal(t, []Backend{"x", "y"}, tried, "a backend that is there and fails is not passed over")
}

func TestOptions(t *testing.T) {
	o, err := Options{}.complete(1 << 20)
	require.NoError(t, err)
	require.Equal(t, 512, o.BlockSize)
	require.Equal(t, 64, o.Depth)
	require.NotZero(t, o.Queues)
	for want, c := range map[string]struct {
		o    Options
		size int64
	}{
		"block size 1024":            {Options{BlockSize: 1024}, 1 << 20},
		"chunk size 6144":            {Options{ChunkSize: 6144}, 1 << 20},
		"depth 1000":                 {Options{Depth: 1000}, 1 << 20},
		"17 queues":                  {Options{Queues: 17}, 1 << 20},
		"size 0 is not":              {Options{}, 0},
		"size 512 is not":            {Options{BlockSize: 4096}, 512},
		"multiple of the block size": {Options{}, 513},
	} {
		_, err := c.o.complete(c.size)
		require.ErrorContains(t, err, want)
	}
	_, err = Backend("none").Attach(memdev.New(512), Options{})
	require.ErrorContains(t, err, `no backend "none"`)
}

func TestErrno(t *testing.T) {
	for want, err := range map[syscall.Errno]error{
		0:                  nil,
		syscall.ENOSPC:     fmt.Errorf("store: %w", syscall.ENOSPC),
		syscall.EOPNOTSUPP: fmt.Errorf("device: %w", errors.ErrUnsupported),
		syscall.EIO:        device.ErrClosed,
	} {
		require.Equal(t, want, errnoOf(err), "%v", err)
	}
	require.Equal(t, syscall.EIO, errnoOf(fs.ErrPermission))
}

func TestLabel(t *testing.T) {
	l := newLabel("a/b\nc é" + string(make([]byte, 100)))
	require.Len(t, l.name, maxName)
	require.Equal(t, "a_b_c _", l.name[:7])
	got, ok := parseLabel(l.String())
	require.True(t, ok)
	require.Equal(t, l, got)
	require.True(t, got.alive())
	got.start++
	require.False(t, got.alive(), "the number belongs to another process now")
	for _, s := range []string{"", "zumastor", "zumastor:1:2", "zumastor:x:2:n", "zumastor:-1:2:n", "other:1:2:n", "zumastor:1:x:n", "/srv/image"} {
		_, ok := parseLabel(s)
		require.False(t, ok, s)
	}
}

func TestParseStat(t *testing.T) {
	start, err := parseStat("12 (a) b (c) S 1 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 777 1 2 3")
	require.NoError(t, err)
	require.EqualValues(t, 777, start)
	_, err = parseStat("12 (a) S 1")
	require.Error(t, err)
	_, err = parseStat("")
	require.Error(t, err)
}

func TestListSys(t *testing.T) {
	sys := t.TempDir()
	mine, dead := newLabel("mine"), label{pid: os.Getpid(), start: 1, name: "dead"}
	for dir, text := range map[string]string{
		"block/loop0/loop": "/srv/image\n", "block/loop1/loop": "/" + mine.String() + "\n", "block/loop12/loop": "/" + dead.String() + "\n",
	} {
		require.NoError(t, os.MkdirAll(filepath.Join(sys, dir), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(sys, dir, "backing_file"), []byte(text), 0o600))
	}
	found, err := listLoop(sys)
	require.NoError(t, err)
	require.Len(t, found, 2)
	for i, want := range []Info{{Path: "/dev/loop1", Backend: FUSE, Name: "mine", PID: mine.pid}, {Path: "/dev/loop12", Backend: FUSE, Name: "dead", PID: mine.pid, Dead: true}} {
		found[i].remove = nil
		require.Equal(t, want, found[i])
	}
}

func TestOpenedBy(t *testing.T) {
	proc := t.TempDir()
	put := func(pid, to string) {
		require.NoError(t, os.MkdirAll(filepath.Join(proc, pid, "fd"), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(proc, pid, "comm"), []byte("reader\n"), 0o600))
		require.NoError(t, os.Symlink(to, filepath.Join(proc, pid, "fd", "3")))
	}
	put("100", "/dev/loop11")
	put("101", "/dev/loop2p1")
	require.Empty(t, openedBy("/dev/loop1", proc))
	require.Equal(t, "open in process 100 (reader)", openedBy("/dev/loop11", proc))
	require.Equal(t, "open in process 101 (reader)", openedBy("/dev/loop2", proc))
	put(fmt.Sprint(os.Getpid()), "/dev/loop4")
	require.Empty(t, openedBy("/dev/loop4", proc), "we have it open ourselves")
}

// TestLoopEncoding compares with include/uapi/linux/loop.h.
func TestLoopEncoding(t *testing.T) {
	require.EqualValues(t, 232, unsafe.Sizeof(unix.LoopInfo64{}))
	require.EqualValues(t, 304, unsafe.Sizeof(unix.LoopConfig{}))
	require.EqualValues(t, 8, unsafe.Offsetof(unix.LoopConfig{}.Info))
	require.EqualValues(t, 56, unsafe.Offsetof(unix.LoopInfo64{}.File_name))
}
