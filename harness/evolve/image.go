// SPDX-License-Identifier: Apache-2.0

package evolve

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// work is the making of a data set.
type work struct {
	dir      string // for files of its own
	old, new string // the images to make
	method   string
}

// run runs a program in a directory and returns what it prints.
func run(ctx context.Context, dir, program string, args ...string) (string, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		for _, sbin := range []string{"/usr/sbin", "/sbin"} { // not in the path of ordinary users
			if p := filepath.Join(sbin, program); path == "" && executable(p) {
				path = p
			}
		}
	}
	if path == "" {
		return "", fmt.Errorf("%w: %s is not installed", ErrMissing, program)
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = dir
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		said, _, _ := strings.Cut(strings.TrimSpace(errs.String()), "\n")
		return out.String(), fmt.Errorf("%w: %s: %w: %s", ErrMissing, program, err, said)
	}
	return out.String(), nil
}

func executable(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode()&0o111 != 0
}

// format makes the image with an empty file system, or with a tree in it.
func (w *work) format(ctx context.Context, image string, size int64, tree string) error {
	f, err := os.Create(image)
	if err == nil {
		err = f.Truncate(size)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return err
	}
	args := []string{"-q", "-t", "ext4", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"}
	if tree != "" {
		args = append(args, "-d", tree)
	}
	_, err = run(ctx, w.dir, "mke2fs", append(args, image)...)
	return err
}

// canMount reports whether file systems can be mounted here.
func (w *work) canMount(ctx context.Context, image string) bool {
	return os.Getuid() == 0 && w.mounted(ctx, image, "true") == nil
}

// mounted runs a shell script in the root of a mounted image. The mount is of the
// script's own namespace, and goes with it. The arguments are $1 and so on.
func (w *work) mounted(ctx context.Context, image, script string, args ...string) error {
	at := filepath.Join(w.dir, "mnt")
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	const mount = `set -e; mount -o loop,noatime "$0" "$1"; cd "$1"; shift; script=$1; shift; sh -ec "$script" script "$@"; sync -f .; cd /; umount "$OLDPWD"`
	_, err := run(ctx, w.dir, "unshare", append([]string{"--mount", "sh", "-c", mount, image, at, script}, args...)...)
	return err
}

// snapshot copies the image as it is now.
func (w *work) snapshot(ctx context.Context) error {
	_, err := run(ctx, w.dir, "cp", "--sparse=always", w.new, w.old)
	return err
}
