// SPDX-License-Identifier: Apache-2.0

package results

import (
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mount is one line of /proc/self/mountinfo.
type mount struct{ device, point, kind, options string }

// mountOf returns the mount that holds dir: that with the longest mount point
// above it, of equal ones the last, which covers the others.
func mountOf(dir string) (mount, bool) {
	dir, err := filepath.Abs(dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return mount{}, false
	}
	data, _ := os.ReadFile("/proc/self/mountinfo")
	var best mount
	found := false
	for line := range strings.Lines(string(data)) {
		m, ok := parseMount(line)
		if ok && holds(m.point, dir) && (!found || len(m.point) >= len(best.point)) {
			best, found = m, true
		}
	}
	return best, found
}

func holds(point, dir string) bool {
	return point == "/" || dir == point || strings.HasPrefix(dir, point+"/")
}

// parseMount reads "36 35 98:0 /root /point options optional... - kind source super".
func parseMount(line string) (mount, bool) {
	head, tail, ok := strings.Cut(strings.TrimSpace(line), " - ")
	h, t := strings.Fields(head), strings.Fields(tail)
	if !ok || len(h) < 6 || len(t) < 1 {
		return mount{}, false
	}
	octal := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	return mount{device: h[2], point: octal.Replace(h[4]), kind: t[0], options: h[5]}, true
}

// canDirect says whether a new file in dir takes an aligned write with O_DIRECT.
func canDirect(dir string) bool {
	f, err := os.CreateTemp(dir, ".direct.*.tmp")
	if err != nil {
		return false
	}
	defer os.Remove(f.Name())
	f.Close()
	d, err := os.OpenFile(f.Name(), os.O_WRONLY|unix.O_DIRECT, 0)
	if err != nil {
		return false
	}
	defer d.Close()
	const align = 4096
	raw := make([]byte, 2*align)
	skip := (align - int(uintptr(unsafe.Pointer(&raw[0]))%align)) % align
	_, err = d.WriteAt(raw[skip:skip+align], 0)
	return err == nil
}
