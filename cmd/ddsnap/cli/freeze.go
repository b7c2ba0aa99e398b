// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"zumastor.org/zumastor/engine/attach/freeze"
)

// freezeFor freezes what is to be still while the snapshot is taken, and returns
// what lets it go on.
func (c *creation) freezeFor(ctx context.Context) (thaw func() error, err error) {
	if c.freeze == "" {
		return func() error { return nil }, nil
	}
	if c.limit <= 0 {
		return nil, usageError{fmt.Errorf("--freeze-limit %v is to be more than nothing", c.limit)}
	}
	dev, err := deviceAt(c.freeze)
	if err != nil {
		return nil, err
	}
	return freeze.Freeze(ctx, dev, c.limit)
}

// deviceAt returns the path of a block device: path itself, or the one that the file
// system there is on.
func deviceAt(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if isBlock(info) {
		return path, nil
	}
	number := uint64(info.Sys().(*syscall.Stat_t).Dev)
	event, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/uevent", unix.Major(number), unix.Minor(number)))
	for line := range strings.Lines(string(event)) {
		if name, ok := strings.CutPrefix(line, "DEVNAME="); ok {
			return filepath.Join("/dev", strings.TrimSpace(name)), nil
		}
	}
	return "", codeError{errors.Join(fmt.Errorf("%s is neither a block device nor on one that can be found: name the device to freeze", path), err), exitWrong}
}
