// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Recipe is one recording that can be made. Between the phases that it lists, a
// trace begins with "mount" and ends with "unmount".
type Recipe struct {
	Name   string
	About  string   // one sentence
	Size   int64    // of the device in bytes
	Tools  []string // programs it needs beside mkfs.ext4
	Phases []string // names of the marks

	prepare func(context.Context, *session) error // gets sources ready; not recorded
	run     func(context.Context, *session) error // recorded
}

// Recipes returns every recipe, by name.
func Recipes() []Recipe {
	return []Recipe{
		{
			Name:    "git-checkout",
			About:   "git: a clone of a repository of two versions of a Go module, checkouts to and fro, and a repack.",
			Size:    2 << 30,
			Tools:   []string{"git", "go"},
			Phases:  []string{"clone", "checkout new", "checkout old", "checkout new again", "repack"},
			prepare: prepareGit, run: runGit,
		},
		{
			Name:    "package-install",
			About:   "dpkg: Debian packages unpacked into an empty root, and unpacked again over themselves.",
			Size:    4 << 30,
			Tools:   []string{"apt-get", "dpkg", "dpkg-deb"},
			Phases:  []string{"install", "reinstall"},
			prepare: preparePackages, run: runPackages,
		},
		{
			Name:    "sqlite",
			About:   "sqlite3: a bulk load, then small transactions with a rollback journal and with a write-ahead log, each durable.",
			Size:    2 << 30,
			Tools:   []string{"sqlite3"},
			Phases:  []string{"load", "rollback journal", "write-ahead log"},
			prepare: prepareSQLite, run: runSQLite,
		},
		{
			Name:    "untar-go",
			About:   "tar: the source tree of Go untarred to a fresh directory and synced, once a round, on the same file system.",
			Size:    4 << 30,
			Tools:   []string{"go", "tar"},
			Phases:  untarPhases(),
			prepare: prepareUntar, run: runUntar,
		},
	}
}

func find(name string) (Recipe, error) {
	var names []string
	for _, r := range Recipes() {
		if r.Name == name {
			return r, nil
		}
		names = append(names, r.Name)
	}
	return Recipe{}, fmt.Errorf("no recipe %q: there are %s", name, strings.Join(names, ", "))
}

func prepareUntar(ctx context.Context, s *session) error {
	root, err := s.output(ctx, nil, "go", "env", "GOROOT")
	if err != nil {
		return fmt.Errorf("go env GOROOT: %w", err)
	}
	if err := s.version(ctx, "go", "version"); err != nil {
		return err
	}
	if err := s.version(ctx, "tar", "--version"); err != nil {
		return err
	}
	s.note("source: $(go env GOROOT)/src, sorted by name; each round: mkdir DIR; tar -xf src.tar -C DIR; sync -f")
	return s.exec(ctx, "tar", "--sort=name", "-cf", "src.tar", "-C", string(bytes.TrimSpace(root)), "src")
}

// untarRounds fill a third of the device.
const untarRounds = 8

func untarPhases() []string {
	var names []string
	for i := range untarRounds {
		names = append(names, fmt.Sprintf("round %d", i+1))
	}
	return names
}

func runUntar(ctx context.Context, s *session) error {
	for _, round := range untarPhases() {
		s.mark(round)
		dir := filepath.Join(s.mnt, round)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		if err := s.exec(ctx, "tar", "-xf", "src.tar", "-C", dir); err != nil {
			return err
		}
		if err := s.sync(); err != nil {
			return err
		}
	}
	return nil
}

// gitModule and its versions are what the repository is made of.
const (
	gitModule = "gonum.org/v1/gonum"
	gitOld    = "v0.9.3"
	gitNew    = "v0.17.0"
)

func prepareGit(ctx context.Context, s *session) error {
	if err := s.version(ctx, "git", "--version"); err != nil {
		return err
	}
	s.note("source: %s %s and %s by go mod download, committed one after the other", gitModule, gitOld, gitNew)
	repo := filepath.Join(s.source, "repo")
	if err := s.exec(ctx, "git", "init", "-q", repo); err != nil {
		return err
	}
	cache := filepath.Join(s.source, "cache")
	for _, version := range []string{gitOld, gitNew} {
		if err := s.exec(ctx, "env", "GOMODCACHE="+cache, "GOFLAGS=-modcacherw", "go", "mod", "download", gitModule+"@"+version); err != nil {
			return err
		}
		tree := filepath.Join(cache, gitModule+"@"+version)
		for _, args := range [][]string{
			{"--work-tree=" + tree, "add", "-A"},
			{"-c", "user.name=recorder", "-c", "user.email=recorder@localhost", "commit", "-q", "-m", version},
			{"tag", version},
		} {
			if err := s.exec(ctx, "git", append([]string{"--git-dir=" + repo + "/.git"}, args...)...); err != nil {
				return err
			}
		}
	}
	return nil
}

func runGit(ctx context.Context, s *session) error {
	clone := filepath.Join(s.mnt, "clone")
	steps := []struct {
		name string
		args []string
	}{
		{"clone", []string{"clone", "-q", "--no-local", "--branch", gitOld, "repo", clone}},
		{"checkout new", []string{"-C", clone, "checkout", "-q", gitNew}},
		{"checkout old", []string{"-C", clone, "checkout", "-q", gitOld}},
		{"checkout new again", []string{"-C", clone, "checkout", "-q", gitNew}},
		{"repack", []string{"-C", clone, "repack", "-q", "-a", "-d", "-f"}},
	}
	for _, step := range steps {
		s.mark(step.name)
		if err := s.exec(ctx, "git", step.args...); err != nil {
			return err
		}
		if err := s.sync(); err != nil {
			return err
		}
	}
	return nil
}

// packages have no scripts that need a running system.
var packages = []string{"cpp-12", "git-man", "libc6-dev", "libperl5.36", "libpython3.11-stdlib",
	"libstdc++-12-dev", "linux-libc-dev", "manpages-dev", "perl-modules-5.36"}

func preparePackages(ctx context.Context, s *session) error {
	if err := s.version(ctx, "dpkg", "--version"); err != nil {
		return err
	}
	// As root, apt would drop its privileges and could not write here.
	args := append([]string{"-q", "-o", "APT::Sandbox::User=root", "download"}, packages...)
	if err := s.exec(ctx, "apt-get", args...); err != nil {
		return err
	}
	debs, err := s.debs()
	if err != nil {
		return err
	}
	for _, deb := range debs {
		s.note("package: %s", filepath.Base(deb))
	}
	return nil
}

func (s *session) debs() ([]string, error) { return filepath.Glob(filepath.Join(s.source, "*.deb")) }

func runPackages(ctx context.Context, s *session) error {
	debs, err := s.debs()
	if err != nil {
		return err
	}
	for _, phase := range []string{"install", "reinstall"} {
		s.mark(phase)
		for _, dir := range []string{"updates", "info"} {
			if err := os.MkdirAll(filepath.Join(s.mnt, "var/lib/dpkg", dir), 0o755); err != nil {
				return err
			}
		}
		status, err := os.OpenFile(filepath.Join(s.mnt, "var/lib/dpkg/status"), os.O_CREATE|os.O_RDWR, 0o644)
		if err != nil {
			return err
		}
		status.Close()
		args := append([]string{"--root=" + s.mnt, "--force-depends", "--unpack"}, debs...)
		if err := s.exec(ctx, "dpkg", args...); err != nil {
			return err
		}
		if err := s.sync(); err != nil {
			return err
		}
	}
	return nil
}
