// SPDX-License-Identifier: Apache-2.0

package device

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// UsedError says that a block device is in use. It wraps [ErrInUse].
type UsedError struct {
	Path string
	By   string // such as "mounted at /srv"
}

func (e *UsedError) Error() string { return fmt.Sprintf("%s is in use: %s", e.Path, e.By) }
func (e *UsedError) Unwrap() error { return ErrInUse }

// CheckUnused refuses a path that formatting would destroy something on. For a
// block device that is a [*UsedError] when it or a partition of it is mounted,
// is swap or has a holder such as device-mapper. For block devices and regular
// files it is a [*SignatureError] when a known signature is there. It
// changes nothing, and says nothing about the moment after; callers skip it when
// the user insists.
func CheckUnused(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := CheckIdle(path); err != nil {
		return err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil || size == 0 {
		return err
	}
	return probe(f, path, size)
}

// CheckIdle is the part of [CheckUnused] that looks at users, not at content: a
// [*UsedError] for a block device that is mounted, swap or held, nil for one that
// is not and for regular files.
func CheckIdle(path string) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return nil
	}
	by, err := usedBy(uint64(st.Rdev), "/sys", "/proc")
	if err != nil {
		return fmt.Errorf("%s: finding out whether it is in use: %w", path, err)
	}
	if by == "" {
		by = claimedBy(path)
	}
	if by != "" {
		return &UsedError{Path: path, By: by}
	}
	return nil
}

// claimedBy tries the kernel's own exclusive claim.
func claimedBy(path string) string {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_EXCL, 0)
	if errors.Is(err, unix.EBUSY) {
		return "the kernel holds it"
	}
	if err == nil {
		f.Close()
	}
	return ""
}

// usedBy says what uses the block device of that number or a partition of it,
// or "". sys and proc are where those file systems are mounted.
func usedBy(rdev uint64, sys, proc string) (string, error) {
	dir := filepath.Join(sys, "dev/block", devNumber(rdev))
	family := map[string]string{devNumber(rdev): dir}
	parts, err := filepath.Glob(filepath.Join(dir, "*", "partition"))
	if err != nil {
		return "", err
	}
	for _, p := range parts {
		number, err := os.ReadFile(filepath.Join(filepath.Dir(p), "dev"))
		if err != nil {
			return "", err
		}
		family[strings.TrimSpace(string(number))] = filepath.Dir(p)
	}
	for _, d := range family {
		holders, err := os.ReadDir(filepath.Join(d, "holders"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
		if len(holders) > 0 {
			return "held by " + holders[0].Name(), nil
		}
	}
	mounts, err := os.ReadFile(filepath.Join(proc, "self/mountinfo"))
	if err != nil {
		return "", err
	}
	if at := mountedAt(string(mounts), family); at != "" {
		return "mounted at " + at, nil
	}
	return swapOn(filepath.Join(proc, "swaps"), family)
}

// mountedAt returns the first mount point of a device of family, given the text
// of /proc/self/mountinfo: "36 35 98:0 /root /mnt rw - ext4 /dev/sda1 rw".
func mountedAt(mountinfo string, family map[string]string) string {
	for line := range strings.Lines(mountinfo) {
		if f := strings.Fields(line); len(f) > 4 && family[f[2]] != "" {
			return f[4]
		}
	}
	return ""
}

// swapOn reports swap areas on devices of family.
func swapOn(swaps string, family map[string]string) (string, error) {
	text, err := os.ReadFile(swaps)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil // a kernel without swap
	}
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		var st unix.Stat_t
		if len(f) > 1 && f[1] == "partition" && unix.Stat(f[0], &st) == nil && family[devNumber(uint64(st.Rdev))] != "" {
			return "swap area " + f[0], nil
		}
	}
	return "", nil
}

func devNumber(rdev uint64) string { return fmt.Sprintf("%d:%d", unix.Major(rdev), unix.Minor(rdev)) }
