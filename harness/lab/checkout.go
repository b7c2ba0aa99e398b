// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Checkout is the root of the repository, which the lab builds for the guest.
type Checkout string

// FindCheckout returns the checkout that dir is in.
func FindCheckout(dir string) (Checkout, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && bytes.HasPrefix(text, []byte("module zumastor.org/zumastor\n")) {
			return Checkout(dir), nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("the lab builds what it runs: call it in a checkout of Zumastor")
		}
		dir = filepath.Dir(dir)
	}
}

// Programs builds the commands, static, and returns their directory.
func (c Checkout) Programs(ctx context.Context) (string, error) {
	dir := filepath.Join(string(c), "bin/lab/programs")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", dir+"/", "./cmd/...")
	cmd.Dir = string(c)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH=amd64", "GOOS=linux")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the programs for the guest: %w\n%s", err, tail(string(out), 20))
	}
	return dir, nil
}

// Modules builds what is in kernel/ for k and returns the module files, none if
// there are no modules. It builds in a copy, so that several kernels do not
// disturb each other and only what changed is compiled.
func (c Checkout) Modules(ctx context.Context, k *Kernel) ([]string, error) {
	source := filepath.Join(string(c), "kernel")
	if _, err := os.Stat(filepath.Join(source, "dm-ddsnap")); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	dir := filepath.Join(string(c), "bin/lab/kernel-"+k.Release)
	if err := copyNewer(source, dir); err != nil {
		return nil, fmt.Errorf("copying kernel/: %w", err)
	}
	if _, err := command(ctx, dir, "make", "-C", dir, "modules", "KDIR="+k.Headers); err != nil {
		return nil, fmt.Errorf("building the module for %s: %w", k.Release, err)
	}
	var modules []string
	err := filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(name, ".ko") {
			modules = append(modules, name)
		}
		return err
	})
	return modules, err
}

// copyNewer makes the source files of a directory the same in another, and lets
// alone what has not changed, with its date, and what was built there.
func copyNewer(from, to string) error {
	return filepath.WalkDir(from, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if entry.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		if !entry.Type().IsRegular() || builtFile(name) {
			return nil
		}
		return copyChanged(name, target)
	})
}

// builtFile reports whether kbuild makes a file of this name.
func builtFile(name string) bool {
	base := filepath.Base(name)
	switch filepath.Ext(name) {
	case ".o", ".ko", ".cmd", ".mod", ".order", ".symvers":
		return true
	}
	return strings.HasSuffix(base, ".mod.c")
}

func copyChanged(from, to string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if old, err := os.ReadFile(to); err == nil && bytes.Equal(old, content) {
		return nil
	}
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if err := os.WriteFile(to, content, info.Mode().Perm()|0o200); err != nil {
		return err
	}
	return os.Chmod(to, info.Mode().Perm()|0o200)
}

// CopyFile copies one file into the directory.
func CopyFile(from, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return copyChanged(from, filepath.Join(dir, filepath.Base(from)))
}
