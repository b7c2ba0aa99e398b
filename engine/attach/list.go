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
	Name    string // Options.Name
	PID     int    // of the process that serves it
	Dead    bool   // that process is gone: all requests fail
	remove  func() error
}

// List returns all block devices of the machine that this package made, by path.
func List() ([]Info, error) {
	all, err := listLoop("/sys")
	slices.SortFunc(all, func(a, b Info) int { return strings.Compare(a.Path, b.Path) })
	return all, err
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
