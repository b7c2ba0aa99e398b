// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/engine/block"
)

// The FUSE file system has one file. It is mounted nowhere: the mount exists for
// as long as the loop device, or we, have the file open, so that nobody else gets
// at it and a process that dies leaves no mount behind.

const (
	fuseRoot    = fuse.FUSE_ROOT_ID
	fuseFile    = 2
	fuseRequest = 1 << 20 // bytes of data in one request, the kernel's most
)

// fileSystem answers the kernel's FUSE requests.
type fileSystem struct {
	fuse.RawFileSystem
	target *target
	name   string // of the file: the label, which the kernel tells of a loop device even when we are gone
	size   atomic.Int64
}

func newFileSystem(t *target, name string) *fileSystem {
	fs := &fileSystem{RawFileSystem: fuse.NewDefaultRawFileSystem(), target: t, name: name}
	fs.size.Store(t.dev.Size())
	return fs
}

// String implements fuse.RawFileSystem.
func (fs *fileSystem) String() string { return "zumastor" }

func (fs *fileSystem) attr(node uint64, a *fuse.Attr) fuse.Status {
	switch node {
	case fuseRoot:
		*a = fuse.Attr{Ino: node, Mode: syscall.S_IFDIR | 0o700, Nlink: 2}
	case fuseFile:
		n := fs.size.Load()
		*a = fuse.Attr{Ino: node, Mode: syscall.S_IFREG | 0o600, Nlink: 1, Size: uint64(n), Blocks: uint64(n / block.SectorSize), Blksize: 4096}
	default:
		return fuse.ENOENT
	}
	return fuse.OK
}

// Lookup implements fuse.RawFileSystem.
func (fs *fileSystem) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	if h.NodeId != fuseRoot || name != fs.name {
		return fuse.ENOENT
	}
	out.NodeId = fuseFile
	return fs.attr(fuseFile, &out.Attr)
}

// GetAttr implements fuse.RawFileSystem. Nothing is cached: the size may change.
func (fs *fileSystem) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	return fs.attr(in.NodeId, &out.Attr)
}

// SetAttr implements fuse.RawFileSystem: times are of no interest, and the size
// is not changed through the file.
func (fs *fileSystem) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	if in.Valid&fuse.FATTR_SIZE != 0 {
		return fuse.EPERM
	}
	return fs.attr(in.NodeId, &out.Attr)
}

// StatFs implements fuse.RawFileSystem. The loop device takes the block size as
// the unit of discards.
func (fs *fileSystem) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	*out = fuse.StatfsOut{Bsize: 4096, Frsize: 4096, Blocks: uint64(fs.size.Load() / 4096), NameLen: 255}
	return fuse.OK
}

// Open implements fuse.RawFileSystem: no page of the file is cached.
func (fs *fileSystem) Open(_ <-chan struct{}, _ *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	out.OpenFlags = fuse.FOPEN_DIRECT_IO | fuse.FOPEN_PARALLEL_DIRECT_WRITES | fuse.FOPEN_NOFLUSH
	return fuse.OK
}

// Flush implements fuse.RawFileSystem: closing makes nothing durable.
func (fs *fileSystem) Flush(_ <-chan struct{}, _ *fuse.FlushIn) fuse.Status { return fuse.OK }

// Read implements fuse.RawFileSystem.
func (fs *fileSystem) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	n := min(int64(in.Size), fs.size.Load()-int64(in.Offset))
	if n <= 0 {
		return fuse.ReadResultData(nil), fuse.OK
	}
	if e := fs.target.read(buf[:n], int64(in.Offset)); e != 0 {
		return nil, fuse.Status(e)
	}
	return fuse.ReadResultData(buf[:n]), fuse.OK
}

// Write implements fuse.RawFileSystem.
func (fs *fileSystem) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	if e := fs.target.write(data, int64(in.Offset), false); e != 0 {
		return 0, fuse.Status(e)
	}
	return uint32(len(data)), fuse.OK
}

// Fsync implements fuse.RawFileSystem.
func (fs *fileSystem) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	if in.NodeId != fuseFile {
		return fuse.OK
	}
	return fuse.Status(fs.target.flush())
}

