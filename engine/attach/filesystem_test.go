// SPDX-License-Identifier: Apache-2.0

package attach_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/engine/attach"
	"zumastor.org/zumastor/engine/attach/freeze"
	"zumastor.org/zumastor/engine/block"
	"zumastor.org/zumastor/engine/device/memdev"
	"zumastor.org/zumastor/engine/placement"
	"zumastor.org/zumastor/engine/server"
	"zumastor.org/zumastor/engine/store"
	"zumastor.org/zumastor/engine/volume"
)

// fileSystem is a kind of file system with its tools.
type fileSystem struct {
	name     string
	make     []string
	check    []string
	snapshot string // options to mount a snapshot of it, beside the original, without writing
}

var fileSystems = []fileSystem{
	{"ext4", []string{"mkfs.ext4", "-q", "-F"}, []string{"e2fsck", "-f", "-n"}, "noload"},
	{"xfs", []string{"mkfs.xfs", "-q", "-f"}, []string{"xfs_repair", "-n"}, "norecovery,nouuid"},
}

// volumeSize is the smallest that mkfs.xfs takes, and some more.
const volumeSize = 320 << 20

// eachFileSystem runs the test with every backend and file system at hand.
func eachFileSystem(t *testing.T, run func(t *testing.T, b attach.Backend, fs fileSystem)) {
	eachBackend(t, func(t *testing.T, b attach.Backend) {
		for _, fs := range fileSystems {
			t.Run(fs.name, func(t *testing.T) {
				for _, tool := range []string{fs.make[0], fs.check[0]} {
					if _, err := exec.LookPath(tool); err != nil {
						t.Skip(err)
					}
				}
				_ = exec.Command("modprobe", "--quiet", fs.name).Run()
				known, err := os.ReadFile("/proc/filesystems")
				require.NoError(t, err)
				if !bytes.Contains(known, []byte("\t"+fs.name+"\n")) {
					t.Skip("the kernel has no " + fs.name)
				}
				run(t, b, fs)
			})
		}
	})
}

// command runs a tool on a device and returns its output if it fails.
func command(args []string, path string) error {
	out, err := exec.Command(args[0], append(args[1:len(args):len(args)], path)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%v: %w: %s", args, err, out)
	}
	return nil
}

// mount mounts a device and unmounts it when the test ends, if it is mounted still.
func mount(t *testing.T, path, kind string, flags uintptr, options string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	require.NoError(t, unix.Mount(path, dir, kind, flags, options))
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// putFile writes a file whose content follows from its number, durably.
func putFile(dir string, n int) error {
	f, err := os.Create(filepath.Join(dir, strconv.Itoa(n)))
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(content(n)); err != nil {
		return err
	}
	return f.Sync()
}

func content(n int) []byte {
	return bytes.Repeat([]byte(fmt.Sprintf("file %d\n", n)), 1000+7*n)
}

// requireFiles shows that files [0, n) are there and whole.
func requireFiles(t *testing.T, dir string, n int) {
	t.Helper()
	for i := range n {
		got, err := os.ReadFile(filepath.Join(dir, strconv.Itoa(i)))
		require.NoError(t, err)
		require.True(t, bytes.Equal(content(i), got), "file %d", i)
	}
}

func TestFileSystem(t *testing.T) {
	eachFileSystem(t, func(t *testing.T, b attach.Backend, fs fileSystem) {
		dev := memdev.New(volumeSize)
		a := attached(t, b, dev, attach.Options{Name: fs.name})
		require.NoError(t, command(fs.make, a.Path()))
		dir := mount(t, a.Path(), fs.name, 0, "")
		for n := range 50 {
			require.NoError(t, putFile(dir, n))
		}
		require.ErrorContains(t, a.Detach(false), "mounted at "+dir)
		require.NoError(t, os.Remove(filepath.Join(dir, "49")))
		require.NoError(t, unix.Unmount(dir, 0))
		require.NoError(t, command(fs.check, a.Path()))
		require.NoError(t, a.Detach(false))

		again := attached(t, b, dev, attach.Options{Name: fs.name, ReadOnly: true})
		dir = mount(t, again.Path(), fs.name, unix.MS_RDONLY, "")
		requireFiles(t, dir, 49)
		require.NoFileExists(t, filepath.Join(dir, "49"))
		require.NoError(t, unix.Unmount(dir, 0))
		require.NoError(t, again.Detach(false))
	})
}

// origin is a volume with a store in memory.
type origin struct {
	dev    *memdev.Device
	store  placement.Devices
	server *server.Server
	*volume.Origin
}

func newOrigin(t *testing.T) *origin {
	o := &origin{dev: memdev.New(volumeSize), store: placement.Devices{Store: memdev.New(1 << 30)}}
	_, err := store.Format(o.store, store.FormatOptions{OriginSize: volumeSize, ChunkSize: 64 << 10})
	require.NoError(t, err)
	o.server, err = server.Open(o.store, server.Options{})
	require.NoError(t, err)
	o.Origin, err = volume.OpenOrigin(o.server, o.dev, o.store, volume.Options{})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, o.Close())
		require.NoError(t, o.server.Close())
	})
	return o
}

