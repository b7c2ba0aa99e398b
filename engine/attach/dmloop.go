// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// openedLoop is a block device that is held open.
type openedLoop struct{ fd int }

func (l openedLoop) Close() error { return unix.Close(l.fd) }

// BlockDevice returns a block device with the content of the file at path: the path
// itself if it is one, else a loop device that goes past the page cache, one for all who
// ask. The loop device goes when the last who has it open closes it: hold is to be closed
// when whoever needs it has opened it.
func BlockDevice(path string) (node string, hold io.Closer, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", nil, err
	}
	if info.Mode()&os.ModeDevice != 0 {
		return path, io.NopCloser(nil), nil
	}
	if path, err = filepath.EvalSymlinks(path); err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return "", nil, err
	}
	if node, fd, err := findLoop(path); err != nil || fd >= 0 {
		return node, openedLoop{fd}, err
	}
	file, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, fmt.Errorf("opening %s: %w", path, err)
	}
	defer unix.Close(file)
	loadModule("loop", "/dev/loop-control")
	c := unix.LoopConfig{Fd: uint32(file), Size: 512}
	c.Info.Flags = unix.LO_FLAGS_AUTOCLEAR | unix.LO_FLAGS_DIRECT_IO
	fd, node, err := configureLoop(&c)
	if err != nil {
		return "", nil, fmt.Errorf("a loop device for %s: %w", path, err)
	}
	return node, openedLoop{fd}, nil
}

// findLoop opens the loop device that is on the whole of a file already, writable and
// past the page cache. Without one, fd is negative.
func findLoop(path string) (node string, fd int, err error) {
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return "", -1, err
	}
	for _, file := range files {
		if !isLoopOn(file, path) {
			continue
		}
		node = "/dev/" + filepath.Base(filepath.Dir(filepath.Dir(file)))
		fd, err := unix.Open(node, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return "", -1, fmt.Errorf("opening %s: %w", node, err)
		}
		if isLoopOn(file, path) { // it stays so while it is open
			return node, fd, nil
		}
		if err := unix.Close(fd); err != nil {
			return "", -1, err
		}
	}
	return "", -1, nil
}

// isLoopOn reports whether a loop device, by its file in sysfs, is one that findLoop
// looks for.
func isLoopOn(file, path string) bool {
	read := func(name string) string {
		text, _ := os.ReadFile(filepath.Join(filepath.Dir(file), name)) // nothing is no answer that is looked for
		return strings.TrimSuffix(string(text), "\n")
	}
	if read("backing_file") != path {
		return false
	}
	ro, err := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(file)), "ro"))
	whole := read("offset") == "0" && read("sizelimit") == "0"
	return err == nil && strings.TrimSpace(string(ro)) == "0" && whole && read("dio") == "1"
}
