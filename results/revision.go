// SPDX-License-Identifier: Apache-2.0

package results

import "runtime/debug"

// What a revision is known by.
const (
	// FromBuild is what the program itself says: it was built in a checkout.
	FromBuild = "build"
	// FromWorktree is git's answer in the working directory: the program says nothing, and
	// may be of another revision.
	FromWorktree = "worktree"
)

// stamp is the revision that the linker put here (-X), as make build does for programs that
// Go itself puts none into.
var stamp string

// Revision returns the revision that the program was built from, else that of the working
// directory, with "-dirty" when files in git had changed; and which of the two it is,
// [FromBuild] or [FromWorktree]. Both are "" when neither is known.
func Revision() (commit, source string) {
	if info, ok := debug.ReadBuildInfo(); ok {
		if commit := built(info.Settings); commit != "" {
			return commit, FromBuild
		}
	}
	if stamp != "" {
		return stamp, FromBuild
	}
	if commit := output("git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"); commit != "" {
		return commit, FromWorktree
	}
	return "", ""
}

// built returns the revision in a program's build settings, or "".
func built(settings []debug.BuildSetting) string {
	var revision, suffix string
	for _, s := range settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			suffix = "-dirty"
		}
	}
	if revision == "" {
		return ""
	}
	return revision + suffix
}

// Revision returns the commit in words for readers: it says when it is only that of the
// working directory. It is "" when no commit is known.
func (e Environment) Revision() string {
	if e.Commit != "" && e.RevisionSource == FromWorktree {
		return e.Commit + " (the working directory's: the program does not say its own)"
	}
	return e.Commit
}
