// SPDX-License-Identifier: Apache-2.0

package device_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/engine/device"
	"zumastor.org/zumastor/engine/device/devtest"
	"zumastor.org/zumastor/engine/device/memdev"
)

func newFile(t testing.TB, o device.FileOptions) *device.File {
	t.Helper()
	f, err := device.OpenFile(filepath.Join(t.TempDir(), "volume"), o)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func TestFile(t *testing.T) {
	devtest.Run(t, func(t *testing.T) device.Device { return newFile(t, device.FileOptions{Create: 5 << 20}) })
}

func TestFileDirect(t *testing.T) {
	devtest.Run(t, func(t *testing.T) device.Device {
		f := newFile(t, device.FileOptions{Create: 5 << 20, Direct: true})
		if ok, why := f.Direct(); !ok {
			t.Logf("without O_DIRECT: %s", why)
		}
		return f
	})
}

// TestFileCoarse makes the device want blocks of 4 KiB, whatever it is.
func TestFileCoarse(t *testing.T) {
	devtest.Run(t, func(t *testing.T) device.Device {
		f := newFile(t, device.FileOptions{Create: 5 << 20, Direct: true})
		device.Coarsen(f)
		return f
	})
}

func TestAlignedPathAllocatesNothing(t *testing.T) {
	f, p := newFile(t, device.FileOptions{Create: 5 << 20, Direct: true}), device.Buffer(64<<10)
	require.Zero(t, testing.AllocsPerRun(50, func() {
		_, w := f.WriteAt(p, 1<<20)
		_, r := f.ReadAt(p, 1<<20)
		if w != nil || r != nil {
			t.Fail()
		}
	}))
}

func TestDirectSaysWhyNot(t *testing.T) {
	f := newFile(t, device.FileOptions{Create: 1 << 20})
	ok, why := f.Direct()
	require.False(t, ok)
	require.Equal(t, "not asked for", why)

	dir, err := os.MkdirTemp("/dev/shm", "device")
	if err != nil {
		t.Skip("no tmpfs:", err)
	}
	defer os.RemoveAll(dir)
	f, err = device.OpenFile(filepath.Join(dir, "v"), device.FileOptions{Create: 5 << 20, Direct: true})
	require.NoError(t, err)
	defer f.Close()
	if ok, why = f.Direct(); !ok {
		require.NotEmpty(t, why)
	}
	_, err = f.WriteAt(make([]byte, 512), 512)
	require.NoError(t, err)
	require.NoError(t, f.WriteZeroes(0, 1<<20))
}

func TestCreate(t *testing.T) {
	f := newFile(t, device.FileOptions{Create: 1 << 40})
	var st unix.Stat_t
	require.NoError(t, unix.Stat(f.Path(), &st))
	require.Less(t, st.Blocks, int64(1024), "the file is sparse")
	require.EqualValues(t, 1<<40, f.Size())
	_, err := device.OpenFile(f.Path(), device.FileOptions{Create: 4096})
	require.ErrorIs(t, err, os.ErrExist)
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	odd, empty := filepath.Join(dir, "odd"), filepath.Join(dir, "empty")
	require.NoError(t, os.WriteFile(odd, make([]byte, 513), 0o600))
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	for path, want := range map[string]string{
		dir:                        "neither a regular file nor a block device",
		odd:                        "size 513 is not a positive multiple of 512",
		empty:                      "size 0 is not",
		"/dev/null":                "neither a regular file nor a block device",
		filepath.Join(dir, "none"): "no such file",
	} {
		_, err := device.OpenFile(path, device.FileOptions{Direct: true})
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, path)
	}
}

func TestLock(t *testing.T) {
	f := newFile(t, device.FileOptions{Create: 4096})
	for _, o := range []device.FileOptions{{}, {ReadOnly: true}} {
		_, err := device.OpenFile(f.Path(), o)
		require.ErrorIs(t, err, device.ErrInUse)
		require.ErrorContains(t, err, "in use by another process: stop ")
	}
	require.NoError(t, f.Close())
	a, err := device.OpenFile(f.Path(), device.FileOptions{ReadOnly: true})
	require.NoError(t, err)
	b, err := device.OpenFile(f.Path(), device.FileOptions{ReadOnly: true})
	require.NoError(t, err)
	require.NoError(t, errors.Join(a.Close(), b.Close()))
}

