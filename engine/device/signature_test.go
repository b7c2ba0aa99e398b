// SPDX-License-Identifier: Apache-2.0

package device

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Coarsen makes f act as on a device with blocks of 4 KiB.
func Coarsen(f *File) { f.direct = alignment{block: 4096, memory: 4096} }

func TestCheckUnusedFindsSignatures(t *testing.T) {
	const size = 1<<20 + 512
	for _, s := range append(signatures(), signature{"ZFS pool member", 129 << 10, zfsMagic, 0}) {
		path := filepath.Join(t.TempDir(), "disk")
		data := make([]byte, size)
		at := map[int64]int64{-512: size - 512, -4096: size - 4096, -8192: 1<<20 - 8192, -65536: 1<<20 - 65536}[s.off]
		if s.off >= 0 {
			at = s.off
		}
		copy(data[at:], s.magic)
		require.NoError(t, os.WriteFile(path, data, 0o600))
		var found *SignatureError
		require.ErrorAs(t, CheckUnused(path), &found, "%s at %d", s.name, s.off)
		require.Equal(t, SignatureError{Path: path, Signature: s.name, Off: at}, *found)
		require.ErrorContains(t, found, path+": found "+s.name)
	}
}

func TestCheckUnusedLetsBlankPass(t *testing.T) {
	for _, size := range []int{0, 512, 4096, 100 << 10, 1 << 20} {
		path := filepath.Join(t.TempDir(), "disk")
		require.NoError(t, os.WriteFile(path, make([]byte, size), 0o600))
		require.NoError(t, CheckUnused(path), "%d bytes", size)
	}
	require.ErrorIs(t, CheckUnused(filepath.Join(t.TempDir(), "none")), os.ErrNotExist)
}

// TestUsedBy makes trees as sysfs and procfs show them.
func TestUsedBy(t *testing.T) {
	rdev := unix.Mkdev(8, 16)
	tree := func(t *testing.T, files map[string]string) (sys, proc string) {
		root := t.TempDir()
		files["proc/self/mountinfo"] += "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
		files["sys/dev/block/8:16/dev"] = "8:16\n"
		files["sys/dev/block/8:16/sdb1/partition"] = "1\n"
		files["sys/dev/block/8:16/sdb1/dev"] = "8:17\n"
		for name, text := range files {
			path := filepath.Join(root, name)
			require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
			require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		}
		return filepath.Join(root, "sys"), filepath.Join(root, "proc")
	}
	for _, c := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"nothing", map[string]string{}, ""},
		{"mounted", map[string]string{"proc/self/mountinfo": "30 1 8:16 / /srv rw - xfs /dev/sdb rw\n"}, "mounted at /srv"},
		{"partition mounted", map[string]string{"proc/self/mountinfo": "30 1 8:17 / /srv rw - xfs /dev/sdb1 rw\n"}, "mounted at /srv"},
		{"held", map[string]string{"sys/dev/block/8:16/holders/dm-3": ""}, "held by dm-3"},
		{"partition held", map[string]string{"sys/dev/block/8:16/sdb1/holders/md0": ""}, "held by md0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			sys, proc := tree(t, c.files)
			got, err := usedBy(rdev, sys, proc)
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
	require.ErrorIs(t, &UsedError{Path: "/dev/sdb", By: "mounted at /srv"}, ErrInUse)
}

func TestFindLock(t *testing.T) {
	const locks = "1: POSIX  ADVISORY  WRITE 77 fe:00:131 0 EOF\n2: FLOCK  ADVISORY  WRITE 4242 fe:00:131 0 EOF\n"
	require.Equal(t, "4242", findLock(locks, "fe:00:131"))
	require.Empty(t, findLock(locks, "fe:00:132"))
}

func TestFailedFlushStaysFailed(t *testing.T) {
	f, err := OpenFile(filepath.Join(t.TempDir(), "v"), FileOptions{Create: 4096})
	require.NoError(t, err)
	defer f.Close()
	lost := errors.New("lost")
	f.flushErr.Store(&lost)
	require.ErrorIs(t, f.Flush(), lost)
	require.ErrorIs(t, f.Flush(), lost)
}

// FuzzProbe looks for signatures on any content and size.
func FuzzProbe(f *testing.F) {
	f.Add([]byte{1}, 1)
	f.Add(append(make([]byte, 510), 0x55, 0xaa), 512)
	f.Fuzz(func(t *testing.T, head []byte, size int) {
		size = min(max(size, 1), 1<<20)
		data := make([]byte, size)
		copy(data, head)
		err := probe(bytes.NewReader(data), "disk", int64(size))
		var found *SignatureError
		if err != nil {
			require.ErrorAs(t, err, &found)
			require.GreaterOrEqual(t, found.Off, int64(0))
			require.Less(t, found.Off, int64(size))
		}
	})
}
