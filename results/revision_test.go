// SPDX-License-Identifier: Apache-2.0

package results

import (
	"os"
	"os/exec"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBuilt(t *testing.T) {
	setting := func(key, value string) debug.BuildSetting { return debug.BuildSetting{Key: key, Value: value} }
	require.Equal(t, "abc", built([]debug.BuildSetting{setting("vcs", "git"), setting("vcs.revision", "abc"), setting("vcs.modified", "false")}))
	require.Equal(t, "abc-dirty", built([]debug.BuildSetting{setting("vcs.revision", "abc"), setting("vcs.modified", "true")}))
	require.Empty(t, built([]debug.BuildSetting{setting("vcs.modified", "true"), setting("-race", "true")}))
	require.Empty(t, built(nil))
}

// TestRevisionOfWorktree asks in a repository of its own: a test's program says no revision.
func TestRevisionOfWorktree(t *testing.T) {
	t.Chdir(t.TempDir())
	commit, source := Revision()
	require.Empty(t, commit)
	require.Empty(t, source)

	git := func(args ...string) {
		t.Helper()
		out, err := exec.Command("git", append([]string{"-c", "user.name=t", "-c", "user.email=t@example.org"}, args...)...).CombinedOutput()
		require.NoError(t, err, string(out))
	}
	git("init", "-q")
	require.NoError(t, os.WriteFile("file", []byte("one"), 0o644))
	git("add", "file")
	git("commit", "-q", "-m", "one")
	commit, source = Revision()
	require.Regexp(t, "^[0-9a-f]{40}$", commit)
	require.Equal(t, FromWorktree, source)

	require.NoError(t, os.WriteFile("file", []byte("two"), 0o644))
	e := CollectEnvironment(".")
	require.Equal(t, commit+"-dirty", e.Commit)
	require.Equal(t, FromWorktree, e.RevisionSource)
	require.Contains(t, e.Revision(), commit+"-dirty (the working directory's")

	stamp = "abc"
	defer func() { stamp = "" }()
	commit, source = Revision()
	require.Equal(t, "abc", commit)
	require.Equal(t, FromBuild, source, "the program says it")
}

// TestRevisionInWords reads runs of before the source was recorded, too.
func TestRevisionInWords(t *testing.T) {
	require.Equal(t, "abc", Environment{Commit: "abc"}.Revision())
	require.Equal(t, "abc", Environment{Commit: "abc", RevisionSource: FromBuild}.Revision())
	require.Empty(t, Environment{}.Revision())
}