func TestReadOnly(t *testing.T) {
	f := newFile(t, device.FileOptions{Create: 8192})
	_, err := f.WriteAt(bytes.Repeat([]byte{7}, 4096), 0)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	r, err := device.OpenFile(f.Path(), device.FileOptions{ReadOnly: true, Direct: true})
	require.NoError(t, err)
	defer r.Close()
	p := make([]byte, 8192)
	_, err = r.ReadAt(p, 0)
	require.NoError(t, err)
	require.Equal(t, byte(7), p[4095])
	for _, err := range []error{write512(r), r.Discard(0, 4096), r.WriteZeroes(0, 4096), r.WriteZeroes(0, 512)} {
		require.ErrorContains(t, err, r.Path())
		require.ErrorContains(t, err, "opened read-only")
	}
}

func write512(d device.Device) error {
	_, err := d.WriteAt(make([]byte, 512), 0)
	return err
}

func TestErrorsNameWhatFailed(t *testing.T) {
	f := newFile(t, device.FileOptions{Create: 8192})
	require.NoError(t, os.Truncate(f.Path(), 4096))
	_, err := f.ReadAt(make([]byte, 8192), 0)
	require.EqualError(t, err, f.Path()+": read of 8192 bytes at 0: the file is shorter than when it was opened: unexpected EOF")
	_, err = f.ReadAt(make([]byte, 512), 8192)
	require.EqualError(t, err, f.Path()+": read of 512 bytes at 8192: range is outside the device: 512 bytes at 8192 of 8192")
}

// TestNoSpace fills a small file system, where one is named.
func TestNoSpace(t *testing.T) {
	dir := os.Getenv("ZUMASTOR_TEST_SMALL_FS")
	if dir == "" {
		t.Skip("ZUMASTOR_TEST_SMALL_FS names no small file system")
	}
	path := filepath.Join(dir, "volume")
	f, err := device.OpenFile(path, device.FileOptions{Create: 1 << 30})
	require.NoError(t, err)
	defer os.Remove(path)
	defer f.Close()
	p := device.Buffer(1 << 20)
	for i := range p {
		p[i] = 1
	}
	for off := int64(0); off < f.Size() && err == nil; off += int64(len(p)) {
		_, err = f.WriteAt(p, off)
	}
	require.ErrorIs(t, err, unix.ENOSPC)
	require.ErrorContains(t, err, path+": write of 1048576 bytes at ")
}

// TestBlockDevice overwrites the block device that is named, if one is.
func TestBlockDevice(t *testing.T) {
	path := os.Getenv("ZUMASTOR_TEST_BLOCK_DEVICE")
	if path == "" {
		t.Skip("ZUMASTOR_TEST_BLOCK_DEVICE names no block device to overwrite")
	}
	require.NoError(t, device.CheckUnused(path))
	devtest.Run(t, func(t *testing.T) device.Device {
		f, err := device.OpenFile(path, device.FileOptions{Direct: true})
		require.NoError(t, err)
		ok, why := f.Direct()
		require.True(t, ok, why)
		require.ErrorIs(t, device.CheckUnused(path), device.ErrInUse)
		_, err = device.OpenFile(path, device.FileOptions{})
		require.ErrorIs(t, err, device.ErrInUse)
		return f
	})
}

func TestRefreshFindsTheNewSize(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	f, err := device.OpenFile(path, device.FileOptions{Create: 1 << 20})
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, os.Truncate(path, 2<<20))
	require.Equal(t, int64(1<<20), f.Size())
	require.NoError(t, device.Refresh(f))
	require.Equal(t, int64(2<<20), f.Size())
	_, err = f.WriteAt(make([]byte, 4096), 2<<20-4096)
	require.NoError(t, err)
	require.NoError(t, os.Truncate(path, 1000))
	require.ErrorIs(t, f.Refresh(), device.ErrAlign)
	require.Equal(t, int64(2<<20), f.Size())
	require.NoError(t, device.Refresh(memdev.New(512)), "a device of fixed size")
}