func (o *origin) open(t *testing.T, tag block.Tag) *volume.Snapshot {
	s, err := volume.OpenSnapshot(volume.SnapshotSource{
		Server: o.server, Origin: o.dev, Store: o.store, ChunkSize: o.server.Geometry().ChunkSize(), DataOffset: o.server.DataOffset(),
	}, tag)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// TestSnapshotsOfFileSystem takes snapshots while a program writes, and mounts
// each beside the volume that goes on changing.
func TestSnapshotsOfFileSystem(t *testing.T) {
	eachFileSystem(t, func(t *testing.T, b attach.Backend, fs fileSystem) {
		o := newOrigin(t)
		a := attached(t, b, o, attach.Options{Name: "origin"})
		require.NoError(t, command(fs.make, a.Path()))
		dir := mount(t, a.Path(), fs.name, 0, "")
		var written atomic.Int64
		stop := make(chan struct{})
		failed := make(chan error, 1)
		go func() {
			defer close(failed)
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := putFile(dir, n); err != nil {
					failed <- err
					return
				}
				written.Store(int64(n + 1))
			}
		}()
		atLeast := map[block.Tag]int{}
		for tag := block.Tag(1); tag <= 3; tag++ {
			more := written.Load() + 10
			eventually(t, func() bool { return written.Load() >= more }, "the program does not get on")
			atLeast[tag] = int(written.Load())
			thaw, err := freeze.Freeze(t.Context(), a.Path(), time.Minute)
			require.NoError(t, err)
			_, err = o.server.CreateSnapshot(tag)
			require.NoError(t, err)
			require.NoError(t, thaw())
		}
		for tag, files := range atLeast {
			requireSnapshot(t, b, fs, o.open(t, tag), files)
		}
		close(stop)
		require.NoError(t, <-failed)
		requireFiles(t, dir, int(written.Load()))
		require.NoError(t, unix.Unmount(dir, 0))
		require.NoError(t, command(fs.check, a.Path()))
		require.NoError(t, a.Detach(false))
	})
}

// requireSnapshot shows that a snapshot has that many files at least, mounted and
// not, and that nothing was written to it.
func requireSnapshot(t *testing.T, b attach.Backend, fs fileSystem, s *volume.Snapshot, files int) {
	a := attached(t, b, s, attach.Options{Name: "snapshot", ReadOnly: true})
	if fs.name == "ext4" { // xfs leaves its log to be replayed, also when frozen
		require.NoError(t, command(fs.check, a.Path()))
	}
	dir := mount(t, a.Path(), fs.name, unix.MS_RDONLY, fs.snapshot)
	requireFiles(t, dir, files)
	require.NoError(t, unix.Unmount(dir, 0))
	require.NoError(t, a.Detach(false))
}
