// SPDX-License-Identifier: Apache-2.0

package results

import (
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
)

// cpuQuota returns the control group's limit as "quota period" in microseconds,
// or "" without one.
func cpuQuota() string { return limit("cpu", "cpu.max", "cpu.cfs_quota_us") }

// limit returns what limits this process in a file of its control group, that of
// version 2 or of the controller of version 1; "" when nothing does.
func limit(controller, v2, v1 string) string {
	for line := range strings.Lines(readAll("/proc/self/cgroup")) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		var path string
		switch {
		case f[0] == "0" && f[1] == "":
			path = filepath.Join("/sys/fs/cgroup", f[2], v2)
		case f[1] == controller:
			path = filepath.Join("/sys/fs/cgroup", controller, f[2], v1)
		default:
			continue
		}
		if v := readLine(path); !unlimited(v) {
			return v
		}
	}
	return ""
}

// unlimited reports whether the value of a limit's file means that there is none.
func unlimited(v string) bool {
	if v == "" || v == "-1" || strings.HasPrefix(v, "max") {
		return true
	}
	n, err := strconv.ParseInt(v, 10, 64)
	return err == nil && n >= 1<<62 // what version 1 says of memory without a limit
}

// chosen returns the word in brackets of "always [madvise] never".
func chosen(s string) string {
	_, s, _ = strings.Cut(s, "[")
	s, _, _ = strings.Cut(s, "]")
	return s
}

// modules returns the versions of the modules that the program is built of.
func modules() map[string]string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil
	}
	m := map[string]string{}
	for _, d := range info.Deps {
		if d.Replace != nil {
			d = d.Replace
		}
		m[d.Path] = d.Version
	}
	return m
}

// CPUTime is what all processors have done since the machine was started, in ticks.
type CPUTime struct{ All, Steal int64 }

// ReadCPUTime returns what /proc/stat says; the zero value when it says nothing.
func ReadCPUTime() CPUTime {
	var t CPUTime
	for i, f := range strings.Fields(readLine("/proc/stat")) {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil || i > 8 { // guest time is in user time
			continue
		}
		t.All += n
		if i == 8 {
			t.Steal = n
		}
	}
	return t
}

// StealSince returns the percentage of the processors' time since then that others
// had.
func StealSince(then CPUTime) float64 {
	now := ReadCPUTime()
	if now.All <= then.All {
		return 0
	}
	return 100 * float64(now.Steal-then.Steal) / float64(now.All-then.All)
}
