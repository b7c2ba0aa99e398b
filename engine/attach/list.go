// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Info is a block device that this package made, in this process or another.
type Info struct {
	Path    string
	Backend Backend
	Name    string // Options.Name; empty with ublk
	PID     int    // of the process that serves it
	Dead    bool   // that process is gone: all requests fail
	remove  func() error
}

// List returns all block devices of the machine that this package made, by path.
func List() ([]Info, error) {
	ublk, err1 := listUblk()
	nbd, err2 := listNBD("/sys")
	loop, err3 := listLoop("/sys")
	all := slices.Concat(ublk, nbd, loop)
	slices.SortFunc(all, func(a, b Info) int { return strings.Compare(a.Path, b.Path) })
	return all, errors.Join(err1, err2, err3)
}

// Cleanup removes the devices that processes left when they were killed, and
// returns them. Those that are mounted or open stay, and the error names each; it
// wraps device.ErrInUse.
func Cleanup() (removed []Info, err error) {
	all, err := List()
	for _, i := range all {
		if !i.Dead {
			continue
		}
		e := checkUnused(i.Path)
		if e == nil {
			e = i.remove()
		}
		if e != nil {
			err = errors.Join(err, e)
			continue
		}
		removed = append(removed, i)
	}
	return removed, err
}

// listLoop finds our loop devices by the names of their backing files.
func listLoop(sys string) ([]Info, error) {
	return listSys(filepath.Join(sys, "block/loop*/loop/backing_file"), FUSE, clearLoop)
}

// listNBD finds our NBD devices: the kernel keeps the label as the backend's
// identifier, for as long as the device is configured.
func listNBD(sys string) ([]Info, error) {
	return listSys(filepath.Join(sys, "block/nbd*/backend"), NBD, disconnectNBD)
}

// listSys finds devices by the files in sysfs that have their labels.
func listSys(pattern string, b Backend, remove func(node string) error) ([]Info, error) {
	files, err := filepath.Glob(pattern)
	if err != nil {
		return nil, err
	}
	var found []Info
	for _, file := range files {
		text, err := os.ReadFile(file)
		l, ok := parseLabel(strings.TrimPrefix(strings.TrimSuffix(string(text), "\n"), "/"))
		if err != nil || !ok {
			continue // gone meanwhile, or another's
		}
		_, disk, _ := strings.Cut(file, "/block/")
		disk, _, _ = strings.Cut(disk, "/")
		node := "/dev/" + disk
		found = append(found, Info{Path: node, Backend: b, Name: l.name, PID: l.pid, Dead: !l.alive(),
			remove: func() error { return remove(node) }})
	}
	return found, nil
}

// clearLoop clears a loop device.
func clearLoop(node string) error {
	fd, err := unix.Open(node, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	err = unix.IoctlSetInt(fd, unix.LOOP_CLR_FD, 0)
	if errors.Is(err, unix.ENXIO) {
		err = nil // it cleared itself
	}
	return errors.Join(err, unix.Close(fd))
}
