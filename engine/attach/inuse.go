// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"zumastor.org/zumastor/engine/device"
)

// How long processes that have the device open are waited for: udev and others
// look at each new or changed device for a moment.
const (
	openTries = 20
	openPause = 100 * time.Millisecond
)

// checkUnused returns an error wrapping device.ErrInUse when the block device is
// mounted, claimed, or stays open in another process.
func checkUnused(path string) error {
	for try := 1; ; try++ {
		if err := device.CheckIdle(path); err != nil {
			if errors.Is(err, os.ErrNotExist) {
				return nil // gone already
			}
			return err
		}
		by := openedBy(path, "/proc")
		if by == "" {
			return nil
		}
		if try == openTries {
			return &device.UsedError{Path: path, By: by}
		}
		time.Sleep(openPause)
	}
}

// openedBy says which other process has the device at path or a partition of it
// open, or "". It goes by the names of descriptors, so it does not see a device
// that was opened through a node of another name.
func openedBy(path, proc string) string {
	links, err := filepath.Glob(filepath.Join(proc, "[0-9]*", "fd", "*"))
	if err != nil {
		return ""
	}
	self := strconv.Itoa(os.Getpid())
	for _, link := range links {
		to, err := os.Readlink(link)
		if err != nil || !isPartOf(to, path) {
			continue
		}
		dir := filepath.Dir(filepath.Dir(link))
		pid := filepath.Base(dir)
		if pid == self {
			continue
		}
		name, _ := os.ReadFile(filepath.Join(dir, "comm"))
		return fmt.Sprintf("open in process %s (%s)", pid, strings.TrimSpace(string(name)))
	}
	return ""
}

// isPartOf reports whether node is the disk, whose name ends in a digit, or a
// partition of it.
func isPartOf(node, disk string) bool {
	rest, ok := strings.CutPrefix(node, disk)
	if !ok || rest == "" {
		return ok
	}
	number, ok := strings.CutPrefix(rest, "p")
	_, err := strconv.ParseUint(number, 10, 16)
	return ok && err == nil
}
