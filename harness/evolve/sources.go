// SPDX-License-Identifier: Apache-2.0

package evolve

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// makeHeaders upgrades the kernel headers of Debian from the oldest to the newest
// version that the archive has of its newest series: a package of some 10 MB.
func makeHeaders(ctx context.Context, w *work) (string, error) {
	list, err := run(ctx, w.dir, "apt-cache", "search", "--names-only", `^linux-headers-6\.[0-9.]+.*-common$`)
	if err != nil {
		return "", err
	}
	var names []string
	for line := range strings.Lines(list) {
		if name, _, _ := strings.Cut(line, " "); !strings.Contains(name, "-rt-") {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, compareVersions)
	if len(names) > 1 { // of one series
		series := strings.Join(strings.FieldsFunc(names[len(names)-1], notDigits)[:2], ".")
		names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, "linux-headers-"+series+".") })
	}
	if len(names) < 2 {
		return "", fmt.Errorf("%w: the archive has not two versions of linux-headers-6.*-common (apt-get update?)", ErrMissing)
	}
	from, to := names[0], names[len(names)-1]
	var trees []string
	for _, name := range []string{from, to} {
		dir := filepath.Join(w.dir, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return "", err
		}
		if _, err := run(ctx, dir, "apt-get", "download", "-q", name); err != nil {
			return "", err
		}
		debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
		if err != nil || len(debs) != 1 {
			return "", fmt.Errorf("%w: apt-get left %q", ErrMissing, debs)
		}
		if _, err := run(ctx, dir, "dpkg-deb", "-x", debs[0], "tree"); err != nil {
			return "", err
		}
		trees = append(trees, filepath.Join(dir, "tree/usr/src", name))
	}
	return from + " to " + to, w.upgrade(ctx, trees[0], trees[1])
}

func notDigits(r rune) bool { return r < '0' || r > '9' }

// compareVersions orders names by the numbers in them.
func compareVersions(a, b string) int {
	x, y := strings.FieldsFunc(a, notDigits), strings.FieldsFunc(b, notDigits)
	return slices.CompareFunc(x, y, func(p, q string) int {
		if len(p) != len(q) {
			return len(p) - len(q)
		}
		return strings.Compare(p, q)
	})
}

// The module that makeModule upgrades.
const (
	modulePath = "k8s.io/api"
	moduleFrom = "v0.33.0"
	moduleTo   = "v0.34.0"
)

// makeModule upgrades a Go module of 1,400 files.
func makeModule(ctx context.Context, w *work) (string, error) {
	if err := os.WriteFile(filepath.Join(w.dir, "go.mod"), []byte("module evolve\n"), 0o644); err != nil {
		return "", err
	}
	var trees []string
	for _, version := range []string{moduleFrom, moduleTo} {
		out, err := run(ctx, w.dir, "go", "mod", "download", "-json", modulePath+"@"+version)
		if err != nil {
			return "", err
		}
		var m struct{ Dir string }
		if err := json.Unmarshal([]byte(out), &m); err != nil {
			return "", fmt.Errorf("what go says of %s: %w", modulePath, err)
		}
		trees = append(trees, m.Dir)
	}
	return modulePath + " " + moduleFrom + " to " + moduleTo, w.upgrade(ctx, trees[0], trees[1])
}

// makeDatabase updates a SQLite database of Debian's packages, in transactions.
func makeDatabase(ctx context.Context, w *work) (string, error) {
	dump, err := run(ctx, w.dir, "apt-cache", "dumpavail")
	if err != nil {
		return "", err
	}
	rows := packages(dump)
	if len(rows) < 1000 {
		return "", fmt.Errorf("%w: apt-cache knows %d packages (apt-get update?)", ErrMissing, len(rows))
	}
	load, update := filepath.Join(w.dir, "load.sql"), filepath.Join(w.dir, "update.sql")
	if err := os.WriteFile(load, []byte(loadScript(rows)), 0o600); err != nil {
		return "", err
	}
	if err := os.WriteFile(update, []byte(updateScript(rows)), 0o600); err != nil {
		return "", err
	}
	if _, err := run(ctx, w.dir, "sqlite3", "--version"); err != nil {
		return "", err
	}
	if err := w.format(ctx, w.new, 128<<20, ""); err != nil {
		return "", err
	}
	if !w.canMount(ctx, w.new) {
		return "", fmt.Errorf("%w: updating a database in place needs root, to mount a file system", ErrMissing)
	}
	w.method = "the kernel's ext4"
	const sql = `sqlite3 packages.db <"$1"`
	if err := w.mounted(ctx, w.new, sql, load); err != nil {
		return "", err
	}
	if err := w.snapshot(ctx); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d packages, 100 transactions of 40 updates", len(rows)), w.mounted(ctx, w.new, sql, update)
}

// pkg is a row: name, version, and the rest.
type pkg [3]string

func packages(dump string) (rows []pkg) {
	const most = 30000
	var p pkg
	lines := bufio.NewScanner(strings.NewReader(dump))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() && len(rows) < most {
		key, value, _ := strings.Cut(lines.Text(), ": ")
		switch key {
		case "Package":
			p = pkg{value}
		case "Version":
			p[1] = value
		case "":
			if p[0] != "" && p[1] != "" {
				rows = append(rows, p)
			}
			p = pkg{}
		default:
			p[2] += lines.Text() + "\n"
		}
	}
	return rows
}

func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

func loadScript(rows []pkg) string {
	var b strings.Builder
	b.WriteString("CREATE TABLE package (id INTEGER PRIMARY KEY, name TEXT, version TEXT, about TEXT);\nCREATE INDEX byname ON package (name);\nBEGIN;\n")
	for i, r := range rows {
		fmt.Fprintf(&b, "INSERT INTO package VALUES (%d, %s, %s, %s);\n", i, quoted(r[0]), quoted(r[1]), quoted(r[2]))
	}
	b.WriteString("COMMIT;\n")
	return b.String()
}

// updateScript upgrades packages all over the database, drops some and brings some in.
func updateScript(rows []pkg) string {
	var b strings.Builder
	n := 0
	for t := range 100 {
		b.WriteString("BEGIN;\n")
		for range 40 {
			n = (n + 7919) % len(rows)
			fmt.Fprintf(&b, "UPDATE package SET version = %s WHERE name = %s;\n", quoted(rows[n][1]+"+deb12u1"), quoted(rows[n][0]))
		}
		n = (n + 7919) % len(rows)
		fmt.Fprintf(&b, "DELETE FROM package WHERE id = %d;\n", n)
		fmt.Fprintf(&b, "INSERT INTO package VALUES (%d, %s, %s, %s);\n", len(rows)+t, quoted(rows[n][0]+"-next"), quoted(rows[n][1]), quoted(rows[n][2]))
		b.WriteString("COMMIT;\n")
	}
	return b.String()
}
