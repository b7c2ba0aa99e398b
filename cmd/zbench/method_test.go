// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestMain lets the test binary be zbench too, under that name.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "zbench" {
		main() // which ends the process
	}
	os.Exit(m.Run())
}

// notHere are the beginnings of comments that say why a command is not for a test.
var notHere = regexp.MustCompile(`^(as root|minutes|compiles|of a checkout)\b`)

// programs are those that pages name. Other indented lines are examples of text.
var programs = regexp.MustCompile(`^(zbench|ddsnap|make|go|git|ls|cat) `)

// command is a command of a page.
type command struct{ line, skip string }

// commandsOf returns the commands of a page: its lines that are indented by four columns
// or more, or fenced, and begin with a program that pages name. In a list, which is
// indented itself, that is eight.
func commandsOf(page string) []command {
	var all []command
	fenced := false
	for line := range strings.Lines(page) {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			fenced = !fenced
			continue
		}
		if !fenced && !strings.HasPrefix(line, "    ") {
			continue
		}
		text, comment, _ := strings.Cut(strings.TrimSpace(line), " #")
		c := command{line: strings.TrimSpace(text)}
		if comment = strings.TrimSpace(comment); notHere.MatchString(comment) {
			c.skip = comment
		}
		if programs.MatchString(c.line + " ") {
			all = append(all, c)
		}
	}
	return all
}

func TestCommandsOfAPage(t *testing.T) {
	page := "Text.\n\n    zbench list\n    zbench run # as root: all\n1. A list:\n\n        make x   # minutes\n   text\n\n```\nls # a comment\n```\n\n    <!-- = goal x -->1<!-- --> of a text\nmore\n"
	require.Equal(t, []command{{"zbench list", ""}, {"zbench run", "as root: all"}, {"make x", "minutes"}, {"ls", ""}}, commandsOf(page))
}

// TestMethodCommands carries out the commands of docs/method.md as a newcomer would, in
// a copy of the tree that has no results yet.
func TestMethodCommands(t *testing.T) {
	page, err := os.ReadFile("../../docs/method.md")
	require.NoError(t, err)
	all := commandsOf(string(page))
	require.Greater(t, len(all), 10)
	dir, path := newcomer(t)
	done := 0
	for _, c := range all {
		t.Run(c.line, func(t *testing.T) {
			if c.skip != "" {
				t.Skip(c.skip)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, "bash", "-c", c.line)
			cmd.Dir, cmd.Env = dir, append(os.Environ(), "PATH="+path+":"+os.Getenv("PATH"))
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", out)
			require.NotEmpty(t, out, "it shows something")
			done++
		})
	}
	require.GreaterOrEqual(t, done, 8, "most commands are carried out")
}

// records are the results that are in git: no runs.
type records struct{ fs.FS }

func (r records) ReadDir(name string) ([]fs.DirEntry, error) {
	all, err := fs.ReadDir(r.FS, name)
	return slices.DeleteFunc(all, func(e fs.DirEntry) bool { return name == "." && e.Name() == "runs" }), err
}

// newcomer returns a directory that has all of the repository but runs, and one with
// zbench to be in front of PATH.
func newcomer(t *testing.T) (dir, path string) {
	t.Helper()
	dir, path = t.TempDir(), t.TempDir()
	self, err := os.Executable()
	require.NoError(t, err)
	require.NoError(t, os.Symlink(self, filepath.Join(path, "zbench")))
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	entries, err := os.ReadDir(root)
	require.NoError(t, err)
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && e.Name() != "results" && e.Name() != "bin" {
			require.NoError(t, os.Symlink(filepath.Join(root, e.Name()), filepath.Join(dir, e.Name())))
		}
	}
	// What commands write is in results: a copy, without runs.
	require.NoError(t, os.CopyFS(filepath.Join(dir, "results"), records{os.DirFS(filepath.Join(root, "results"))}))
	return dir, path
}
