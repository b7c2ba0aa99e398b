// SPDX-License-Identifier: Apache-2.0

package evolve

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// upgrade makes a volume that holds one tree, and then the other in its place, as a
// package manager does it: files that differ are written anew, those that are gone
// are removed, and all else stays.
func (w *work) upgrade(ctx context.Context, from, to string) error {
	changes, err := compare(from, to)
	if err != nil {
		return err
	}
	size, err := sizeFor(from, to)
	if err != nil {
		return err
	}
	if err := w.format(ctx, w.new, size, ""); err != nil {
		return err
	}
	if w.canMount(ctx, w.new) {
		w.method = "the kernel's ext4"
		return w.upgradeMounted(ctx, from, to, changes)
	}
	w.method = "debugfs"
	return w.upgradeUnmounted(ctx, from, to, size, changes)
}

// upgradeUnmounted is upgrade for ordinary users.
func (w *work) upgradeUnmounted(ctx context.Context, from, to string, size int64, c changes) error {
	if err := w.format(ctx, w.new, size, from); err != nil {
		return err
	}
	if err := w.snapshot(ctx); err != nil {
		return err
	}
	script := filepath.Join(w.dir, "script")
	if err := os.WriteFile(script, []byte(c.script(from, to)), 0o600); err != nil {
		return err
	}
	_, err := run(ctx, w.dir, "debugfs", "-w", "-f", script, w.new)
	return err
}

func (w *work) upgradeMounted(ctx context.Context, from, to string, c changes) error {
	if err := w.mounted(ctx, w.new, `tar -C "$1" -cf - . | tar -xf -`, from); err != nil {
		return err
	}
	if err := w.snapshot(ctx); err != nil {
		return err
	}
	written, gone := filepath.Join(w.dir, "written"), filepath.Join(w.dir, "gone")
	if err := os.WriteFile(written, []byte(strings.Join(c.written, "\x00")), 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(gone, []byte(strings.Join(c.gone, "\x00")), 0o600); err != nil {
		return err
	}
	return w.mounted(ctx, w.new, `tar -C "$1" --null -T "$2" -cf - | tar -xf -; xargs -0 -r rm -f -- <"$3"`, to, written, gone)
}

// changes are files by their paths below the root, in order.
type changes struct{ written, gone []string }

// files returns the regular files of a tree.
func files(root string) (map[string]int64, error) {
	all := map[string]int64{}
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil {
			all[rel] = info.Size()
		}
		return err
	})
	return all, err
}

func compare(from, to string) (c changes, err error) {
	before, err := files(from)
	if err != nil {
		return c, err
	}
	after, err := files(to)
	if err != nil {
		return c, err
	}
	for name, size := range after {
		old, was := before[name]
		if was && old == size {
			a, err := os.ReadFile(filepath.Join(from, name))
			if err != nil {
				return c, err
			}
			b, err := os.ReadFile(filepath.Join(to, name))
			if err != nil {
				return c, err
			}
			if bytes.Equal(a, b) {
				continue
			}
		}
		c.written = append(c.written, name)
	}
	for name := range before {
		if _, stays := after[name]; !stays {
			c.gone = append(c.gone, name)
		}
	}
	slices.Sort(c.written)
	slices.Sort(c.gone)
	return c, nil
}

// sizeFor returns a size of a volume in which both trees have room, and as much again.
func sizeFor(trees ...string) (int64, error) {
	var total int64
	for _, t := range trees {
		all, err := files(t)
		if err != nil {
			return 0, err
		}
		for _, size := range all {
			total += (size + 4095) &^ 4095
		}
	}
	const unit = 64 << 20
	return (total*3/2 + 2*unit) / unit * unit, nil
}

// script returns the changes as commands of debugfs. What is written is there before
// what it replaces goes.
func (c changes) script(from, to string) string {
	var b strings.Builder
	made := map[string]bool{".": true}
	cd := "."
	var enter func(dir string)
	enter = func(dir string) {
		if made[dir] {
			return
		}
		enter(filepath.Dir(dir))
		made[dir] = true
		if _, err := os.Stat(filepath.Join(from, dir)); err != nil {
			cd = filepath.Dir(dir)
			fmt.Fprintf(&b, "cd \"/%s\"\nmkdir \"%s\"\n", cd, filepath.Base(dir))
		}
	}
	for _, name := range c.written {
		enter(filepath.Dir(name))
		if dir := filepath.Dir(name); dir != cd {
			fmt.Fprintf(&b, "cd \"/%s\"\n", dir)
			cd = dir
		}
		base := filepath.Base(name)
		if _, err := os.Stat(filepath.Join(from, name)); err != nil {
			fmt.Fprintf(&b, "write \"%s\" \"%s\"\n", filepath.Join(to, name), base)
			continue
		}
		fmt.Fprintf(&b, "write \"%s\" \"%s.new\"\nrm \"%s\"\nln \"%s.new\" \"%s\"\nunlink \"%s.new\"\n", filepath.Join(to, name), base, base, base, base, base)
	}
	for _, name := range c.gone {
		fmt.Fprintf(&b, "cd \"/%s\"\nrm \"%s\"\n", filepath.Dir(name), filepath.Base(name))
	}
	return b.String()
}
