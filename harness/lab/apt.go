// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// suite is the release of Debian that everything comes from.
const suite = "bookworm"

// archive is apt with lists, state and downloads of its own: it neither needs
// root nor knows what the host has installed.
type archive struct {
	dir     string
	options []string
}

// mirror is the host of the Debian archive, LAB_MIRROR if that is set.
func mirror() string {
	if m := os.Getenv("LAB_MIRROR"); m != "" {
		return strings.TrimRight(m, "/")
	}
	return "http://deb.debian.org"
}

// sources are the lines of sources.list: updates and security updates too, since
// kernel 6.12 for this release is in the latter.
func sources() string {
	const keyring = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] "
	m := mirror()
	return "deb " + keyring + m + "/debian " + suite + " main\n" +
		"deb " + keyring + m + "/debian " + suite + "-updates main\n" +
		"deb " + keyring + m + "/debian-security " + suite + "-security main\n"
}

// openArchive prepares apt in dir.
func openArchive(dir string) (*archive, error) {
	for _, sub := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	list, status := filepath.Join(dir, "sources.list"), filepath.Join(dir, "status")
	if err := os.WriteFile(list, []byte(sources()), 0o644); err != nil {
		return nil, err
	}
	if err := os.WriteFile(status, nil, 0o644); err != nil {
		return nil, err
	}
	a := &archive{dir: dir}
	for _, o := range []string{
		"Dir::State=" + dir, "Dir::State::status=" + status, "Dir::State::lists=" + dir + "/lists",
		"Dir::Cache=" + dir + "/cache", "Dir::Etc::sourcelist=" + list, "Dir::Etc::sourceparts=/dev/null",
		"Dir::Etc::preferences=/dev/null", "Dir::Etc::preferencesparts=/dev/null",
		"APT::Architecture=amd64", "APT::Architectures=amd64", "APT::Sandbox::User=",
		"APT::Update::Post-Invoke=", "APT::Update::Post-Invoke-Success=", "Acquire::Languages=none", "Acquire::Retries=3",
	} {
		a.options = append(a.options, "-o", o)
	}
	return a, nil
}

func (a *archive) get(ctx context.Context, args ...string) ([]byte, error) {
	out, err := command(ctx, a.dir, "apt-get", slices.Concat(a.options, []string{"-qq"}, args)...)
	if err != nil {
		err = fmt.Errorf("asking %s for Debian packages (LAB_MIRROR is another place; package debian-archive-keyring has the keys): %w", mirror(), err)
	}
	return out, err
}

// resolve returns the files of packages and of what they depend on, sorted.
func (a *archive) resolve(ctx context.Context, packages []string) ([]string, error) {
	out, err := a.get(ctx, slices.Concat([]string{"install", "--print-uris", "--no-install-recommends"}, packages)...)
	if err != nil {
		return nil, err
	}
	return parseURIs(string(out)), nil
}

// parseURIs reads lines such as 'http://host/pool/x_1_all.deb' x_1_all.deb 42 SHA256:…
func parseURIs(text string) []string {
	var files []string
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) >= 3 && strings.HasPrefix(fields[0], "'") && strings.HasSuffix(fields[1], ".deb") {
			files = append(files, fields[1])
		}
	}
	slices.Sort(files)
	return files
}

// nameVersion returns what apt-get download takes for a file of resolve.
func nameVersion(file string) string {
	parts := strings.Split(strings.TrimSuffix(path.Base(file), ".deb"), "_")
	if len(parts) != 3 {
		return file
	}
	version := strings.ReplaceAll(parts[1], "%3a", ":")
	return parts[0] + "=" + version
}

// extract downloads the files and unpacks them in dir.
func (a *archive) extract(ctx context.Context, files []string, dir string) error {
	debs, err := os.MkdirTemp(a.dir, "debs-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(debs)
	args := slices.Concat(a.options, []string{"-qq", "download"})
	for _, f := range files {
		args = append(args, nameVersion(f))
	}
	if _, err := command(ctx, debs, "apt-get", args...); err != nil {
		return err
	}
	found, err := filepath.Glob(filepath.Join(debs, "*.deb"))
	if err != nil {
		return err
	}
	if len(found) != len(files) {
		return fmt.Errorf("apt-get downloaded %d of %d packages", len(found), len(files))
	}
	for _, deb := range found {
		if _, err := command(ctx, debs, "dpkg-deb", "-x", deb, dir); err != nil {
			return err
		}
	}
	return nil
}

// record is the file with the package files of a thing.
func (c *Cache) record(name string, packages []string) string {
	return filepath.Join(c.Dir, "apt", name+"-"+key(slices.Concat([]string{sources()}, packages)...)+".packages")
}

// knows reports whether the versions of packages were asked for before.
func (c *Cache) knows(name string, packages []string) bool {
	_, err := os.Stat(c.record(name, packages))
	return err == nil
}

// resolved returns the package files of a thing in the cache: those of the last
// time, or those of now if Update is set or there was no last time.
func (c *Cache) resolved(ctx context.Context, name string, packages []string) ([]string, *archive, error) {
	unlock, err := c.lock("apt")
	if err != nil {
		return nil, nil, err
	}
	defer unlock()
	a, err := openArchive(filepath.Join(c.Dir, "apt"))
	if err != nil {
		return nil, nil, err
	}
	record := c.record(name, packages)
	if text, err := os.ReadFile(record); err == nil && !c.Update {
		return strings.Fields(string(text)), a, nil
	}
	c.say("asking %s for the versions of %s", mirror(), name)
	if _, err := a.get(ctx, "update", "-o", "APT::Update::Error-Mode=any"); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	files, err := a.resolve(ctx, packages)
	if err != nil {
		return nil, nil, err
	}
	return files, a, os.WriteFile(record, []byte(strings.Join(files, "\n")+"\n"), 0o644)
}
