// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Device is a whole disk, as the block layer knows it.
type Device struct{ Major, Minor uint32 }

// FindDevice returns the disk of a block device: its path, or its name in /dev. Of a
// partition it is the disk that has it.
func FindDevice(name string) (Device, error) {
	path := name
	if !strings.Contains(name, "/") {
		path = filepath.Join("/dev", name)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return Device{}, fmt.Errorf("device %s: %w", name, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return Device{}, fmt.Errorf("device %s: %s is not a block device", name, path)
	}
	return wholeDisk(Device{unix.Major(st.Rdev), unix.Minor(st.Rdev)})
}

// DeviceOf returns the disk that the file system of a path is on. It wraps
// [ErrUnavailable] where that is no block device, such as in tmpfs.
func DeviceOf(path string) (Device, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return Device{}, fmt.Errorf("device of %s: %w", path, err)
	}
	d := Device{unix.Major(st.Dev), unix.Minor(st.Dev)}
	if _, err := os.Stat(d.sys()); err != nil {
		return Device{}, fmt.Errorf("device of %s: its file system is on none: %w", path, ErrUnavailable)
	}
	return wholeDisk(d)
}

func wholeDisk(d Device) (Device, error) {
	if _, err := os.Stat(filepath.Join(d.sys(), "partition")); err != nil {
		return d, nil
	}
	text, err := os.ReadFile(filepath.Join(d.sys(), "..", "dev"))
	if err == nil {
		_, err = fmt.Sscanf(string(text), "%d:%d", &d.Major, &d.Minor)
	}
	if err != nil {
		return d, fmt.Errorf("disk of partition %d:%d: %w", d.Major, d.Minor, err)
	}
	return d, nil
}

func (d Device) sys() string { return fmt.Sprintf("/sys/dev/block/%d:%d", d.Major, d.Minor) }

// hasRequests reports whether the disk has a queue of requests.
func (d Device) hasRequests() bool {
	_, err := os.Stat(filepath.Join(d.sys(), "mq"))
	return err == nil
}

// number is the kernel's dev_t, which is not that of user space.
func (d Device) number() uint32 { return d.Major<<20 | d.Minor }

func deviceOf(number uint32) Device { return Device{number >> 20, number & (1<<20 - 1)} }

// String returns the name in /dev, or the numbers of a device that is gone.
func (d Device) String() string {
	if target, err := os.Readlink(d.sys()); err == nil {
		return filepath.Base(target)
	}
	return fmt.Sprintf("%d:%d", d.Major, d.Minor)
}
