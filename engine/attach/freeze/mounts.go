// SPDX-License-Identifier: Apache-2.0

package freeze

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mount is a place where a file system is mounted.
type mount struct {
	path     string // as this process reaches it
	number   string // of the file system's device, such as "7:0"
	readOnly bool   // the file system, not only this mount of it
}

// mountsOf returns one mount of each file system on the block device dev. sys and
// proc are where those file systems are mounted.
func mountsOf(dev, sys, proc string) ([]mount, error) {
	var st unix.Stat_t
	if err := unix.Stat(dev, &st); err != nil {
		return nil, fmt.Errorf("%s: %w", dev, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return nil, fmt.Errorf("%s is no block device", dev)
	}
	family := map[string]bool{}
	if err := addFamily(family, number(uint64(st.Rdev)), sys); err != nil {
		return nil, err
	}
	return mountsOn(family, proc)
}

func number(rdev uint64) string { return fmt.Sprintf("%d:%d", unix.Major(rdev), unix.Minor(rdev)) }

// addFamily adds a block device, its partitions, and the devices that are made of
// any of these, such as those of LVM.
func addFamily(family map[string]bool, number, sys string) error {
	if family[number] {
		return nil
	}
	family[number] = true
	dir := filepath.Join(sys, "dev/block", number)
	for _, pattern := range []string{"*/partition", "holders/*"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return err
		}
		for _, f := range found {
			if filepath.Base(f) == "partition" {
				f = filepath.Dir(f)
			}
			text, err := os.ReadFile(filepath.Join(f, "dev"))
			if errors.Is(err, os.ErrNotExist) {
				continue // gone meanwhile
			}
			if err != nil {
				return err
			}
			if err := addFamily(family, strings.TrimSpace(string(text)), sys); err != nil {
				return err
			}
		}
	}
	return nil
}

// mountsOn looks through the mount namespaces of all processes, our own first.
func mountsOn(family map[string]bool, proc string) ([]mount, error) {
	own, err := os.ReadFile(filepath.Join(proc, "self/mountinfo"))
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	all := parseMounts(string(own), "", family, seen)
	namespaces := map[string]bool{}
	if ns, err := os.Readlink(filepath.Join(proc, "self/ns/mnt")); err == nil {
		namespaces[ns] = true
	}
	dirs, err := filepath.Glob(filepath.Join(proc, "[0-9]*"))
	if err != nil {
		return nil, err
	}
	for _, dir := range dirs {
		ns, err := os.Readlink(filepath.Join(dir, "ns/mnt"))
		if err != nil || namespaces[ns] {
			continue // a process that is gone, or a namespace that is known
		}
		namespaces[ns] = true
		text, err := os.ReadFile(filepath.Join(dir, "mountinfo"))
		if err == nil {
			all = append(all, parseMounts(string(text), filepath.Join(dir, "root"), family, seen)...)
		}
	}
	return all, nil
}

// parseMounts returns the mounts of file systems on devices of family that are
// not in seen, given the text of a mountinfo file:
//
//	36 35 98:0 /root /mnt rw,noatime master:1 - ext4 /dev/sda1 rw,errors=continue
//
// A file system such as btrfs, whose number is not its device's, is known by its
// source.
func parseMounts(text, root string, family, seen map[string]bool) []mount {
	var found []mount
	for line := range strings.Lines(text) {
		place, source, ok := strings.Cut(strings.TrimSpace(line), " - ")
		f, s := strings.Fields(place), strings.Fields(source)
		if !ok || len(f) < 6 || len(s) < 2 || seen[f[2]] {
			continue
		}
		if !family[f[2]] && !(strings.HasPrefix(f[2], "0:") && family[blockDevice(unescape(s[1]))]) {
			continue
		}
		seen[f[2]] = true
		options := ""
		if len(s) > 2 {
			options = s[2]
		}
		found = append(found, mount{path: root + unescape(f[4]), number: f[2], readOnly: options == "ro" || strings.HasPrefix(options, "ro,")})
	}
	return found
}

// blockDevice returns the number of the block device at path, or "" if there is
// none.
func blockDevice(path string) string {
	var st unix.Stat_t
	if !strings.HasPrefix(path, "/dev/") || unix.Stat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return ""
	}
	return number(uint64(st.Rdev))
}

// unescape turns \040 and the like, which stand for white space and backslashes,
// back.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
