// SPDX-License-Identifier: Apache-2.0

package evolve

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestGetGenerated(t *testing.T) {
	cache := t.TempDir()
	p, err := Get(t.Context(), cache, "generated")
	require.NoError(t, err)
	require.EqualValues(t, generatedSize, p.About.Size)
	before, err := os.ReadFile(p.New)
	require.NoError(t, err)
	old, err := os.ReadFile(p.Old)
	require.NoError(t, err)
	require.NotEqual(t, old, before)

	require.NoError(t, os.WriteFile(p.New, []byte("damaged"), 0o600))
	again, err := Get(t.Context(), cache, "generated")
	require.NoError(t, err)
	after, err := os.ReadFile(again.New)
	require.NoError(t, err)
	require.Equal(t, before, after, "it is made again, and the same")

	_, err = Get(t.Context(), cache, "else")
	require.ErrorContains(t, err, `no data set "else"`)
	left, err := os.ReadDir(cache)
	require.NoError(t, err)
	require.Len(t, left, 1, "nothing stays of the making")
}

func write(t *testing.T, root string, files map[string]string) {
	for name, text := range files {
		path := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
}

func TestCompare(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	write(t, from, map[string]string{"a": "1", "d/b": "2", "d/c": "3", "gone": ""})
	write(t, to, map[string]string{"a": "1", "d/b": "x", "d/c": "33", "new/e/f": "4"})
	c, err := compare(from, to)
	require.NoError(t, err)
	require.Equal(t, changes{written: []string{"d/b", "d/c", "new/e/f"}, gone: []string{"gone"}}, c)
}

// TestDebugfs upgrades a tree as an ordinary user, and reads it back.
func TestDebugfs(t *testing.T) {
	dir, from, to := t.TempDir(), t.TempDir(), t.TempDir()
	for _, program := range []string{"debugfs", "mke2fs", "e2fsck"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(program + " is not installed")
		}
	}
	write(t, from, map[string]string{"a": "1", "d/b": "2", "gone": "5"})
	write(t, to, map[string]string{"a": "1", "d/b": "x", "new/e/f": "4"})
	w := &work{dir: dir, old: filepath.Join(dir, "old"), new: filepath.Join(dir, "new")}
	c, err := compare(from, to)
	require.NoError(t, err)
	require.NoError(t, w.upgradeUnmounted(t.Context(), from, to, 16<<20, c))
	for name, want := range map[string]string{"/a": "1", "/d/b": "x", "/new/e/f": "4", "/gone": ""} {
		got, err := run(t.Context(), dir, "debugfs", "-R", "cat "+name, w.new)
		require.NoError(t, err)
		require.Equal(t, want, got, name)
	}
	_, err = run(t.Context(), dir, "e2fsck", "-fn", w.new)
	require.NoError(t, err)
}

func TestScripts(t *testing.T) {
	rows := packages("Package: a\nVersion: 1\nSection: x\n\nPackage: it's\nVersion: 2\n\n")
	require.Equal(t, []pkg{{"a", "1", "Section: x\n"}, {"it's", "2", ""}}, rows)
	require.Contains(t, loadScript(rows), "VALUES (1, 'it''s', '2', '')")
	require.Contains(t, updateScript(rows), "version = '2+deb12u1' WHERE name = 'it''s'")
	require.Negative(t, compareVersions("linux-headers-6.12.9+deb12-common", "linux-headers-6.12.107+deb12-common"))
}
