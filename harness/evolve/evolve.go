// SPDX-License-Identifier: Apache-2.0

// Package evolve has volumes of real data before and after a change: ext4 file systems
// on which a package tree is upgraded in place from one released version to the next,
// or a database updated.
//
// It owns which data sets there are, how each is made, and a cache of the images, which
// it verifies by their SHA-256. It does not know what they are for; the runner of
// experiments calls it. Making one runs programs (mke2fs, and tar, mount, debugfs,
// apt-get, go or sqlite3) and needs the network for what it fetches. As root the file
// system is the kernel's own, mounted where nobody else sees it; else debugfs writes to
// it. What cannot be had is an error that wraps [ErrMissing]. Nothing is safe for
// concurrent use on one cache.
package evolve

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ErrMissing is wrapped when a data set cannot be made here: a program, the network or
// a right is missing.
var ErrMissing = errors.New("data set cannot be had")

// Pair is the images of a volume before and after, of the same size.
type Pair struct {
	Name     string
	Old, New string // paths
	About    About
}

// About is what is to be known of a data set.
type About struct {
	What   string // versions, in words
	Method string // what wrote to the file system
	Size   int64  // bytes of either image
	Sums   [2]string
}

// set is a recipe.
type set struct {
	name string
	make func(ctx context.Context, w *work) (what string, err error)
}

var sets = []set{
	{"headers", makeHeaders},
	{"go-module", makeModule},
	{"sqlite", makeDatabase},
	{"generated", makeGenerated},
}

// Names returns the data sets.
func Names() (names []string) {
	for _, s := range sets {
		names = append(names, s.name)
	}
	return names
}

// DefaultCache returns the directory in which the images are kept.
func DefaultCache() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "zumastor", "evolve"), nil
}

// Get returns the images of a data set, making them if the cache has none that are
// whole. They must not be written to.
func Get(ctx context.Context, cache, name string) (Pair, error) {
	i := slices.IndexFunc(sets, func(s set) bool { return s.name == name })
	if i < 0 {
		return Pair{}, fmt.Errorf("no data set %q: there are %s", name, strings.Join(Names(), ", "))
	}
	dir := filepath.Join(cache, name)
	p := Pair{Name: name, Old: filepath.Join(dir, "old.img"), New: filepath.Join(dir, "new.img")}
	if p.whole(dir) {
		return p, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return p, err
	}
	tmp, err := os.MkdirTemp(cache, "making-")
	if err != nil {
		return p, err
	}
	defer os.RemoveAll(tmp)
	w := &work{dir: tmp, old: filepath.Join(tmp, "old.img"), new: filepath.Join(tmp, "new.img")}
	if p.About.What, err = sets[i].make(ctx, w); err != nil {
		return p, fmt.Errorf("%s: %w", name, err)
	}
	p.About.Method = w.method
	return p, p.keep(dir, w)
}

const aboutFile = "about.json"

// keep moves what was made to its place in the cache.
func (p *Pair) keep(dir string, w *work) error {
	done := filepath.Join(w.dir, "done")
	if err := os.Mkdir(done, 0o755); err != nil {
		return err
	}
	for i, image := range []string{w.old, w.new} {
		var err error
		if p.About.Sums[i], p.About.Size, err = sumOf(image); err != nil {
			return err
		}
		if err := os.Rename(image, filepath.Join(done, filepath.Base(image))); err != nil {
			return err
		}
	}
	data, err := json.MarshalIndent(p.About, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(done, aboutFile), data, 0o644); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(dir), os.Rename(done, dir))
}

// whole reads what is known of the images in the cache, and reports whether they are
// what was kept.
func (p *Pair) whole(dir string) bool {
	data, err := os.ReadFile(filepath.Join(dir, aboutFile))
	if err != nil || json.Unmarshal(data, &p.About) != nil {
		return false
	}
	for i, image := range []string{p.Old, p.New} {
		if sum, size, err := sumOf(image); err != nil || sum != p.About.Sums[i] || size != p.About.Size {
			return false
		}
	}
	return true
}

func sumOf(path string) (string, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	return fmt.Sprintf("%x", h.Sum(nil)), n, err
}
