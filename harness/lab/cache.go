// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrUnavailable is wrapped where what the lab is made of is not to be had: QEMU
// or another tool is not installed, or no Debian mirror answers.
var ErrUnavailable = errors.New("the lab is not to be had here")

// Cache is the directory of all that is built, kept between runs.
type Cache struct {
	Dir string
	Log io.Writer // progress, a line each
	// Update asks for the newest package versions instead of those that the
	// cache knows.
	Update bool
}

// DefaultDir returns $ZUMASTOR_LAB, or zumastor/lab in the user's cache.
func DefaultDir() (string, error) {
	if dir := os.Getenv("ZUMASTOR_LAB"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("looking for a cache directory, set ZUMASTOR_LAB: %w", err)
	}
	return filepath.Join(dir, "zumastor", "lab"), nil
}

// key names what is made of inputs.
func key(inputs ...string) string {
	h := sha256.New()
	for _, in := range inputs {
		fmt.Fprintf(h, "%d:%s", len(in), in)
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}

// path is the directory of name and inputs.
func (c *Cache) path(name string, inputs []string) string {
	return filepath.Join(c.Dir, name+"-"+key(inputs...))
}

// build returns the directory of name and inputs, which make fills if there is
// none. It waits for another process that builds the same name.
func (c *Cache) build(name string, inputs []string, make func(dir string) error) (string, error) {
	dir := c.path(name, inputs)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	unlock, err := c.lock(name)
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	c.say("building %s, which takes a minute or some", filepath.Base(dir))
	part := dir + ".part"
	if err := os.RemoveAll(part); err != nil {
		return "", err
	}
	if err := os.Mkdir(part, 0o755); err != nil {
		return "", err
	}
	if err := make(part); err != nil {
		return "", fmt.Errorf("building %s: %w", name, err)
	}
	return dir, os.Rename(part, dir)
}

// lock takes the file lock of name and returns what releases it.
func (c *Cache) lock(name string) (func(), error) {
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(c.Dir, name+".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("locking %s: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}

func (c *Cache) say(format string, args ...any) {
	if c.Log != nil {
		fmt.Fprintf(c.Log, "lab: "+format+"\n", args...)
	}
}

// packageOf is the Debian package of each command that the lab calls.
var packageOf = map[string]string{
	"qemu-system-x86_64": "qemu-system-x86",
	"mmdebstrap":         "mmdebstrap",
	"mkfs.ext4":          "e2fsprogs",
	"depmod":             "kmod",
	"xz":                 "xz-utils",
	"fakeroot":           "fakeroot",
	"apt-get":            "apt",
	"dpkg-deb":           "dpkg",
	"make":               "make",
	"tar":                "tar",
	"sh":                 "dash",
	"go":                 "golang",
}

// Missing returns the packages to install for what the lab calls.
func Missing() []string {
	var missing []string
	for _, tool := range []string{"qemu-system-x86_64", "mmdebstrap", "mkfs.ext4", "depmod", "xz", "apt-get", "dpkg-deb"} {
		if _, err := lookPath(tool); err != nil {
			missing = append(missing, packageOf[tool])
		}
	}
	return missing
}

// lookPath finds a command, also where only root has it in the path.
func lookPath(tool string) (string, error) {
	if path, err := exec.LookPath(tool); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, tool)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%w: it needs the command %s: apt-get install %s", ErrUnavailable, tool, packageOf[tool])
}

// command runs a tool in a directory and returns what it printed. The error has
// the end of what it printed. When ctx ends, so does the tool, tidily if it can.
func command(ctx context.Context, dir, tool string, args ...string) ([]byte, error) {
	path, err := lookPath(tool)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = dir
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("%s %s: %w\n%s", tool, strings.Join(args, " "), err, tail(errs.String()+string(out), 15))
	}
	return out, nil
}

// tail returns the last n lines of text.
func tail(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
