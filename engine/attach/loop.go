// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/engine/device"
)

// loopDevice is a loop device on a file of the FUSE file system.
//
// The loop device clears itself when it is closed for the last time, and we keep
// it open: so it is ours for as long as we live, and when we die it goes as soon
// as nothing on it is mounted.
type loopDevice struct {
	node       string
	mount      *fuseMount
	connection uint32

	mu      sync.Mutex
	fd      int // of the loop device; -1 when closed
	file    int // of the FUSE file; -1 when closed
	stopped bool
}

// probeFUSE says whether the kernel has FUSE, loop devices and what is needed of
// them.
func probeFUSE() error {
	for _, node := range []string{"/dev/fuse", "/dev/loop-control"} {
		loadModule(map[string]string{"/dev/fuse": "fuse", "/dev/loop-control": "loop"}[node], node)
		fd, err := unix.Open(node, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("fuse %w: opening %s: %w", ErrNotSupported, node, err)
		}
		_ = unix.Close(fd)
	}
	fs, err := unix.Fsopen("fuse", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("fuse %w: file system fuse by fsopen (Linux 5.2, as root): %w", ErrNotSupported, err)
	}
	return unix.Close(fs)
}

func startFUSE(t *target, o Options) (binding, error) {
	m, err := mountFUSE(t, o)
	if err != nil {
		return nil, err
	}
	d := &loopDevice{mount: m, fd: -1, file: -1}
	if err := d.start(o); err != nil {
		d.close()
		<-m.ended
		return nil, err
	}
	return d, nil
}

// start opens the file and puts a loop device on it. What it opened is closed by
// close, whatever it returns.
func (d *loopDevice) start(o Options) (err error) {
	if d.connection, err = d.mount.connection(); err != nil {
		return err
	}
	if d.file, err = d.mount.open(); err != nil {
		return err
	}
	c := unix.LoopConfig{Fd: uint32(d.file), Size: uint32(o.BlockSize)}
	c.Info.Flags = unix.LO_FLAGS_AUTOCLEAR | unix.LO_FLAGS_DIRECT_IO | unix.LO_FLAGS_PARTSCAN
	if o.ReadOnly {
		c.Info.Flags |= unix.LO_FLAGS_READ_ONLY
	}
	copy(c.Info.File_name[:len(c.Info.File_name)-1], d.mount.fs.name)
	if d.fd, d.node, err = configureLoop(&c); err != nil {
		return err
	}
	if dio, err := os.ReadFile(sysBlock(d.node) + "/loop/dio"); err != nil || strings.TrimSpace(string(dio)) != "1" {
		o.Logger.Warn("the loop device goes through the page cache", "device", d.node, "error", err)
	}
	return nil
}

// configureLoop takes a free loop device. Others may be quicker to take it: then
// it tries the next.
func configureLoop(c *unix.LoopConfig) (fd int, node string, err error) {
	control, err := unix.Open("/dev/loop-control", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, "", fmt.Errorf("opening /dev/loop-control: %w", err)
	}
	defer unix.Close(control)
	for range 100 {
		n, err := unix.IoctlRetInt(control, unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return -1, "", fmt.Errorf("asking for a free loop device: %w", err)
		}
		node = fmt.Sprintf("/dev/loop%d", n)
		if fd, err = openNode(node); err != nil {
			return -1, "", err
		}
		err = unix.IoctlLoopConfigure(fd, c)
		if err == nil {
			return fd, node, nil
		}
		_ = unix.Close(fd)
		if !errors.Is(err, unix.EBUSY) {
			return -1, "", fmt.Errorf("configuring %s: %w", node, err)
		}
	}
	return -1, "", errors.New("every free loop device is taken at once by others")
}

// openNode opens a device node that may be about to be made.
func openNode(node string) (fd int, err error) {
	for range 100 {
		fd, err = unix.Open(node, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENXIO) && !errors.Is(err, unix.EINTR) {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil {
		return -1, fmt.Errorf("opening %s: %w", node, err)
	}
	return fd, nil
}

func (d *loopDevice) path() string { return d.node }

func (d *loopDevice) done() <-chan struct{} { return d.mount.ended }

func (d *loopDevice) failure() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped {
		return nil
	}
	return fmt.Errorf("%s: its FUSE connection was ended by another process", d.node)
}

func (d *loopDevice) resize(size int64) error {
	d.mount.fs.size.Store(size)
	var st unix.Stat_t
	if err := unix.Fstat(d.file, &st); err != nil { // this is how the kernel learns the file's size
		return fmt.Errorf("reading the size of the FUSE file: %w", err)
	}
	if st.Size != size {
		return fmt.Errorf("the FUSE file has %d bytes", st.Size)
	}
	return unix.IoctlSetInt(d.fd, unix.LOOP_SET_CAPACITY, 0)
}

// stopTimeout is how long the kernel gets to let a device go that was found
// unused.
const stopTimeout = 5 * time.Second

func (d *loopDevice) stop(force bool) error {
	d.mu.Lock()
	d.stopped = true
	d.mu.Unlock()
	err := d.close()
	limit := stopTimeout
	if force {
		limit = time.Second
	}
	if waitFor(d.mount.ended, limit) {
		return err
	}
	if !force {
		return fmt.Errorf("%w: %s was opened meanwhile, and goes when it is closed", device.ErrInUse, d.node)
	}
	err = errors.Join(err, abortFUSE(d.connection))
	if !waitFor(d.mount.ended, stopTimeout) {
		err = errors.Join(err, fmt.Errorf("%s: requests are still under way", d.node))
	}
	return err
}

// close gives up all that we hold open; a second call does nothing.
func (d *loopDevice) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	if d.fd >= 0 {
		// Whoever closes a block device last writes its page cache out, and that is
		// us: see that it is done in time and that errors are seen.
		errs = append(errs, unix.Fsync(d.fd), unix.Close(d.fd))
	}
	for _, fd := range []int{d.file, d.mount.mount} {
		if fd >= 0 {
			errs = append(errs, unix.Close(fd))
		}
	}
	d.fd, d.file, d.mount.mount = -1, -1, -1
	return errors.Join(errs...)
}

// isClosed reports whether c is closed.
func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// waitFor reports whether c was closed in time.
func waitFor(c <-chan struct{}, limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-c:
		return true
	case <-timer.C:
		return false
	}
}
