// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// TempPrefix begins the names under which a [Dir] has what a crash left of objects that
// were being put. Nobody needs them.
const TempPrefix = "tmp/"

// Dir keeps objects as files of a directory. A file is written beside, made durable and
// renamed.
type Dir struct {
	root string
}

// OpenDir returns the storage in a directory, which is to exist.
func OpenDir(root string) (*Dir, error) {
	info, err := os.Stat(root)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%s is not a directory: %w", root, fs.ErrInvalid)
	}
	return &Dir{root}, nil
}

func (d *Dir) path(name string) string { return filepath.Join(d.root, filepath.FromSlash(name)) }

// putTries is how often Put begins anew when a directory goes away under it, which a
// Delete of its last object beside does.
const putTries = 10

// Put implements Storage.
func (d *Dir) Put(ctx context.Context, name string, content []byte) (err error) {
	if err := checkName(name); err != nil {
		return err
	}
	for range putTries {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err = d.put(name, content); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if _, gone := os.Stat(d.root); gone != nil {
			return gone
		}
	}
	return err
}

func (d *Dir) put(name string, content []byte) error {
	file, temp := d.path(name), d.path(TempPrefix)
	if err := errors.Join(d.mkdir(temp), d.mkdir(filepath.Dir(file))); err != nil {
		return err
	}
	f, err := os.CreateTemp(temp, "put-*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // else it is found later
		return fmt.Errorf("putting %s: %w", name, err)
	}
	return syncDir(filepath.Dir(file))
}

// mkdir makes a directory below the root, durably, with those that it is in.
func (d *Dir) mkdir(dir string) error {
	if dir == filepath.Clean(d.root) {
		return nil
	}
	err := os.Mkdir(dir, 0o700)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil
	case errors.Is(err, fs.ErrNotExist):
		if err := d.mkdir(filepath.Dir(dir)); err != nil {
			return err
		}
		if err = os.Mkdir(dir, 0o700); errors.Is(err, fs.ErrExist) {
			err = nil
		}
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// ReadAt implements Storage.
func (d *Dir) ReadAt(ctx context.Context, name string, p []byte, off int64) (int, error) {
	if err := checkName(name); err != nil {
		return 0, err
	}
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	f, err := os.Open(d.path(name))
	if err != nil {
		return 0, err
	}
	n, err := f.ReadAt(p, off)
	return n, errors.Join(err, f.Close())
}

// List implements Storage.
func (d *Dir) List(ctx context.Context, prefix string) ([]Object, error) {
	var list []Object
	if _, err := os.Stat(d.root); err != nil {
		return nil, err
	}
	err := filepath.WalkDir(d.path(prefix), func(file string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // it went meanwhile, or nothing was ever put there
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case e.IsDir():
			return nil
		}
		rel, err := filepath.Rel(d.root, file)
		if err != nil {
			return err
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && checkName(filepath.ToSlash(rel)) == nil || strings.HasPrefix(rel, TempPrefix) {
			list = append(list, Object{filepath.ToSlash(rel), info.Size()})
		}
		return err
	})
	slices.SortFunc(list, func(a, b Object) int { return cmp.Compare(a.Name, b.Name) })
	return list, err
}

// Delete implements Storage. Directories that become empty go, too.
func (d *Dir) Delete(ctx context.Context, name string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if path.Clean(name) != name || !filepath.IsLocal(name) {
		return checkName(name)
	}
	file := d.path(name)
	err := os.Remove(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for dir := filepath.Dir(file); dir != filepath.Clean(d.root); dir = filepath.Dir(dir) {
		if os.Remove(dir) != nil { // it has others
			break
		}
	}
	return nil
}