// Fallocate implements fuse.RawFileSystem. The loop device punches a hole for a
// discard and to write zeroes alike, so a hole must read as zeroes; where that
// costs as much as writing them it is refused, and the kernel writes them where
// it must.
func (fs *fileSystem) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	const holes = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
	const zeroes = unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE
	if !fs.target.zeroes() || in.Mode != holes && in.Mode != zeroes {
		return fuse.Status(syscall.EOPNOTSUPP)
	}
	return fuse.Status(fs.target.zero(int64(in.Offset), int64(in.Length), false))
}

// fuseMount is the file system, served.
type fuseMount struct {
	fs    *fileSystem
	mount int           // the detached mount
	ended chan struct{} // closed when nothing is served any more
}

// mountFUSE makes the file system and serves it until nobody has it open.
func mountFUSE(t *target, o Options) (*fuseMount, error) {
	dev, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening /dev/fuse: %w", err)
	}
	mount, err := newMount("fuse", "source", "zumastor", "fd", strconv.Itoa(dev), "rootmode", "40000",
		"user_id", strconv.Itoa(os.Geteuid()), "group_id", strconv.Itoa(os.Getegid()), "max_read", strconv.Itoa(fuseRequest))
	if err != nil {
		return nil, errors.Join(err, unix.Close(dev))
	}
	m := &fuseMount{fs: newFileSystem(t, newLabel(o.Name).String()), mount: mount, ended: make(chan struct{})}
	// The server takes dev over, also when it can't be made.
	server, err := fuse.NewServer(m.fs, "/dev/fd/"+strconv.Itoa(dev), &fuse.MountOptions{
		MaxWrite: fuseRequest, MaxBackground: 2 * o.Depth, MaxReadAhead: fuseRequest, DisableXAttrs: true, DisableSplice: true,
		ExtraCapabilities: fuse.CAP_ASYNC_DIO, Logger: log.New(logLines{t.log}, "", 0),
	})
	if err != nil {
		return nil, fmt.Errorf("serving the FUSE file system: %w", errors.Join(err, unix.Close(mount)))
	}
	go func() {
		defer close(m.ended)
		server.Serve()
	}()
	return m, nil
}

// newMount makes a file system with pairs of options, and returns a mount of it
// that is in no directory.
func newMount(kind string, options ...string) (int, error) {
	fs, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("opening file system %s: %w", kind, err)
	}
	defer unix.Close(fs)
	for i := 0; i < len(options); i += 2 {
		if err := unix.FsconfigSetString(fs, options[i], options[i+1]); err != nil {
			return -1, fmt.Errorf("setting %s of file system %s: %w", options[i], kind, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, fmt.Errorf("making file system %s: %w", kind, err)
	}
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return -1, fmt.Errorf("mounting file system %s: %w", kind, err)
	}
	return mount, nil
}

// open opens the file.
func (m *fuseMount) open() (int, error) {
	mode := unix.O_RDWR
	if m.fs.target.readOnly {
		mode = unix.O_RDONLY
	}
	fd, err := unix.Openat(m.mount, m.fs.name, mode|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("opening the FUSE file: %w", err)
	}
	return fd, nil
}

// abortFUSE makes the kernel end the FUSE connection of that number: all requests
// fail, then and later.
func abortFUSE(connection uint32) error {
	control, err := newMount("fusectl")
	if err != nil {
		return err
	}
	defer unix.Close(control)
	fd, err := unix.Openat(control, fmt.Sprintf("%d/abort", connection), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil // ended meanwhile
	}
	if err != nil {
		return fmt.Errorf("aborting FUSE connection %d: %w", connection, err)
	}
	_, err = unix.Write(fd, []byte("1"))
	return errors.Join(err, unix.Close(fd))
}

// connection returns the number by which the kernel knows the connection.
func (m *fuseMount) connection() (uint32, error) {
	var st unix.Stat_t
	if err := unix.Fstat(m.mount, &st); err != nil {
		return 0, err
	}
	return unix.Minor(st.Dev), nil
}

// logLines hands the lines of a log.Logger on.
type logLines struct{ to *slog.Logger }

var _ io.Writer = logLines{}

func (l logLines) Write(p []byte) (int, error) {
	l.to.Warn("fuse: " + string(p))
	return len(p), nil
}
