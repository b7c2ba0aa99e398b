// SPDX-License-Identifier: Apache-2.0

package device

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// lockHolder names the process that holds a lock on f, as far as /proc tells.
func lockHolder(f *os.File) string {
	const unknown = "stop the process that has it open"
	var st unix.Stat_t
	locks, err := os.ReadFile("/proc/locks")
	if err != nil || unix.Stat(f.Name(), &st) != nil {
		return unknown
	}
	dev := st.Dev
	pid := findLock(string(locks), fmt.Sprintf("%02x:%02x:%d", unix.Major(dev), unix.Minor(dev), st.Ino))
	if pid == "" {
		return unknown
	}
	name, _ := os.ReadFile("/proc/" + pid + "/comm")
	return strings.TrimSpace(fmt.Sprintf("stop process %s %s", pid, name))
}

// findLock returns the first other process with a flock on inode, given the text of
// /proc/locks, whose lines read "1: FLOCK ADVISORY WRITE 4242 fe:00:131 0 EOF".
func findLock(locks, inode string) string {
	self := strconv.Itoa(os.Getpid())
	for line := range strings.Lines(locks) {
		f := strings.Fields(line)
		if len(f) >= 6 && f[1] == "FLOCK" && f[5] == inode && f[4] != "-1" && f[4] != "0" && f[4] != self {
			return f[4]
		}
	}
	return ""
}
