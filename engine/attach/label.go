// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// label is what a block device of ours carries in the kernel, so that others find
// out whose it is: "zumastor:PID:START:NAME". START is the process's start time
// in clock ticks, for numbers of processes are used again. It is printable and has
// no slash, so that it can be a file's name.
type label struct {
	pid   int
	start uint64
	name  string
}

const (
	labelMark = "zumastor"
	maxName   = 32
)

func newLabel(name string) label {
	pid := os.Getpid()
	start, _ := startTime(pid)
	name = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '/' {
			return '_'
		}
		return r
	}, name)
	return label{pid: pid, start: start, name: name[:min(len(name), maxName)]}
}

func (l label) String() string {
	return fmt.Sprintf("%s:%d:%d:%s", labelMark, l.pid, l.start, l.name)
}

// parseLabel reports whether s is the label of a device of ours.
func parseLabel(s string) (label, bool) {
	f := strings.SplitN(s, ":", 4)
	if len(f) != 4 || f[0] != labelMark {
		return label{}, false
	}
	pid, err := strconv.Atoi(f[1])
	if err != nil || pid <= 0 {
		return label{}, false
	}
	start, err := strconv.ParseUint(f[2], 10, 64)
	return label{pid: pid, start: start, name: f[3]}, err == nil
}

// alive reports whether the process that the label names still runs.
func (l label) alive() bool {
	start, err := startTime(l.pid)
	return err == nil && start == l.start
}

// startTime returns when a process started, in clock ticks since the machine did.
func startTime(pid int) (uint64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return parseStat(string(text))
}

// parseStat takes field 22 of /proc/PID/stat. Field 2, the name, is in
// parentheses and may hold anything, parentheses and spaces too.
func parseStat(text string) (uint64, error) {
	f := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(f) < 20 {
		return 0, fmt.Errorf("/proc/PID/stat is too short: %q", text)
	}
	return strconv.ParseUint(f[19], 10, 64)
}

// sysBlock returns the directory in sysfs of a whole block device.
func sysBlock(node string) string { return "/sys/block/" + filepath.Base(node) }
